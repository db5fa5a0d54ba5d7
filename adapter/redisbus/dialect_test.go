package redisbus_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/cluster"
)

// TestRoundTrip has one Atoll node read what another wrote, as it was.
func TestRoundTrip(t *testing.T) {
	blob := [][]byte{{0, 1, 255}, []byte("text")}
	const placeholders = `["bin",{"_placeholder":true,"num":0},{"x":[{"_placeholder":true,"num":1}]}]`
	sel := cluster.Selector{Rooms: []string{"r", "7", "-3", "007", "1e3", "9007199254740993"}, Except: []string{"x", "8"}}
	ops := []*cluster.Op{
		{Kind: cluster.Emit, Selector: sel, Flags: cluster.Volatile | cluster.NoCompress, Data: []byte(placeholders), Attachments: blob},
		{Kind: cluster.Emit, Data: []byte(`["e"]`), Selector: cluster.Selector{Rooms: []string{"7"}}},
		{Kind: cluster.JoinRooms, Selector: sel, Names: []string{"7", "a"}},
		{Kind: cluster.LeaveRooms, Selector: sel, Names: []string{"7", "a"}},
		{Kind: cluster.Disconnect, Selector: sel, Close: true},
		{Kind: cluster.ServerEmit, Data: []byte(placeholders), Attachments: blob},
		{Kind: cluster.EmitAck, Selector: sel, Data: []byte(placeholders), Attachments: blob, Timeout: 1500 * time.Millisecond},
		{Kind: cluster.Fetch, Selector: sel},
		{Kind: cluster.Count, Selector: cluster.Selector{Rooms: []string{"r", "7"}}},
		{Kind: cluster.Count, Selector: sel},
		{Kind: cluster.Rooms},
		{Kind: cluster.ServerAsk, Data: []byte(`["q",{"a":[1,"\"\\"]}]`)},
	}
	for _, op := range ops {
		for _, nsp := range []string{"/", "/a#b", "/ü*[x]"} {
			want := &cluster.Message{Kind: cluster.Tell, From: "other", Namespace: nsp, Op: op}
			if op.Kind.Asks() {
				want.Kind, want.Request = cluster.Ask, "question-1"
			}
			op.Namespace = nsp
			roundTrip(t, want)
		}
	}
	answers := []*cluster.Answer{
		{First: true},
		{First: true, Clients: 3},
		{First: true, Sockets: []cluster.SocketInfo{
			{ID: "s1", Rooms: []string{"s1", "7"}, Handshake: []byte(`{"a":1}`), Data: []byte(`"x"`)},
			{ID: "s2", Rooms: []string{"s2"}, Handshake: []byte(`{}`), Data: []byte(`{}`)},
		}},
		{First: true, Rooms: []string{"a", "b", "7"}},
		{First: true, Data: []byte(`[]`)},
		{First: true, Data: []byte(`[{"a":[1,2]}]`)},
		{First: true, Data: []byte(`[1,"two",{"three":3}]`)},
		{First: true, Data: []byte(placeholders), Attachments: blob},
		{Data: []byte(`[]`)},
		{Data: []byte(`[null]`)},
		{Data: []byte(`[{"ok":true}]`)},
		{Data: []byte(`[1,"two",[3]]`)},
		{Data: []byte(placeholders), Attachments: blob},
	}
	for _, a := range answers {
		a.Node = "other"
		roundTrip(t, &cluster.Message{Kind: cluster.Reply, From: "other", To: "me", Request: "question-1", Namespace: "/n", Answer: a})
	}
	started := time.Unix(0, 1700000000000000001)
	roundTrip(t, &cluster.Message{Kind: cluster.Heartbeat, From: "other", Life: 5, Number: 6, Member: &cluster.Member{ID: "other", Name: "o", Started: started, Version: 1}})
	roundTrip(t, &cluster.Message{Kind: cluster.Goodbye, From: "other", Life: 5})
}

func roundTrip(t *testing.T, want *cluster.Message) {
	t.Helper()
	d := redisbus.NewDialect(&redisbus.Options{Prefix: "p"})
	topic, data, err := d.Encode(want)
	if err != nil {
		t.Errorf("Encode %+v: %v", want, err)
		return
	}
	got, err := d.Decode("me", topic, data)
	if err != nil {
		t.Errorf("Decode %q on %q: %v", data, topic, err)
		return
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%q on %q (- want, + got):\n%s", data, topic, diff)
	}
	heard := false
	for _, s := range append(d.Topics("me", want.Namespace), d.Topics("me", "")...) {
		all, pattern := strings.CutSuffix(s, "*")
		heard = heard || s == topic || pattern && strings.HasPrefix(topic, all)
	}
	if !heard {
		t.Errorf("nobody subscribes to %q", topic)
	}
}

