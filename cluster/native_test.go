package cluster

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// examples are messages of every kind, with every field.
func examples() []*Message {
	op := &Op{
		Kind: Emit, Namespace: "/chat",
		Selector: Selector{Rooms: []string{"r1", "", "räume"}, Except: []string{"x"}},
		Flags:    Volatile | NoCompress,
		Data:     []byte(`["e",{"_placeholder":true,"num":0}]`), Attachments: [][]byte{{0, 1, 0xff}, []byte("b")},
		Names: []string{"n"}, Close: true, Timeout: 1500 * time.Millisecond,
	}
	ask := &Op{Kind: EmitAck, Namespace: "/", Data: []byte(`["q"]`), Timeout: time.Second}
	answer := &Answer{
		Node: "node-a", First: true, Clients: 70000, Rooms: []string{"r"}, Data: []byte("[1]"), Attachments: [][]byte{{1}},
		Sockets: []SocketInfo{{ID: "s1", Rooms: []string{"s1", "r"}, Handshake: []byte("{}"), Data: []byte("null")}, {ID: "s2"}},
	}
	return []*Message{
		{Kind: Tell, From: "node-a", Life: 1 << 63, Number: 300, Namespace: "/chat", Op: op},
		{Kind: Tell, From: Emitter, Life: 3, Number: 1, Namespace: "/", Op: &Op{Kind: Disconnect, Namespace: "/"}},
		{Kind: Ask, From: "node-a", Life: 3, Number: 2, Request: "q1", Namespace: "/", Op: ask},
		{Kind: Reply, From: "node-a", Life: 3, Number: 1, To: "node-b", Request: "q1", Namespace: "/", Answer: answer},
		{Kind: Heartbeat, From: "node-a", Life: 3, Number: 12, Member: &Member{ID: "node-a", Name: "a name", Started: time.Unix(1, 2), Version: 1}},
		{Kind: Heartbeat, From: "node-a", Life: 3, Number: 12, Member: &Member{ID: "node-a", Started: time.Unix(1, 2), Routes: true}, AllMarks: true, Marks: []Mark{{"l", 7}, {"", 1}}},
		{Kind: Goodbye, From: "node-a", Life: 3, Number: 9},
		{Kind: Tell, From: "node-a", Life: 3, Number: 5, Namespace: "/", Routed: true, Age: 5 * time.Second, Op: &Op{Kind: Emit, Namespace: "/", Selector: Selector{Rooms: []string{"r"}}, Data: []byte("[]")}},
		{Kind: Tell, From: "node-a", Life: 3, Number: 5, To: "node-b", ToLife: 77, Namespace: "/", Op: &Op{Kind: Emit, Namespace: "/", Data: []byte("[]")}},
		{Kind: Missing, From: "node-a", Life: 3, To: "node-b", Spans: []Span{{Lane: "l", First: 3, Last: 400}, {First: 1}}},
		{Kind: Again, From: "node-a", Life: 3, To: "node-b", Spans: []Span{{"l", 3, 4, true, false}, {"l", 6, 6, false, true}}, Marks: []Mark{{"l", 9}}, Parts: []Part{{"l", 5, []byte("x")}}},
		{Kind: Progress, From: "node-a", Life: 3, To: "node-b", Marks: []Mark{{"@", 9}}},
		{Kind: Direct, From: "node-a", Life: 3, To: "node-b", ToLife: 77, Data: []byte("any\x00bytes")},
		{Kind: Direct, From: "node-a", Life: 3, To: "node-b"},
		{Kind: Progress, From: "node-a", Life: 3, Routed: true, Age: time.Second, Marks: []Mark{{"atoll.room.x", 9}}},
	}
}

