package redisbus_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/cluster"
)

// A wireMessage is what an official package published; see testdata/README.md.
type wireMessage struct {
	ID      string          `json:"id"`
	Channel string          `json:"channel"`
	Payload []byte          `json:"payload"`
	Decoded json.RawMessage `json:"decoded"`
}

func wireMessages(t testing.TB) []wireMessage {
	t.Helper()
	f, err := os.Open("testdata/wire.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []wireMessage
	for s := bufio.NewScanner(f); s.Scan(); {
		var m wireMessage
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func (w *wireMessage) options() *redisbus.Options {
	prefix, _, _ := strings.Cut(w.Channel, "#")
	prefix, _, _ = strings.Cut(prefix, "-")
	_, private := w.asker()
	return &redisbus.Options{Prefix: prefix, SharedResponses: !private}
}

// asker returns the uid in the channel of an answer to one node.
func (w *wireMessage) asker() (string, bool) {
	parts := strings.Split(w.Channel, "#")
	return parts[max(0, len(parts)-2)], strings.Contains(parts[0], "-response") && len(parts) == 4
}

// differs says which messages we do not write as they were read, and why.
var differs = map[string]string{
	"05-emit-number-room":           "the room 7 is the text 7 here, and written as both",
	"04-emit-number-room":           "the room 7 is the text 7 here, and written as both",
	"23-emit-date":                  "a Date becomes text, as it does for clients",
	"24-emit-date-binary":           "a Date becomes text, as it does for clients",
	"10-emit-special-date":          "a Date becomes text, as it does for clients",
	"35-fetch-sockets-room.2":       "the room 7 is the text 7 here",
	"51-remote-socket-disconnect.2": "the room 7 is the text 7 here",
	"41-remote-socket-emit.3":       "expectSingleResponse says nothing to the receiver",
	"42-remote-socket-emit-ack.3":   "expectSingleResponse says nothing to the receiver",
	"08-emit-compress":              "compress: true is the default and not written",
	"33-broadcast-ack-none.2":       "no clients: an answer that fits every question",
	"48-all-rooms.2":                "the room 7 is the text 7 here",
	"07-all-rooms.2":                "the room 7 is the text 7 here",
	"04-fetch-sockets-room.2":       "the room 7 is the text 7 here",
}

func TestWire(t *testing.T) {
	for _, w := range wireMessages(t) {
		t.Run(w.ID, func(t *testing.T) {
			d := redisbus.NewDialect(w.options())
			node, private := w.asker()
			if !private {
				node = "me"
			}
			m, err := d.Decode(node, w.Channel, w.Payload)
			if err != nil || m == nil {
				t.Fatalf("Decode: got %v and error %v, want a message", m, err)
			}
			if diff := cmp.Diff(expected(t, &w), summary(t, m), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("decoded (- want, + got):\n%s", diff)
			}

			if strings.HasPrefix(w.ID, "redis-emitter/") {
				m.From = cluster.Emitter
			}
			topic, data, err := d.Encode(m)
			if err != nil {
				t.Fatalf("Encode: %v", err)
			}
			if topic != w.Channel {
				t.Errorf("got channel %q, want %q", topic, w.Channel)
			}
			if why, ok := differs[path.Base(w.ID)]; ok {
				if bytes.Equal(data, w.Payload) {
					t.Errorf("got the same bytes, want others: %s", why)
				}
			} else if !bytes.Equal(data, w.Payload) {
				t.Errorf("encoded: got\n%q, want\n%q", data, w.Payload)
			}
		})
	}
}

// TestWireOwn checks that a node does not read its own messages.
func TestWireOwn(t *testing.T) {
	for _, w := range wireMessages(t) {
		d := redisbus.NewDialect(w.options())
		m, err := d.Decode("me", w.Channel, w.Payload)
		if err != nil || m.Kind == cluster.Reply || m.From == "" {
			continue
		}
		if m, err = d.Decode(m.From, w.Channel, w.Payload); m != nil || err != nil {
			t.Errorf("%s: got %v and error %v, want neither", w.ID, m, err)
		}
	}
}

// A fact is what a message says, in a form to be compared.
type fact struct {
	What          string
	From, Request string
	Namespace     string
	Rooms, Except []string
	Names         []string
	Data          any
	Volatile, Raw bool
	Close         bool
	Millis        int64
	Clients       int
	Sockets       []string
}

func summary(t *testing.T, m *cluster.Message) fact {
	f := fact{From: m.From, Request: m.Request, Namespace: m.Namespace}
	if m.Kind == cluster.Reply {
		a := m.Answer
		f.What, f.Clients, f.Names = "answer", a.Clients, a.Rooms
		if a.Data != nil {
			f.Data = plain(t, a.Data, a.Attachments)
		}
		for _, s := range a.Sockets {
			f.Sockets = append(f.Sockets, fmt.Sprint(s.ID, s.Rooms, plain(t, s.Data, nil)))
		}
		return f
	}
	op := m.Op
	f.What, f.Rooms, f.Except, f.Names, f.Close = op.Kind.String(), op.Rooms, op.Except, op.Names, op.Close
	f.Volatile, f.Raw = op.Flags&cluster.Volatile != 0, op.Flags&cluster.NoCompress != 0
	f.Millis = op.Timeout.Milliseconds()
	if op.Data != nil {
		f.Data = plain(t, op.Data, op.Attachments)
	}
	return f
}

// plain puts attachments where their placeholders are.
func plain(t *testing.T, data []byte, attachments [][]byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("got no JSON %q: %v", data, err)
	}
	return walk(v, func(o map[string]any) (any, bool) {
		if o["_placeholder"] != true {
			return nil, false
		}
		return binary(attachments[int(o["num"].(float64))]), true
	})
}

func binary(b []byte) string { return "binary " + base64.StdEncoding.EncodeToString(b) }

func walk(v any, f func(map[string]any) (any, bool)) any {
	switch x := v.(type) {
	case []any:
		for i := range x {
			x[i] = walk(x[i], f)
		}
	case map[string]any:
		if y, ok := f(x); ok {
			return y
		}
		for k := range x {
			x[k] = walk(x[k], f)
		}
	}
	return v
}

// expected makes a fact of what the official codec read.
func expected(t *testing.T, w *wireMessage) fact {
	t.Helper()
	var v any
	if err := json.Unmarshal(w.Decoded, &v); err != nil {
		t.Fatal(err)
	}
	v = walk(v, func(o map[string]any) (any, bool) {
		if s, ok := o["$binary_base64"].(string); ok {
			return "binary " + s, true
		}
		if s, ok := o["$date"].(string); ok {
			return s, true
		}
		if s, ok := o["$number"].(string); ok {
			n, err := strconv.ParseFloat(s, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n, true
		}
		if o["type"] == "Buffer" {
			var b []byte
			for _, c := range o["data"].([]any) {
				b = append(b, byte(c.(float64)))
			}
			return binary(b), true
		}
		return nil, false
	})
	parts := strings.Split(w.Channel, "#")
	f := fact{Namespace: parts[1]}
	options := func(v any) {
		o, ok := v.(map[string]any)
		if !ok {
			return
		}
		f.Rooms, f.Except = texts(o["rooms"]), texts(o["except"])
		if flags, ok := o["flags"].(map[string]any); ok {
			f.Volatile = flags["volatile"] == true
			f.Raw = flags["compress"] == false
			if ms, ok := flags["timeout"].(float64); ok {
				f.Millis = int64(ms)
			}
		}
	}
	if a, ok := v.([]any); ok { // a broadcast
		f.What, f.From = "emit", a[0].(string)
		f.Data = a[1].(map[string]any)["data"]
		options(a[2])
		return f
	}
	o := v.(map[string]any)
	f.From, _ = o["uid"].(string)
	f.Request, _ = o["requestId"].(string)
	kind := -1
	if n, ok := o["type"].(float64); ok {
		kind = int(n)
	}
	options(o["opts"])
	f.Names = texts(o["rooms"])
	f.Close = o["close"] == true
	if strings.Contains(parts[0], "-response") {
		f.What = "answer"
		switch kind {
		case 6:
			f.Data = []any{o["data"]}
		case 8:
			f.Clients = int(o["clientCount"].(float64))
		case 9:
			f.Data = []any{o["packet"]}
		}
		if sockets, ok := o["sockets"].([]any); ok {
			for _, s := range sockets {
				s := s.(map[string]any)
				f.Sockets = append(f.Sockets, fmt.Sprint(s["id"], texts(s["rooms"]), s["data"]))
			}
		}
		return f
	}
	kinds := []cluster.Kind{
		1: cluster.Rooms, 2: cluster.JoinRooms, 3: cluster.LeaveRooms, 4: cluster.Disconnect,
		5: cluster.Fetch, 6: cluster.ServerEmit, 7: cluster.EmitAck,
	}
	what := kinds[kind]
	if what == cluster.ServerEmit && f.Request != "" {
		what = cluster.ServerAsk
	}
	f.What = what.String()
	f.Data = o["data"]
	if p, ok := o["packet"].(map[string]any); ok {
		f.Data = p["data"]
	}
	return f
}

func texts(v any) []string {
	var s []string
	list, _ := v.([]any)
	for _, x := range list {
		s = append(s, fmt.Sprint(x))
	}
	return s
}
