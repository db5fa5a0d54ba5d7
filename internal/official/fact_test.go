package official_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/atollhq/atoll/cluster"
)

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
	request := m.Request
	if m.Kind == cluster.Ask {
		_, request, _ = strings.Cut(request, ":")
	}
	f := fact{From: m.From, Request: request, Namespace: m.Namespace}
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
		return "binary " + base64.StdEncoding.EncodeToString(attachments[int(o["num"].(float64))]), true
	})
}

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
		return nil, false
	})
	o := v.(map[string]any)
	f := fact{From: w.UID, Namespace: w.NSP}
	kind, data := w.Type, o
	if w.UID == "" {
		kind = int(o["type"].(float64))
		f.From, _ = o["uid"].(string)
		if f.Namespace, _ = o["nsp"].(string); f.Namespace == "" {
			f.Namespace = "/"
			if w.Channel != "" {
				f.Namespace = w.namespace()
			}
		}
		data, _ = o["data"].(map[string]any)
	}
	f.Request, _ = data["requestId"].(string)
	if opts, ok := data["opts"].(map[string]any); ok {
		f.Rooms, f.Except = texts(opts["rooms"]), texts(opts["except"])
		if flags, ok := opts["flags"].(map[string]any); ok {
			f.Volatile = flags["volatile"] == true
			f.Raw = flags["compress"] == false
			if ms, ok := flags["timeout"].(float64); ok {
				f.Millis = int64(ms)
			}
		}
	}
	f.Names, f.Close = texts(data["rooms"]), data["close"] == true
	switch kind {
	case 8:
		for _, s := range data["sockets"].([]any) {
			s := s.(map[string]any)
			f.Sockets = append(f.Sockets, fmt.Sprint(s["id"], texts(s["rooms"]), s["data"]))
		}
	case 10, 12:
		f.Data = []any{data["packet"]}
	case 11:
		f.Clients = int(data["clientCount"].(float64))
	}
	what := map[int]cluster.Kind{
		3: cluster.Emit, 4: cluster.JoinRooms, 5: cluster.LeaveRooms, 6: cluster.Disconnect,
		7: cluster.Fetch, 9: cluster.ServerEmit,
	}[kind]
	switch {
	case what == 0:
		f.What = "answer"
		return f
	case what == cluster.Emit:
		f.Data = data["packet"].(map[string]any)["data"]
		if f.Request != "" {
			what = cluster.EmitAck
		}
	case what == cluster.ServerEmit:
		f.Data = data["packet"]
		if f.Request != "" {
			what = cluster.ServerAsk
		}
	}
	f.What = what.String()
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