// TestMeant checks that a message is read once where the patterns of two namespaces match it.
func TestMeant(t *testing.T) {
	d := redisbus.NewDialect(nil)
	for _, nsp := range []string{"/a", "/a#b", "/a#b#c"} {
		for _, room := range []string{"", "b", "b#c", "#"} {
			op := &cluster.Op{Kind: cluster.Emit, Namespace: nsp, Data: []byte(`["e"]`)}
			if room != "" {
				op.Rooms = []string{room}
			}
			topic, data, err := d.Encode(&cluster.Message{Kind: cluster.Tell, From: "x", Namespace: nsp, Op: op})
			if err != nil {
				t.Fatal(err)
			}
			times := 0
			for _, subscribed := range []string{"/a", "/a#b", "/a#b#c"} {
				pattern := d.Topics("me", subscribed)[1]
				if !strings.HasPrefix(topic, strings.TrimSuffix(pattern, "*")) {
					continue
				}
				m, err := d.Decode("me", pattern, data)
				if err != nil {
					t.Fatal(err)
				}
				if m != nil {
					times++
				}
			}
			if times != 1 {
				t.Errorf("namespace %q, room %q: got it %d times, want once", nsp, room, times)
			}
		}
	}
}

// TestOthers reads what other implementations may write.
func TestOthers(t *testing.T) {
	d := redisbus.NewDialect(nil)
	for _, c := range []struct {
		name, topic, data string
		want              *cluster.Message
	}{
		{
			"an old emitter: no namespace, no except, packet of binary", "socket.io#/#",
			"\x93\xa7emitter\x82\xa4type\x05\xa4data\x92\xa1e\xc4\x01x\x82\xa5rooms\xc0\xa5flags\xc0",
			&cluster.Message{Kind: cluster.Tell, From: "emitter", Namespace: "/", Op: &cluster.Op{
				Kind: cluster.Emit, Namespace: "/", Data: []byte(`["e",{"_placeholder":true,"num":0}]`), Attachments: [][]byte{[]byte("x")},
			}},
		},
		{
			"a request in MessagePack", "socket.io-request#/#",
			"\x83\xa3uid\xa1u\xa4type\x06\xa4data\x92\xa1e\xc4\x01x",
			&cluster.Message{Kind: cluster.Tell, From: "u", Namespace: "/", Op: &cluster.Op{
				Kind: cluster.ServerEmit, Namespace: "/", Data: []byte(`["e",{"_placeholder":true,"num":0}]`), Attachments: [][]byte{[]byte("x")},
			}},
		},
		{
			"a broadcast with acks in JSON", "socket.io-request#/#",
			`{"uid":"u","requestId":"r","type":7,"packet":{"type":2,"data":["e",1],"nsp":"/"},"opts":{"rooms":["a",5],"except":[],"flags":{"timeout":9.5,"compress":false}}}`,
			&cluster.Message{Kind: cluster.Ask, From: "u", Request: "r", Namespace: "/", Op: &cluster.Op{
				Kind: cluster.EmitAck, Namespace: "/", Data: []byte(`["e",1]`), Selector: cluster.Selector{Rooms: []string{"a", "5"}},
				Flags: cluster.NoCompress, Timeout: 9 * time.Millisecond,
			}},
		},
		{
			"one socket joins, before 8.0", "socket.io-request#/#", `{"requestId":"r","type":2,"sid":"s","room":7}`,
			&cluster.Message{Kind: cluster.Tell, Namespace: "/", Op: &cluster.Op{
				Kind: cluster.JoinRooms, Namespace: "/", Selector: cluster.Selector{Rooms: []string{"s"}}, Names: []string{"7"},
			}},
		},
		{
			"ids of sockets", "socket.io-response#/#", `{"requestId":"r","sockets":["s1","s2"]}`,
			&cluster.Message{Kind: cluster.Reply, To: "me", Request: "r", Namespace: "/", Answer: &cluster.Answer{
				First: true, Sockets: []cluster.SocketInfo{{ID: "s1"}, {ID: "s2"}},
			}},
		},
		{
			"a count, as a Node.js node answers it", "socket.io-response#/#", `{"requestId":"r#count","sockets":["s1","s2"]}`,
			&cluster.Message{Kind: cluster.Reply, To: "me", Request: "r", Namespace: "/", Answer: &cluster.Answer{First: true, Clients: 2}},
		},
		{"done, before 8.0", "socket.io-response#/#", `{"requestId":"r"}`, nil},
		{"an answer of our own", "socket.io-response#/#", `{"requestId":"r","rooms":[],"node":"me"}`, nil},
	} {
		got, err := d.Decode("me", c.topic, []byte(c.data))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (- want, + got):\n%s", c.name, diff)
		}
	}

	// Who asks as nodes before 8.0 did gets nothing but ids.
	m, err := d.Decode("me", "socket.io-request#/#", []byte(`{"uid":"u","requestId":"r","type":0,"rooms":["a"]}`))
	if err != nil {
		t.Fatal(err)
	}
	answer := &cluster.Answer{First: true, Sockets: []cluster.SocketInfo{{ID: "s1"}, {ID: "s2"}}}
	topic, data, err := d.Encode(&cluster.Message{Kind: cluster.Reply, From: "me", To: m.From, Request: m.Request, Namespace: "/", Answer: answer})
	if want := `{"requestId":"r","sockets":["s1","s2"],"node":"me"}`; err != nil || string(data) != want || topic != "socket.io-response#/#u#" {
		t.Errorf("got %s on %s and error %v, want %s", data, topic, err, want)
	}
}

