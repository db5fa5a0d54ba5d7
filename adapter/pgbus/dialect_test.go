//go:build unix

package pgbus

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/official"
)

// A wireMessage is what a Node.js node or emitter published; see ../../internal/official/testdata/README.md.
type wireMessage struct {
	ID      string          `json:"id"`
	Channel string          `json:"channel"` // empty for a row of the table
	Payload []byte          `json:"payload"`
	Decoded json.RawMessage `json:"decoded"`
}

func wireMessages(t testing.TB) (all []wireMessage) {
	t.Helper()
	f, err := os.Open("../../internal/official/testdata/wire.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var m wireMessage
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(m.ID, "postgres") {
			continue
		}
		if m.Channel == "" {
			var d struct{ NSP string }
			json.Unmarshal(m.Decoded, &d)
			m.Channel = "socket.io#" + orText(d.NSP, "/")
		}
		all = append(all, m)
	}
	if len(all) < 60 {
		t.Fatalf("got %d recorded messages, want 60 and more", len(all))
	}
	return all
}

// TestWire reads what was recorded, and checks that we publish it on the same channel, and in
// the table what was there. That the bytes are the same is a test of package official.
func TestWire(t *testing.T) {
	d := NewDialect(nil)
	for _, w := range wireMessages(t) {
		m, err := d.Decode("me", w.Channel, w.Payload)
		if err != nil {
			t.Errorf("%s: %v", w.ID, err)
			continue
		}
		h, _, _ := official.Options{}.Decode("", "", w.Payload)
		if h.Kind.IsPresence() || h.Attachment != "" {
			if m != nil {
				t.Errorf("%s: got %+v, want no message", w.ID, m)
			}
			continue
		}
		if m == nil {
			t.Errorf("%s: got no message", w.ID)
			continue
		}
		if want := strings.TrimPrefix(w.Channel, "socket.io#"); m.Namespace != want || d.Lane(m) != want {
			t.Errorf("%s: got namespace %q and lane %q, want %q", w.ID, m.Namespace, d.Lane(m), want)
		}
		topic, data, err := d.Encode(m)
		if err != nil || topic != w.Channel {
			t.Errorf("%s: got channel %q and error %v, want %q", w.ID, topic, err, w.Channel)
		}
		if got, want := fits(data), fits(w.Payload); got != want && h.Kind != official.FetchResponse {
			t.Errorf("%s: got a notification %v, want %v", w.ID, got, want)
		}
		if own, err := d.Decode(m.From, w.Channel, w.Payload); own != nil || err != nil {
			t.Errorf("%s: its sender got %v and error %v, want neither", w.ID, own, err)
		}
		if other, err := d.Decode("me", w.Channel+"x", w.Payload); other != nil && bytes.Contains(w.Payload, []byte("nsp")) && !strings.HasPrefix(w.ID, "postgres-emitter") || err != nil {
			t.Errorf("%s: in another namespace got %v and error %v, want neither", w.ID, other, err)
		}
	}
}

// hear has the dialect of a node read what another one says.
func hear(t *testing.T, d *Dialect, kind official.Kind, uid, namespace string) {
	t.Helper()
	m, err := d.Decode("me", "socket.io#"+namespace, official.Header{Kind: kind, UID: uid, Namespace: namespace}.AppendJSON(nil))
	if m != nil || err != nil {
		t.Fatalf("got %v and error %v, want neither", m, err)
	}
}

func others(d *Dialect, namespace string) int {
	n, _ := d.crowd.in(namespace, "")
	return n
}

// TestCrowd counts who is there.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDialect(nil)
		hear(t, d, official.Heartbeat, "early", "/") // we are not there yet
		d.crowd.enter("/", "me")
		hear(t, d, official.Heartbeat, "one", "/")
		hear(t, d, official.Heartbeat, "one", "/")
		hear(t, d, official.Heartbeat, "me", "/")
		hear(t, d, official.Heartbeat, cluster.Emitter, "/")
		hear(t, d, official.Heartbeat, "elsewhere", "/chat")
		time.Sleep(6 * time.Second)
		hear(t, d, official.Broadcast-1, "two", "/")
		if got := others(d, "/"); got != 2 {
			t.Errorf("got %d others, want 2", got)
		}
		time.Sleep(6 * time.Second)
		if got := others(d, "/"); got != 1 {
			t.Errorf("12 s after the last word of one of two, got %d others, want 1", got)
		}
		hear(t, d, official.AdapterClose, "two", "/")
		if got := others(d, "/"); got != 0 {
			t.Errorf("after a goodbye, got %d others, want none", got)
		}
		if got := others(d, "/chat"); got != 0 {
			t.Errorf("in a namespace that we do not have, got %d others, want none", got)
		}
	})
}

