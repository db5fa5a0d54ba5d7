package clustertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
)

const (
	heartbeat = 200 * time.Millisecond
	deadAfter = 5 * heartbeat
)

// A server is a fake of what performs a node's operations.
type server struct {
	name string

	mu     sync.Mutex
	ops    []*cluster.Op
	answer func(op *cluster.Op, answer func(cluster.Answer)) // nil: the usual answers
	told   func(op *cluster.Op)                              // not nil: gets what is told, which is not kept then
}

// hook has f get what is told from now on.
func (s *server) hook(f func(op *cluster.Op)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = f
}

// Do implements cluster.Receiver.
func (s *server) Do(op *cluster.Op, answer func(cluster.Answer)) {
	s.mu.Lock()
	if told := s.told; told != nil && answer == nil {
		s.mu.Unlock()
		told(op)
		return
	}
	s.ops = append(s.ops, op)
	f := s.answer
	s.mu.Unlock()
	switch {
	case answer == nil:
	case f != nil:
		f(op, answer)
	default:
		usual(s.name, op, answer)
	}
}

// usual answers a question as a node with one socket would.
func usual(name string, op *cluster.Op, answer func(cluster.Answer)) {
	a := cluster.Answer{First: true}
	switch op.Kind {
	case cluster.EmitAck, cluster.Count:
		a.Clients = 1
	case cluster.Fetch:
		a.Sockets = []cluster.SocketInfo{{ID: "socket-of-" + name, Rooms: []string{"socket-of-" + name, "r"}}}
	case cluster.Rooms:
		a.Rooms = []string{"room-of-" + name, "everywhere"}
	case cluster.ServerAsk:
		a.Data = []byte(`["` + name + `"]`)
	}
	answer(a)
	if op.Kind == cluster.EmitAck {
		answer(cluster.Answer{Data: []byte(`["ack of ` + name + `"]`)})
	}
}

// answering sets how the server answers.
func (s *server) answering(f func(op *cluster.Op, answer func(cluster.Answer))) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// done returns the operations performed so far.
func (s *server) done() []*cluster.Op {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ops)
}

// A member is a node under test with the server and the bus it stands between.
type member struct {
	*cluster.Node
	server *server
	bus    cluster.Bus

	mu sync.Mutex
	up []string // names that came with "+", and went with "-"
}

func (m *member) news() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.up)
}

// join makes a node with the given name, which has the namespace "/" open.
func (s *suite) join(t *testing.T, name string) *member {
	t.Helper()
	m := &member{server: &server{name: name}, bus: s.open(t)}
	n, err := cluster.Join(t.Context(), m.bus, &cluster.Options{
		Name: name, Heartbeat: heartbeat, DeadAfter: deadAfter, RouteRooms: s.routed, Logger: logger(t),
		OnMember: func(x cluster.Member, up bool) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.up = append(m.up, map[bool]string{true: "+", false: "-"}[up]+x.Name)
		},
	})
	if err != nil {
		t.Fatalf("Join: %v", err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("Close of node %s: %v", name, err)
		}
	})
	m.Node = n
	if err := n.Attach(m.server); err != nil {
		t.Fatalf("Attach: %v", err)
	}
	if err := n.Open(t.Context(), "/"); err != nil {
		t.Fatalf("Open: %v", err)
	}
	return m
}

// three makes a cluster of three nodes a, b and c that know each other.
func (s *suite) three(t *testing.T) (a, b, c *member) {
	t.Helper()
	a, b, c = s.join(t, "a"), s.join(t, "b"), s.join(t, "c")
	s.know(t, a, b, c)
	return a, b, c
}

// know waits until the nodes know each other and nobody else.
func (s *suite) know(t *testing.T, ms ...*member) {
	t.Helper()
	for _, m := range ms {
		s.eventually(t, fmt.Sprintf("node %s that knows %d others", m.Name(), len(ms)-1), func() bool {
			return len(m.Peers()) == len(ms)-1
		})
	}
}

// An outcome is what a question gave.
type outcome struct {
	answers []cluster.Answer
	err     error
	took    time.Duration
}

func (m *member) ask(ctx context.Context, op *cluster.Op) outcome {
	var o outcome
	start := time.Now()
	for a, err := range m.Ask(ctx, op) {
		if err != nil {
			o.err = err
		} else {
			o.answers = append(o.answers, a)
		}
	}
	o.took = time.Since(start)
	return o
}

// askFor is ask with a time limit.
func (m *member) askFor(t *testing.T, d time.Duration, op *cluster.Op) outcome {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return m.ask(ctx, op)
}

// firsts returns the names of the nodes whose first answers came.
func (o outcome) firsts(ms ...*member) []string {
	var names []string
	for _, a := range o.answers {
		if !a.First {
			continue
		}
		name := "?" + a.Node
		for _, m := range ms {
			if m.ID() == a.Node {
				name = m.Name()
			}
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// wantAll checks that a question was answered by all the named nodes and nobody is missing.
func wantAll(t *testing.T, o outcome, ms []*member, names ...string) {
	t.Helper()
	if o.err != nil {
		t.Errorf("got error %v, want none", o.err)
	}
	if got := o.firsts(ms...); !slices.Equal(got, names) {
		t.Errorf("got answers of %v, want %v", got, names)
	}
}

// wantAbsent checks that a question ended with an AbsentError that names exactly these nodes.
func wantAbsent(t *testing.T, o outcome, names ...string) *cluster.AbsentError {
	t.Helper()
	var absent *cluster.AbsentError
	if !errors.As(o.err, &absent) {
		t.Errorf("got error %v, want an AbsentError that names %v", o.err, names)
		return &cluster.AbsentError{}
	}
	ok := len(absent.Nodes) == len(names)
	for i, name := range names {
		ok = ok && strings.HasPrefix(absent.Nodes[i], name+" (")
	}
	if !ok {
		t.Errorf("got absent nodes %v, want %v", absent.Nodes, names)
	}
	if absent.Unnamed != 0 {
		t.Errorf("got %d absent nodes without a name, want none", absent.Unnamed)
	}
	return absent
}
