package official_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/official"
)

// messages are of every kind that the format knows, with what Node.js nodes do not.
func messages() []*cluster.Message {
	attachments := [][]byte{{0, 1, 2, 255}, []byte("text"), {}}
	bin := []byte(`["bin",{"_placeholder":true,"num":0},{"x":{"_placeholder":true,"num":1}},{"_placeholder":true,"num":2}]`)
	sel := cluster.Selector{Rooms: []string{"r1", "7", "", "/a[b]", "ü\u2028\"\x00"}, Except: []string{"x", "-3"}}
	ask := func(op *cluster.Op) *cluster.Message {
		return &cluster.Message{Kind: cluster.Ask, From: "me", Request: "ABC", Op: op}
	}
	tell := func(op *cluster.Op) *cluster.Message {
		return &cluster.Message{Kind: cluster.Tell, From: "me", Life: 1 << 63, Number: 12345678901, Op: op}
	}
	reply := func(a *cluster.Answer) *cluster.Message {
		return &cluster.Message{Kind: cluster.Reply, From: "me", To: "you", Request: "ABC", Life: 7, Number: 1, Answer: a}
	}
	ms := []*cluster.Message{
		tell(&cluster.Op{Kind: cluster.Emit, Data: []byte(`["hello",1.5,{"a":[null,true,18446744073709551615]}]`), Selector: sel}),
		tell(&cluster.Op{Kind: cluster.Emit, Data: bin, Attachments: attachments, Flags: cluster.Volatile | cluster.NoCompress}),
		tell(&cluster.Op{Kind: cluster.JoinRooms, Selector: sel, Names: []string{"7", "b"}}),
		tell(&cluster.Op{Kind: cluster.LeaveRooms, Selector: sel, Names: []string{"7", "b"}}),
		tell(&cluster.Op{Kind: cluster.Disconnect, Selector: sel, Close: true}),
		tell(&cluster.Op{Kind: cluster.ServerEmit, Data: bin, Attachments: attachments}),
		ask(&cluster.Op{Kind: cluster.EmitAck, Data: bin, Attachments: attachments, Timeout: 1500 * time.Millisecond}),
		ask(&cluster.Op{Kind: cluster.Fetch, Selector: sel}),
		ask(&cluster.Op{Kind: cluster.Count, Selector: sel}),
		ask(&cluster.Op{Kind: cluster.Rooms}),
		ask(&cluster.Op{Kind: cluster.ServerAsk, Data: []byte(`["ev"]`)}),
		reply(&cluster.Answer{First: true, Clients: 3}),
		reply(&cluster.Answer{Data: []byte(`[]`)}),
		reply(&cluster.Answer{Data: []byte(`[1]`)}),
		reply(&cluster.Answer{Data: bin, Attachments: attachments}),
		reply(&cluster.Answer{First: true, Data: []byte(`[{"a":"]"},2,[3]]`)}),
		reply(&cluster.Answer{First: true, Rooms: []string{"a", "7"}}),
		reply(&cluster.Answer{First: true, Sockets: []cluster.SocketInfo{}}),
		reply(&cluster.Answer{First: true, Sockets: []cluster.SocketInfo{
			{ID: "id1", Rooms: []string{"id1", "9"}, Handshake: []byte(`{"q":1}`), Data: []byte(`{"b":{"type":"Buffer","data":[1,2]}}`)},
			{ID: "id2", Rooms: []string{"id2"}, Handshake: []byte(`{}`), Data: []byte(`{}`)},
		}}),
	}
	for _, m := range ms {
		m.Namespace = "/n"
		if m.Op != nil {
			m.Op.Namespace = "/n"
		} else {
			m.Answer.Node = "me"
		}
	}
	return ms
}

