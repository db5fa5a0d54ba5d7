package clustertest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/atollhq/atoll/cluster"
)

// TestCluster tests nodes, three and more, on the medium.
func TestCluster(t *testing.T, open Open) { (&suite{open: open}).cluster(t) }

// SimulateCluster is TestCluster in simulated time, each test in a bubble of its own.
func SimulateCluster(t *testing.T, open Open) { (&suite{open: open, simulated: true}).cluster(t) }

func (s *suite) cluster(t *testing.T) {
	s.run(t, "members", s.members)
	s.run(t, "what is told arrives whole", s.whole)
	s.run(t, "order of each goroutine", s.order)
	s.run(t, "large operation", s.large)
	s.run(t, "namespaces", s.namespaces)
	s.run(t, "many namespaces", s.manyNamespaces)
	s.run(t, "rooms of every name", s.rooms)
	s.run(t, "enter, and be reached at once", s.enter)
	s.run(t, "publisher", s.publisher)
	s.run(t, "questions of every kind", s.questions)
	s.run(t, "a node does not answer", s.silent)
	s.run(t, "acks of clients", s.acks)
	s.run(t, "a node leaves during a question", s.leaves)
	s.run(t, "a node joins during a question", s.joins)
	s.run(t, "many questions at once", s.crowd)
	s.run(t, "a question is given up", s.givenUp)
	s.run(t, "sent to one node", s.direct)
	s.run(t, "garbage", s.garbage)
	s.run(t, "closed", s.closed)
	s.run(t, "a node is frozen", s.frozen)
}

func (s *suite) members(t *testing.T) {
	a, b, c := s.three(t)
	for _, m := range []*member{a, b, c} {
		var names []string
		for _, p := range m.Peers() {
			names = append(names, p.Name)
		}
		want := slices.DeleteFunc([]string{"a", "b", "c"}, func(n string) bool { return n == m.Name() })
		if !slices.Equal(names, want) {
			t.Errorf("node %s: got peers %v, want %v, the oldest first", m.Name(), names, want)
		}
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	s.know(t, a, b)
	d := s.join(t, "d")
	s.know(t, a, b, d)
	s.eventually(t, "OnMember calls", func() bool { return len(a.news()) == 4 })
	if got, want := a.news(), []string{"+b", "+c", "-c", "+d"}; !slices.Equal(got, want) {
		t.Errorf("OnMember: got %v, want %v", got, want)
	}
}

// told are operations as every format can carry them.
func told() []*cluster.Op {
	return []*cluster.Op{
		{Kind: cluster.Emit, Namespace: "/", Data: []byte(`["hello",1,{"a":["b",null,true]}]`)},
		{Kind: cluster.Emit, Namespace: "/", Data: []byte(`["room"]`), Selector: cluster.Selector{Rooms: []string{"r1"}}},
		{
			Kind: cluster.Emit, Namespace: "/", Data: []byte(`["grüße","\u2028 ü 💧"]`), Flags: cluster.Volatile,
			Selector: cluster.Selector{Rooms: []string{"r1", "r 2", ""}, Except: []string{"x", "*", "ü#"}},
		},
		{
			Kind: cluster.Emit, Namespace: "/", Attachments: [][]byte{{0, 1, 2, 255}, []byte("text")},
			Data: []byte(`["bin",{"_placeholder":true,"num":0},{"x":{"_placeholder":true,"num":1}}]`),
		},
		{Kind: cluster.JoinRooms, Namespace: "/", Selector: cluster.Selector{Rooms: []string{"r1"}, Except: []string{"r2"}}, Names: []string{"n1", "n2"}},
		{Kind: cluster.LeaveRooms, Namespace: "/", Selector: cluster.Selector{Rooms: []string{"r1"}}, Names: []string{"n1"}},
		{Kind: cluster.Disconnect, Namespace: "/", Selector: cluster.Selector{Rooms: []string{"r1"}}},
		{Kind: cluster.Disconnect, Namespace: "/", Selector: cluster.Selector{Except: []string{"r2"}}, Close: true},
		{Kind: cluster.ServerEmit, Namespace: "/", Data: []byte(`["ping",{"n":7}]`)},
	}
}

func (s *suite) whole(t *testing.T) {
	a, b, c := s.three(t)
	enter(t, "/", []string{"r1"}, b, c)
	want := told()
	for _, op := range want {
		if err := a.Tell(t.Context(), op); err != nil {
			t.Fatalf("Tell %v: %v", op.Kind, err)
		}
	}
	for _, m := range []*member{b, c} {
		s.eventually(t, "all operations", func() bool { return len(m.server.done()) >= len(want) })
		same := cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(cluster.Op{}, "Offset")}
		if m.Routes() { // what goes to one room has an order of its own
			same = append(same, cmpopts.SortSlices(func(a, b *cluster.Op) bool { return fmt.Sprint(*a) < fmt.Sprint(*b) }))
		}
		if diff := cmp.Diff(want, m.server.done(), same); diff != "" {
			t.Errorf("node %s: operations differ (- want, + got):\n%s", m.Name(), diff)
		}
	}
	if got := len(a.server.done()); got != 0 {
		t.Errorf("the node that tells: got %d of its own operations, want none", got)
	}
}