func TestMalformed(t *testing.T) {
	d := redisbus.NewDialect(nil)
	for _, c := range []struct{ topic, data string }{
		{"other#/#", ""},
		{"socket.io-response#/#me#", "\x83\xa4type\x09\xa9requestId\xa1x\xa4more\x91\x07"}, // further values, no first
		{"socket.io-other#/#", "{}"},
		{"socket.io", ""},
		{"socket.io#/#", ""},
		{"socket.io#/#", "\xc1"},
		{"socket.io#/#", "{}"},
		{"socket.io#/#", "\x90"},
		{"socket.io#/#", "\x93\xa1u\x80\x80"},
		{"socket.io#/#", "\x93\xa1u\xc0\xc0"},
		{"socket.io#/#", "\x93\xa1u\x82\xa4type\x02\xa4data\x90\x80"},
		{"socket.io#/#", "\x93\xa1u\x82\xa4type\x02\xa4data\x80\x80"},
		{"socket.io#/#", "\x93\xa1u\x82\xa4type\x02\xa4data\x91\xc0\x80"},
		{"socket.io#/#", "\x93\xa1u\x82\xa4type\x03\xa4data\x91\xa1e\x80"},
		{"socket.io#/#", "\x93\xa1u\x82\xa4type\x02\xa4data\x91\xa1e\x81\xa5rooms\x91\xc3"},
		{"socket.io#/#", "\x93\xa1u\x82\xa4type\x02\xa4data\x91\xa1e\x81\xa5rooms\xdd\xff\xff\xff\xff"},
		{"socket.io#/#", "\x93\xa1u\x82\xa4type\x02\xa4data\x91\xa1e\x80more"},
		{"socket.io#/#", "\x93\xa1u\x82\xa4type\x02\xa4data\x92\xa1e\x81\xac_placeholder\xc3\x80"},
		{"socket.io-request#/#", ""},
		{"socket.io-request#/#", "{"},
		{"socket.io-request#/#", "{}"},
		{"socket.io-request#/#", "[]"},
		{"socket.io-request#/#", `{"type":"1"}`},
		{"socket.io-request#/#", `{"type":1}`},
		{"socket.io-request#/#", `{"type":2,"rooms":["a"]}`},
		{"socket.io-request#/#", `{"type":2,"rooms":[true],"opts":{}}`},
		{"socket.io-request#/#", `{"type":5,"requestId":"r"}`},
		{"socket.io-request#/#", `{"type":5,"opts":{}}`},
		{"socket.io-request#/#", `{"type":5,"requestId":"#count","opts":{}}`},
		{"socket.io-request#/#", `{"type":6}`},
		{"socket.io-request#/#", `{"type":6,"data":{}}`},
		{"socket.io-request#/#", `{"type":6,"data":[]}`},
		{"socket.io-request#/#", `{"type":6,"data":[{"_placeholder":true,"num":0}]}`},
		{"socket.io-request#/#", `{"type":6,"data":["e",{"_placeholder":true,"num":0}]}`},
		{"socket.io-request#/#", `{"type":7,"requestId":"r"}`},
		{"socket.io-request#/#", `{"type":99}`},
		{"socket.io-request#/#", "\x81\xa4type\x07"},
		{"socket.io-request#/#", "\x82\xa4type\x07\xa9requestId\xa1r"},
		{"socket.io-request#/#", "\xdf\xff\xff\xff\xff"},
		{"socket.io-response#/#", ""},
		{"socket.io-response#/#", "{"},
		{"socket.io-response#/#", `{"type":8,"clientCount":1}`},
		{"socket.io-response#/#", `{"type":8,"requestId":"r","clientCount":-1}`},
		{"socket.io-response#/#", `{"type":8,"requestId":"r","clientCount":1e12}`},
		{"socket.io-response#/#", `{"requestId":"r","sockets":{}}`},
		{"socket.io-response#/#", `{"requestId":"r","sockets":[5]}`},
		{"socket.io-response#/#", "\x81\xa4type\x09"},
		{"socket.io-response#/#", "\x83\xa4type\x09\xa9requestId\xa1r\xa6packet\xc1"},
		{"socket.io-response#/#", "\x84\xa4type\x09\xa9requestId\xa1r\xa6packet\x01\xa4more\x01"},
		{"socket.io-response#/#", "\x84\xa4type\x09\xa9requestId\xa1r\xa6packet\x01\xa6packet\x01"},
		{"socket.io-atoll#", "x"},
	} {
		m, err := d.Decode("me", c.topic, []byte(c.data))
		if !errors.Is(err, redisbus.ErrMalformed) {
			t.Errorf("%q on %s: got %+v and error %v, want one that wraps ErrMalformed", c.data, c.topic, m, err)
		}
	}
}