// TestRoundTrip has every message written and read in every form.
func TestRoundTrip(t *testing.T) {
	plain := official.Options{Buffers: true}
	for i, m := range messages() {
		h, err := official.HeaderOf(m)
		if err != nil {
			t.Fatal(err)
		}
		forms := map[string]struct {
			write func([]byte, *cluster.Message) ([]byte, error)
			read  func([]byte) (*cluster.Message, error)
		}{
			"JSON": {official.AppendJSON, func(b []byte) (*cluster.Message, error) {
				_, m, err := plain.Decode("you", "/n", b)
				return m, err
			}},
			"MessagePack": {official.AppendMsgpack, func(b []byte) (*cluster.Message, error) {
				_, m, err := official.Options{}.Decode("you", "", b)
				return m, err
			}},
			"whichever": {func(b []byte, m *cluster.Message) ([]byte, error) {
				data, err := official.Encode(m)
				return append(b, data...), err
			}, func(b []byte) (*cluster.Message, error) {
				_, m, err := official.Options{}.Decode("you", "/n", b)
				return m, err
			}},
			"data in JSON":        {official.AppendDataJSON, func(b []byte) (*cluster.Message, error) { return plain.DecodeData(h, b) }},
			"data in MessagePack": {official.AppendDataMsgpack, func(b []byte) (*cluster.Message, error) { return official.Options{}.DecodeData(h, b) }},
		}
		for name, form := range forms {
			b, err := form.write([]byte("before"), m)
			if err != nil {
				t.Fatalf("message %d, %s: encode: %v", i, name, err)
			}
			if !bytes.HasPrefix(b, []byte("before")) {
				t.Fatalf("message %d, %s: got %q, want it appended", i, name, b)
			}
			got, err := form.read(b[len("before"):])
			if err != nil || got == nil {
				t.Fatalf("message %d, %s: decode: got %v and error %v, want a message; it was %s", i, name, got, err, b)
			}
			if m.Kind == cluster.Ask {
				_, got.Request, _ = strings.Cut(got.Request, ":")
			}
			got.To = m.To
			if diff := cmp.Diff(m, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(cluster.SocketInfo{}, "Data")); diff != "" {
				t.Errorf("message %d, %s (- want, + got):\n%s", i, name, diff)
			}
			if (m.Op == nil || m.Op.Attachments == nil) && m.Kind == cluster.Reply {
				for j := range m.Answer.Sockets {
					if got, want := string(got.Answer.Sockets[j].Data), string(m.Answer.Sockets[j].Data); got != want {
						t.Errorf("message %d, %s: got data of a socket %s, want %s", i, name, got, want)
					}
				}
			}
		}
	}
}

// TestAnswersFit checks that what answers a question that was read is of the kind that the asker
// waits for, also where there is nothing in it.
func TestAnswersFit(t *testing.T) {
	want := map[cluster.Kind]official.Kind{
		cluster.EmitAck: official.ClientCount, cluster.Fetch: official.FetchResponse, cluster.Count: official.FetchResponse,
		cluster.Rooms: official.FetchResponse, cluster.ServerAsk: official.ServerSideResponse,
	}
	for kind, want := range want {
		op := &cluster.Op{Kind: kind, Namespace: "/", Data: []byte(`["e"]`)}
		data, err := official.Encode(&cluster.Message{Kind: cluster.Ask, From: "you", Request: "ID", Namespace: "/", Op: op})
		if err != nil {
			t.Fatal(err)
		}
		_, asked, err := official.Options{}.Decode("me", "/", data)
		if err != nil || asked.Op.Kind != kind {
			t.Fatalf("%v: got %v and error %v", kind, asked, err)
		}
		for _, a := range []cluster.Answer{{First: true}, {First: true, Clients: 5}} {
			data, err = official.Encode(&cluster.Message{Kind: cluster.Reply, From: "me", To: "you", Request: asked.Request, Namespace: "/", Answer: &a})
			if err != nil {
				t.Fatal(err)
			}
			h, m, err := official.Options{}.Decode("you", "/", data)
			if err != nil || m == nil || h.Kind != want || m.Request != "ID" || !m.Answer.First {
				t.Fatalf("%v: got header %+v, message %+v and error %v, want kind %d and request ID", kind, h, m, err, want)
			}
			if counts := kind == cluster.EmitAck || kind == cluster.Count; counts && m.Answer.Clients != a.Clients {
				t.Errorf("%v: got %d clients, want %d", kind, m.Answer.Clients, a.Clients)
			}
		}
	}
}

// TestNodeAnswers has a Node.js node answer what it does not know: it describes its sockets.
func TestNodeAnswers(t *testing.T) {
	answer := `{"type":8,"data":{"requestId":"ID%s","sockets":[{"id":"a","handshake":{},"rooms":["a","r",7],"data":{}},` +
		`{"id":"b","handshake":{},"rooms":["b","r"],"data":{}}]},"uid":"n","nsp":"/"}`
	_, m, err := official.Options{}.Decode("me", "/", fmt.Appendf(nil, answer, "#count"))
	if err != nil || m.Request != "ID" || m.Answer.Clients != 2 || m.Answer.Sockets != nil {
		t.Errorf("count: got %+v and error %v, want 2", m, err)
	}
	_, m, err = official.Options{}.Decode("me", "/", fmt.Appendf(nil, answer, "#rooms"))
	if err != nil || m.Request != "ID" || !cmp.Equal(m.Answer.Rooms, []string{"a", "r", "7", "b"}) {
		t.Errorf("rooms: got %+v and error %v, want a r 7 b", m, err)
	}
}