func TestNative(t *testing.T) {
	d := Native("")
	for _, m := range examples() {
		topic, data, err := d.Encode(m)
		if err != nil {
			t.Fatalf("Encode %v: %v", m, err)
		}
		want := "atoll.all"
		switch {
		case m.To != "":
			want = "atoll.node.node-b"
		case m.Kind == Progress:
			want = "atoll.room.x"
		case m.Routed:
			want = "atoll.room.ef6d6717e797d838"
		}
		if topic != want {
			t.Errorf("kind %d: got topic %q, want %q", m.Kind, topic, want)
		}
		got, err := d.Decode("node-b", topic, data)
		if err != nil {
			t.Errorf("kind %d: Decode: %v", m.Kind, err)
			continue
		}
		if diff := cmp.Diff(m, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("kind %d: decoded message differs (- want, + got):\n%s", m.Kind, diff)
		}
		if more, err := d.Decode("node-b", topic, append(data, "of a later revision"...)); err != nil || !cmp.Equal(got, more) {
			t.Errorf("kind %d with bytes behind it: got %v and error %v, want the same message", m.Kind, more, err)
		}
		for i := range data {
			if got, err := d.Decode("node-b", topic, data[:i:i]); err == nil {
				t.Errorf("kind %d: first %d of %d bytes: got %v, want an error", m.Kind, i, len(data), got)
			}
		}
		if own, err := d.Decode("node-a", topic, data); (own != nil) != (m.Kind == Heartbeat && m.From == "node-a" || m.From == Emitter) || err != nil {
			t.Errorf("kind %d at its sender: got %v and error %v", m.Kind, own, err)
		}
	}
}

// The bytes of the format are fixed: nodes of different releases run side by side.
func TestNativeBytes(t *testing.T) {
	for _, c := range []struct {
		m    *Message
		want string
	}{
		{&Message{Kind: Goodbye, From: "a", Life: 1}, "a701 05 0000000000000001 00 0161 00"},
		{&Message{Kind: Heartbeat, From: "a", Life: 1, Number: 2, Member: &Member{Name: "n", Started: time.Unix(0, 3), Version: 1}}, "a701 04 0000000000000001 02 0161 016e 06 01 00 00"},
		{
			&Message{Kind: Tell, From: "a", Life: 1, Number: 200, Op: &Op{
				Kind: Emit, Flags: Volatile, Namespace: "/", Timeout: 5, Selector: Selector{Rooms: []string{"r"}, Except: []string{"e"}},
				Names: []string{"n"}, Close: true, Data: []byte("[]"), Attachments: [][]byte{{9}},
			}},
			"a701 01 0000000000000001 c801 0161 01 01 01 012f 05 010172 010165 01016e 025b5d 010109 00",
		},
		{&Message{Kind: Ask, From: "a", Life: 1, Number: 1, Request: "q", Op: &Op{Kind: Rooms, Namespace: "/"}}, "a701 02 0000000000000001 01 0161 0171 09 00 00 012f 00 00 00 00 00 00 00"},
		{
			&Message{Kind: Reply, From: "a", To: "b", Life: 1, Number: 1, Request: "q", Namespace: "/", Answer: &Answer{First: true, Clients: 2, Rooms: []string{"r"}, Data: []byte("d"), Sockets: []SocketInfo{{ID: "s", Rooms: []string{"t"}, Handshake: []byte("h"), Data: []byte("i")}}}},
			"a701 03 0000000000000001 01 0161 0162 0171 012f 01 02 010172 0164 00 01 0173 010174 0168 0169",
		},
	} {
		_, data, err := Native("").Encode(c.m)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := hex.EncodeToString(data), strings.ReplaceAll(c.want, " ", ""); got != want {
			t.Errorf("kind %d: got %s, want %s", c.m.Kind, got, want)
		}
	}
}

