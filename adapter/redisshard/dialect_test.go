package redisshard_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/atollhq/atoll/adapter/redisshard"
	"github.com/atollhq/atoll/cluster"
)

// A wireMessage is what a Node.js node published; see ../../internal/official/testdata/README.md.
type wireMessage struct {
	ID      string `json:"id"`
	Channel string `json:"channel"`
	Payload []byte `json:"payload"`
}

func wireMessages(t *testing.T) (all []wireMessage) {
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
		if strings.HasPrefix(m.ID, "redis-sharded") {
			all = append(all, m)
		}
	}
	if len(all) < 100 {
		t.Fatalf("got %d recorded messages, want 100 and more", len(all))
	}
	return all
}

// TestWire reads what was recorded, and checks that we publish it on the same channel. That
// the bytes are the same is a test of package official.
func TestWire(t *testing.T) {
	for _, w := range wireMessages(t) {
		prefix, _, _ := strings.Cut(w.Channel, "#")
		o := &redisshard.Options{Prefix: prefix, Mode: redisshard.Dynamic}
		switch run, _, _ := strings.Cut(w.ID, "/"); run {
		case "redis-sharded-static":
			o.Mode = redisshard.Static
		case "redis-sharded-dynamic-private":
			o.Mode = redisshard.DynamicPrivate
		}
		d := redisshard.NewDialect(o)
		parts := strings.Split(w.Channel, "#")
		node := "me"
		m, err := d.Decode(node, w.Channel, w.Payload)
		if err != nil || m == nil {
			t.Errorf("%s: got %v and error %v, want a message", w.ID, m, err)
			continue
		}
		if m.Namespace != parts[1] {
			t.Errorf("%s: got namespace %q, want %q", w.ID, m.Namespace, parts[1])
		}
		if m.Kind == cluster.Reply {
			m.To = parts[2]
		}
		routed := m.Kind == cluster.Tell && len(parts) == 4
		if m.Routed != routed {
			t.Errorf("%s: got routed %v, want %v", w.ID, m.Routed, routed)
		}
		if topic, _, err := d.Encode(m); err != nil || topic != w.Channel {
			t.Errorf("%s: got channel %q and error %v, want %q", w.ID, topic, err, w.Channel)
		}
		if m.Kind != cluster.Reply && d.Lane(m) != w.Channel {
			t.Errorf("%s: got lane %q, want the channel %q", w.ID, d.Lane(m), w.Channel)
		}
		// Whom a Node.js node would have sent it to one room, we would too.
		if m.Op != nil && m.Op.Kind == cluster.Emit && len(m.Op.Rooms) == 1 && m.Kind == cluster.Tell {
			if has := d.Route(m.Namespace, m.Op.Rooms[0]) != ""; has != routed {
				t.Errorf("%s: got a channel for room %q %v, want %v", w.ID, m.Op.Rooms[0], has, routed)
			}
		}
		if own, err := d.Decode(m.From, w.Channel, w.Payload); own != nil || err != nil {
			t.Errorf("%s: its sender got %v and error %v, want neither", w.ID, own, err)
		}
	}
}

func TestRoute(t *testing.T) {
	id := "abcdefghijklmnopqrst"
	for _, x := range []struct {
		mode redisshard.Mode
		room string
		want string
	}{
		{redisshard.Static, "room", ""},
		{redisshard.Dynamic, "room", "p#/n#room#"},
		{redisshard.Dynamic, "", "p#/n##"},
		{redisshard.Dynamic, id, ""},
		{redisshard.Dynamic, id + "u", "p#/n#" + id + "u#"},
		{redisshard.Dynamic, strings.Repeat("ü", 20), ""},
		{redisshard.Dynamic, strings.Repeat("💧", 10), ""}, // 20 of JavaScript's characters
		{redisshard.Dynamic, strings.Repeat("💧", 20), "p#/n#" + strings.Repeat("💧", 20) + "#"},
		{redisshard.DynamicPrivate, id, "p#/n#" + id + "#"},
		{"", "room", "p#/n#room#"},
	} {
		d := redisshard.NewDialect(&redisshard.Options{Prefix: "p", Mode: x.mode})
		if got := d.Route("/n", x.room); got != x.want {
			t.Errorf("mode %q, room %q: got %q, want %q", x.mode, x.room, got, x.want)
		}
		if got, want := d.Always(), x.mode != redisshard.Static; got != want {
			t.Errorf("mode %q: got Always %v, want %v", x.mode, got, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown mode: got no panic, want one")
		}
	}()
	redisshard.NewDialect(&redisshard.Options{Mode: "dinamic"})
}

// TestChannels checks what a channel means that belongs to two namespaces, and what is on the wrong one.
func TestChannels(t *testing.T) {
	d := redisshard.NewDialect(nil)
	emit := &cluster.Message{Kind: cluster.Tell, From: "a", Namespace: "/a#b", Life: 5, Number: 1, Op: &cluster.Op{
		Kind: cluster.Emit, Namespace: "/a#b", Data: []byte(`["e"]`), Selector: cluster.Selector{Rooms: []string{"r"}},
	}}
	topic, data, err := d.Encode(emit)
	if err != nil || topic != "socket.io#/a#b#" {
		t.Fatalf("got channel %q and error %v", topic, err)
	}
	emit.Routed = true
	room, routed, err := d.Encode(emit)
	if err != nil || room != "socket.io#/a#b#r#" || !bytes.Equal(routed, data) {
		t.Fatalf("routed: got channel %q and error %v", room, err)
	}
	for topic, want := range map[string]bool{"socket.io#/a#b#": false, "socket.io#/a#b#r#": true} {
		m, err := d.Decode("me", topic, data)
		if err != nil || m == nil || m.Routed != want || m.Namespace != "/a#b" || m.Life != 5 || m.Number != 1 || d.Lane(m) != topic {
			t.Errorf("%s: got %+v and error %v", topic, m, err)
		}
	}
	if m, err := d.Decode("me", "socket.io#/other#", data); m != nil || err != nil {
		t.Errorf("another namespace's channel: got %v and error %v, want neither", m, err)
	}
	for _, topic := range []string{"other#/a#", "socket.io", ""} {
		if _, err := d.Decode("me", topic, data); err == nil {
			t.Errorf("channel %q: got no error, want one", topic)
		}
	}
	if _, err := d.Decode("me", "socket.io#/#", []byte(`{"type":3,"data":{"packet":{"type":2,"data":["e"]},"opts":{}},"uid":"x"}`)); err == nil {
		t.Error("no namespace: got no error, want one")
	}
}

type mute struct{ cluster.Bus }

func TestExpect(t *testing.T) {
	if _, err := redisshard.NewDialect(nil).Expect(context.Background(), mute{}, "me", "/"); !errors.Is(err, cluster.ErrUnsupported) {
		t.Errorf("a bus that cannot count: got error %v, want one that wraps ErrUnsupported", err)
	}
}