// enter has members of rooms on some nodes, where what is for one room goes only there.
func enter(t *testing.T, namespace string, rooms []string, ms ...*member) {
	t.Helper()
	for _, m := range ms {
		if err := m.Enter(t.Context(), namespace, rooms...); err != nil {
			t.Fatalf("Enter: %v", err)
		}
	}
}

func (s *suite) order(t *testing.T) {
	const each = 300
	a, b, c := s.three(t)
	ms := []*member{a, b, c}
	enter(t, "/", []string{"room"}, ms...)
	var wg sync.WaitGroup
	for _, m := range ms {
		for g := range 2 {
			wg.Go(func() {
				for i := range each {
					op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: fmt.Appendf(nil, `["e","%s%d",%d]`, m.Name(), g, i)}
					switch i % 5 {
					case 1:
						op.Rooms = []string{"room"}
					case 2:
						op.Rooms = []string{"r1", "r2"}
					}
					if err := m.Tell(t.Context(), op); err != nil {
						t.Errorf("Tell: %v", err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	for _, m := range ms {
		s.eventually(t, "all operations of the others", func() bool { return len(m.server.done()) >= 4*each })
		next := map[string]int{}
		for _, op := range m.server.done() {
			f := strings.FieldsFunc(string(op.Data), func(r rune) bool { return strings.ContainsRune(`[",]`, r) })
			i, lane, step := next[f[1]], f[1], 1
			if m.Routes() { // what goes to one room, and what goes to all, have each an order of their own
				if lane += " to all"; len(op.Rooms) == 1 {
					lane, step = f[1]+" to the room", 5
				}
				if i = next[lane]; i%5 == 1 && step == 1 {
					i++
				} else if i == 0 && step == 5 {
					i = 1
				}
			}
			if got, want := f[2], fmt.Sprint(i); got != want {
				t.Fatalf("node %s, sender %s: got operation %s, want %s", m.Name(), lane, got, want)
			}
			next[lane] = i + step
		}
		senders := 4
		if m.Routes() {
			senders = 8
		}
		if len(next) != senders {
			t.Errorf("node %s: got operations of %d senders, want %d", m.Name(), len(next), senders)
		}
	}
}

func (s *suite) large(t *testing.T) {
	a, b, _ := s.three(t)
	blob := make([]byte, 10<<20)
	for i := range blob {
		blob[i] = byte(i * i >> 7)
	}
	op := &cluster.Op{
		Kind: cluster.Emit, Namespace: "/", Attachments: [][]byte{blob},
		Data: []byte(`["big",{"_placeholder":true,"num":0}]`),
	}
	if err := a.Tell(t.Context(), op); err != nil {
		t.Fatalf("Tell: %v", err)
	}
	s.eventually(t, "the large operation", func() bool { return len(b.server.done()) == 1 })
	if got := b.server.done()[0].Attachments; len(got) != 1 || !bytes.Equal(got[0], blob) {
		t.Error("the attachment is not what was sent")
	}
}

func (s *suite) namespaces(t *testing.T) {
	a, b, _ := s.three(t)
	names := []string{"/chat", "/a[b]", "/x*", "/x?", "/über ßig", `/"quoted"'`, "/" + strings.Repeat("long", 75), "/a#b", "/a#"}
	for _, name := range names {
		for _, m := range []*member{a, b} {
			if err := m.Open(t.Context(), name); err != nil {
				t.Fatalf("Open(%q): %v", name, err)
			}
			if err := m.Open(t.Context(), name); err != nil {
				t.Fatalf("second Open(%q): %v", name, err)
			}
		}
		enter(t, name, []string{"r"}, b)
		op := &cluster.Op{Kind: cluster.Emit, Namespace: name, Data: []byte(`["in"]`), Selector: cluster.Selector{Rooms: []string{"r"}}}
		if err := a.Tell(t.Context(), op); err != nil {
			t.Fatalf("Tell: %v", err)
		}
	}
	s.eventually(t, "one operation in each namespace", func() bool { return len(b.server.done()) >= len(names) })
	var got []string
	for _, op := range b.server.done() {
		got = append(got, op.Namespace)
	}
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Errorf("got operations in %q, want %q", got, names)
	}
	for _, name := range names {
		if err := b.CloseNamespace(name); err != nil {
			t.Errorf("CloseNamespace(%q): %v", name, err)
		}
		if err := b.CloseNamespace(name); err != nil {
			t.Errorf("second CloseNamespace(%q): %v", name, err)
		}
	}
}

func (s *suite) publisher(t *testing.T) {
	a, b, c := s.three(t)
	p := cluster.NewPublisher(s.open(t), nil)
	const count = 100
	for i := range count {
		op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: fmt.Appendf(nil, `["e",%d]`, i)}
		if err := p.Tell(t.Context(), op); err != nil {
			t.Fatalf("Tell: %v", err)
		}
	}
	for _, m := range []*member{a, b, c} {
		s.eventually(t, "all operations of the publisher", func() bool { return len(m.server.done()) >= count })
		for i, op := range m.server.done() {
			if got, want := string(op.Data), fmt.Sprintf(`["e",%d]`, i); got != want {
				t.Fatalf("node %s: got operation %s, want %s", m.Name(), got, want)
			}
		}
		if got := len(m.Peers()); got != 2 {
			t.Errorf("node %s: got %d peers, want 2: a publisher is none", m.Name(), got)
		}
	}
	if err := p.Tell(t.Context(), &cluster.Op{Kind: cluster.Fetch, Namespace: "/"}); err == nil {
		t.Error("Tell of a question: got no error, want one")
	}
}

func (s *suite) garbage(t *testing.T) {
	a, b, c := s.three(t)
	dialect := cluster.Native("")
	if x, ok := a.bus.(cluster.Speaker); ok {
		dialect = x.Dialect()
	}
	stranger := s.open(t)
	junk := [][]byte{
		{}, {0}, []byte("{"), []byte("null"), []byte(`{"type":99}`), []byte("\x93\x00"), {0xA7}, {0xA7, 99, 1}, make([]byte, 100),
		[]byte("\xA7\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01x\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
		[]byte(strings.Repeat("[", 5000)), []byte(strings.Repeat("\x91", 5000)),
	}
	var topics []string
	for _, namespace := range []string{"", "/"} {
		for _, topic := range dialect.Topics(b.ID(), namespace) {
			topics = append(topics, strings.ReplaceAll(topic, "*", "x"))
		}
	}
	for _, topic := range topics {
		for _, x := range junk {
			publish(t, stranger, topic, x)
		}
	}
	s.eventually(t, "malformed messages that were counted", func() bool { return b.Stats().Malformed > 0 })
	for i := range 50 {
		if err := a.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: fmt.Appendf(nil, `["still",%d]`, i)}); err != nil {
			t.Fatalf("Tell: %v", err)
		}
	}
	s.eventually(t, "operations after the garbage", func() bool { return len(b.server.done()) == 50 && len(c.server.done()) == 50 })
	o := a.askFor(t, 5*time.Second, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"})
	wantAll(t, o, []*member{b, c}, "b", "c")
}

func (s *suite) closed(t *testing.T) {
	a, b, c := s.three(t)
	b.server.answering(ignore)
	result := make(chan outcome)
	go func() { result <- a.askFor(t, 10*time.Second, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"}) }()
	s.eventually(t, "question at c", func() bool { return len(c.server.done()) == 1 && a.Stats().Open == 1 })
	if err := a.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if o := <-result; !errors.Is(o.err, cluster.ErrClosed) {
		t.Errorf("question during Close: got error %v, want ErrClosed", o.err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := a.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: []byte(`["x"]`)}); !errors.Is(err, cluster.ErrClosed) {
		t.Errorf("Tell after Close: got error %v, want ErrClosed", err)
	}
	if o := a.ask(t.Context(), &cluster.Op{Kind: cluster.Fetch, Namespace: "/"}); !errors.Is(o.err, cluster.ErrClosed) {
		t.Errorf("Ask after Close: got error %v, want ErrClosed", o.err)
	}
	if err := a.Open(t.Context(), "/late"); !errors.Is(err, cluster.ErrClosed) {
		t.Errorf("Open after Close: got error %v, want ErrClosed", err)
	}
	s.know(t, b, c)
}