func TestNativeRefuses(t *testing.T) {
	d := Native("")
	long := make([]string, maxList+1)
	for name, m := range map[string]*Message{
		"a list too long":    {Kind: Tell, From: "a", Op: &Op{Kind: Emit, Selector: Selector{Rooms: long}}},
		"an answer too long": {Kind: Reply, From: "a", To: "b", Answer: &Answer{Rooms: long}},
		"a socket's rooms":   {Kind: Reply, From: "a", To: "b", Answer: &Answer{Sockets: []SocketInfo{{Rooms: long}}}},
		"no op":              {Kind: Tell, From: "a"},
		"no answer":          {Kind: Reply, From: "a"},
		"no member":          {Kind: Heartbeat, From: "a"},
		"an unknown kind":    {Kind: 77, From: "a"},
		"an unknown op":      {Kind: Tell, From: "a", Op: &Op{Kind: 99}},
		"a question told":    {Kind: Tell, From: "a", Op: &Op{Kind: Fetch}},
		"direct, to nobody":  {Kind: Direct, From: "a", Data: []byte("x")},
		"an operation asked": {Kind: Ask, From: "a", Request: "q", Op: &Op{Kind: Emit}},
	} {
		_, _, err := d.Encode(m)
		if err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
		if strings.HasSuffix(name, "too long") && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: got error %v, want one that wraps ErrUnsupported", name, err)
		}
	}
	for name, data := range map[string]string{
		"another format":         "{}",
		"a later version":        "\xa7\x02\x01" + strings.Repeat("\x00", 20),
		"a list said to be long": "\xa7\x01\x01" + strings.Repeat("\x00", 8) + "\x01\x01a\x01\x00\x00\x01/\x00\xff\xff\x3f" + strings.Repeat("\x00", 100),
		"no sender":              "\xa7\x01\x05" + strings.Repeat("\x00", 10),
		"a sender's long id":     "\xa7\x01\x05" + strings.Repeat("\x00", 9) + "\x41" + strings.Repeat("a", 65),
		"a sender's strange id":  "\xa7\x01\x05" + strings.Repeat("\x00", 9) + "\x03a.>",
	} {
		if m, err := d.Decode("b", "atoll.all", []byte(data)); err == nil {
			t.Errorf("%s: got %v, want an error", name, m)
		}
	}
}

func TestNativeName(t *testing.T) {
	if got, want := strings.Join(Native("my-cluster_1").Topics("n", ""), " "), "my-cluster_1.all my-cluster_1.node.n"; got != want {
		t.Errorf("got topics %q, want %q", got, want)
	}
	for _, name := range []string{"a b", "a.b", "*", "ü", strings.Repeat("x", 65)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Native(%q): got no panic, want one", name)
				}
			}()
			Native(name)
		}()
	}
}

// FuzzNative decodes what anybody may publish. What is decoded can be encoded again, to the same message.
func FuzzNative(f *testing.F) {
	d := Native("")
	for _, m := range examples() {
		_, data, err := d.Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	seeds, err := filepath.Glob("testdata/native/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range seeds {
		data, err := os.ReadFile(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := d.Decode("node-b", "atoll.all", data)
		if m == nil || err != nil {
			return
		}
		topic, again, err := d.Encode(m)
		if err != nil {
			t.Fatalf("Encode of what was decoded: %v", err)
		}
		m2, err := d.Decode("node-b", topic, again)
		if err != nil {
			t.Fatalf("Decode of what was encoded: %v", err)
		}
		if diff := cmp.Diff(m, m2, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the message differs (- first, + second):\n%s", diff)
		}
	})
}

func BenchmarkNative(b *testing.B) {
	d := Native("")
	m := &Message{Kind: Tell, From: "node-a", Life: 1, Number: 1000, Namespace: "/", Op: &Op{
		Kind: Emit, Namespace: "/", Selector: Selector{Rooms: []string{"lobby"}}, Data: []byte(`["said",{"room":"lobby","text":"` + strings.Repeat("x", 200) + `"}]`),
	}}
	topic, data, _ := d.Encode(m)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.Encode(m)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.Decode("node-b", topic, data)
		}
	})
}