func TestUnsupported(t *testing.T) {
	d := redisbus.NewDialect(nil)
	for _, m := range []*cluster.Message{
		{},
		{Kind: cluster.Tell},
		{Kind: cluster.Tell, Op: &cluster.Op{Kind: cluster.Fetch}},
		{Kind: cluster.Ask, Op: &cluster.Op{Kind: cluster.Emit}},
		{Kind: cluster.Tell, Op: &cluster.Op{Kind: 99}},
		{Kind: cluster.Reply},
	} {
		if _, _, err := d.Encode(m); !errors.Is(err, cluster.ErrUnsupported) {
			t.Errorf("%+v: got error %v, want one that wraps ErrUnsupported", m, err)
		}
	}
	for _, data := range []string{`{}`, `x`, ``, `["e"] x`, `["e",{"_placeholder":true,"num":0}]`} {
		if _, _, err := d.Encode(&cluster.Message{Kind: cluster.Tell, Op: &cluster.Op{Kind: cluster.Emit, Data: []byte(data)}}); err == nil {
			t.Errorf("event %s: got no error, want one", data)
		}
	}
}

func FuzzDecode(f *testing.F) {
	topics := []string{
		"socket.io#/#", "socket.io#/#room#", "socket.io#/#*", "socket.io-request#/#",
		"socket.io-response#/#", "socket.io-response#/#me#", "socket.io-atoll#", "socket.io-atoll#goodbye#",
	}
	for _, w := range wireMessages(f) {
		for i, topic := range topics {
			if strings.HasPrefix(topic, strings.TrimPrefix(strings.SplitN(w.Channel, "#", 2)[0], "myapp")) {
				f.Add(uint8(i), w.Payload)
			}
		}
	}
	d := redisbus.NewDialect(nil)
	f.Fuzz(func(t *testing.T, topic uint8, data []byte) {
		name := topics[int(topic)%len(topics)]
		m, err := d.Decode("me", name, slices.Clone(data))
		if err != nil || m == nil {
			return
		}
		if m.Kind == cluster.Tell || m.Kind == cluster.Ask {
			if m.Op == nil || m.Op.Kind.Asks() != (m.Kind == cluster.Ask) || m.Kind == cluster.Ask && m.Request == "" {
				t.Fatalf("got %+v, which no node understands", m)
			}
		}
		if m.Kind == cluster.Reply && m.Answer == nil {
			t.Fatal("got a reply without an answer")
		}
		// What was read can be written, and read again.
		if m.From == "me" || m.From == "" && m.Kind != cluster.Reply {
			m.From = "other"
		}
		where, again, err := d.Encode(m)
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if _, err := d.Decode("me", where, again); err != nil {
			t.Fatalf("%q on %q: %v", again, where, err)
		}
	})
}

func benchMessage() *cluster.Message {
	return &cluster.Message{Kind: cluster.Tell, From: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Namespace: "/chat", Op: &cluster.Op{
		Kind: cluster.Emit, Namespace: "/chat", Selector: cluster.Selector{Rooms: []string{"lobby"}},
		Data: fmt.Appendf(nil, `["message",{"room":"lobby","user":"ada","text":%q,"time":1700000000000},1]`, strings.Repeat("word ", 20)),
	}}
}

func BenchmarkEncode(b *testing.B) {
	d := redisbus.NewDialect(nil)
	m := benchMessage()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := d.Encode(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	d := redisbus.NewDialect(nil)
	_, data, err := d.Encode(benchMessage())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if m, err := d.Decode("me", "socket.io#/chat#*", data); m == nil || err != nil {
			b.Fatal(m, err)
		}
	}
}