// TestCrowdOfOurs: an Atoll node is there as long as it announces itself, and nobody has to say in
// each namespace that it is there while only Atoll nodes are.
func TestCrowdOfOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDialect(nil)
		d.crowd.enter("/", "me")
		announce := func() {
			m := &cluster.Message{Kind: cluster.Heartbeat, From: "ours", Life: 1, Member: &cluster.Member{ID: "ours", Name: "ours", Started: time.Now()}}
			topic, data, err := d.Encode(m)
			if err == nil {
				_, err = d.Decode("me", topic, data)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		announce()
		hear(t, d, official.InitialHeartbeat, "ours", "/")
		spaces, _ := d.crowd.due(time.Now())
		if spaces["/"] != "me" {
			t.Errorf("got an answer in %v, want one in /", spaces)
		}
		for range 12 {
			time.Sleep(5 * time.Second)
			announce()
			if spaces, next := d.crowd.due(time.Now()); len(spaces) > 0 || next < beat {
				t.Errorf("got words in %v and a next look in %v, want none among Atoll nodes", spaces, next)
			}
		}
		if got := others(d, "/"); got != 1 {
			t.Errorf("got %d others, want 1", got)
		}
		hear(t, d, official.Heartbeat, "node.js", "/")
		time.Sleep(5 * time.Second)
		if spaces, next := d.crowd.due(time.Now()); spaces["/"] != "me" || next != beat {
			t.Errorf("got words in %v and a next look in %v, want one in / and %v", spaces, next, beat)
		}
		time.Sleep(fadeOurs)
		if got := others(d, "/"); got != 0 {
			t.Errorf("after a long silence, got %d others, want none", got)
		}
	})
}

// TestCrowdForgets has Atoll nodes die that are in none of our namespaces, or in several.
func TestCrowdForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDialect(nil)
		d.crowd.enter("/", "me")
		d.crowd.enter("/chat", "me")
		for i := range maxCrowd + 1 {
			d.crowd.heardOurs(&cluster.Message{Kind: cluster.Heartbeat, From: fmt.Sprint("gone", i)})
		}
		hear(t, d, official.Heartbeat, "gone0", "/")
		hear(t, d, official.Heartbeat, "gone0", "/chat")
		time.Sleep(fadeOurs + time.Second)
		if a, b := others(d, "/"), others(d, "/chat"); a != 0 || b != 0 {
			t.Errorf("after a long silence, got %d and %d others, want none", a, b)
		}
		d.crowd.due(time.Now())
		if got := len(d.crowd.ours); got != 0 {
			t.Errorf("got %d Atoll nodes that are remembered, want none", got)
		}
	})
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 61)
	for _, x := range [][2]string{{"short", "short"}, {long + "ab", long + "ab"}, {long + "abc", long + "ab"}, {long + "aü", long + "a"}, {long + "üü", long + "ü"}} {
		if got := clip(x[0]); got != x[1] {
			t.Errorf("clip(%q): got %q, want %q", x[0], got, x[1])
		}
	}
	if got, want := listen(`x"; DROP TABLE y; --`), `LISTEN "x""; DROP TABLE y; --"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := quoted(`app.My"Table`), `"app"."My""Table"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if hashed("p", "a", "bc") == hashed("p", "ab", "c") {
		t.Error("two lists of parts have one hash")
	}
}

func FuzzDecode(f *testing.F) {
	for _, w := range wireMessages(f) {
		f.Add(w.Channel, w.Payload)
	}
	f.Add("socket.io-atoll#", []byte{0xA7})
	d := NewDialect(nil)
	d.crowd.enter("/", "me")
	f.Fuzz(func(t *testing.T, topic string, data []byte) {
		if m, err := d.Decode("me", topic, data); m != nil && err != nil {
			t.Error("got a message and an error")
		}
		headOf(data)
		stub(data)
	})
}