func TestOtherNamespace(t *testing.T) {
	data, _ := official.Encode(messages()[0])
	if _, m, err := (official.Options{}).Decode("you", "/other", data); m != nil || err != nil {
		t.Errorf("got %v and error %v, want neither: it is for another namespace", m, err)
	}
	// An emitter for Postgres does not name it.
	data = bytes.Replace(data, []byte(`,"nsp":"/n"`), nil, 1)
	if _, m, err := (official.Options{}).Decode("you", "/other", data); err != nil || m.Namespace != "/other" || m.Op.Namespace != "/other" {
		t.Errorf("got %v and error %v, want the namespace of the channel", m, err)
	}
}

func TestUnsupported(t *testing.T) {
	for _, m := range []*cluster.Message{
		{}, {Kind: cluster.Heartbeat}, {Kind: cluster.Tell}, {Kind: cluster.Reply}, {Kind: cluster.Tell, Op: &cluster.Op{}},
		{Kind: cluster.Tell, Op: &cluster.Op{Kind: 99}}, {Kind: cluster.Ask, Request: "x", Op: &cluster.Op{Kind: cluster.Emit}},
		{Kind: cluster.Ask, Op: &cluster.Op{Kind: cluster.Fetch}}, {Kind: 99},
	} {
		if _, err := official.Encode(m); !errors.Is(err, cluster.ErrUnsupported) {
			t.Errorf("%+v: got error %v, want one that wraps ErrUnsupported", m, err)
		}
	}
	if _, err := official.Encode(&cluster.Message{Kind: cluster.Tell, Op: &cluster.Op{Kind: cluster.Emit, Data: []byte(`{}`)}}); err == nil {
		t.Error("an event that is no array: got no error, want one")
	}
}

func TestSide(t *testing.T) {
	s := official.NewSide("p-atoll")
	started := time.Unix(1, 0)
	for _, m := range []*cluster.Message{
		{Kind: cluster.Heartbeat, From: "a", Life: 3, Member: &cluster.Member{ID: "a", Name: "n", Started: started}},
		{Kind: cluster.Goodbye, From: "a", Life: 3},
	} {
		if !s.Carries(m) {
			t.Fatalf("kind %d: got no, want it carried", m.Kind)
		}
		topic, data, err := s.Encode(m)
		if err != nil || !s.Has(topic) {
			t.Fatalf("got topic %q and error %v", topic, err)
		}
		got, err := s.Decode("b", topic, data)
		if err != nil || got == nil || got.Kind != m.Kind || got.From != "a" || got.Life != 3 {
			t.Errorf("got %+v and error %v, want %+v", got, err, m)
		}
	}
	for _, m := range messages() {
		if m.Kind != cluster.Reply && s.Carries(m) || m.Kind == cluster.Reply && s.Carries(m) {
			t.Errorf("kind %d without a receiver: got yes, want it not carried", m.Kind)
		}
	}
	if _, err := s.Decode("b", "p-atoll#node#c#", nil); err == nil {
		t.Error("another node's topic: got no error, want one")
	}
}

// FuzzDecode reads whatever there may be, and writes again what it could read.
func FuzzDecode(f *testing.F) {
	for _, w := range wireMessages(f) {
		f.Add(w.Payload)
	}
	for _, m := range messages() {
		for _, write := range []func([]byte, *cluster.Message) ([]byte, error){official.AppendJSON, official.AppendMsgpack} {
			b, err := write(nil, m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, o := range []official.Options{{}, {Buffers: true}} {
			for kind := official.Broadcast; kind <= official.BroadcastAck; kind++ {
				o.DecodeData(official.Header{Kind: kind, UID: "x", Namespace: "/"}, data)
			}
			_, m, err := o.Decode("me", "", data)
			if err != nil || m == nil {
				continue
			}
			for _, write := range []func([]byte, *cluster.Message) ([]byte, error){official.AppendJSON, official.AppendMsgpack} {
				out, err := write(nil, m)
				if err != nil {
					if len(m.Op.Data) > 0 || m.Answer != nil {
						continue // a claim to be a placeholder, which cannot be written
					}
					t.Fatalf("%q was read and cannot be written: %v", data, err)
				}
				_, again, err := o.Decode("me", "", out)
				if err != nil || again == nil {
					t.Fatalf("%q was written as %q, which cannot be read: %v", data, out, err)
				}
				if again.Kind != m.Kind || again.Request != m.Request || again.Number != m.Number {
					t.Fatalf("%q: got %+v, then %+v", data, m, again)
				}
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	m := messages()[0]
	m.Op.Rooms = []string{"room"}
	data, err := official.Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := (official.Options{}).Decode("you", "/n", data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	m := messages()[0]
	m.Op.Rooms = []string{"room"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := official.Encode(m); err != nil {
			b.Fatal(err)
		}
	}
}
