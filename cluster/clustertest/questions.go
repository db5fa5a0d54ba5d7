package clustertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
)

func (s *suite) questions(t *testing.T) {
	a, b, c := s.three(t)
	for _, kind := range []cluster.Kind{cluster.EmitAck, cluster.Fetch, cluster.Count, cluster.Rooms, cluster.ServerAsk} {
		op := &cluster.Op{Kind: kind, Namespace: "/"}
		if kind == cluster.EmitAck || kind == cluster.ServerAsk {
			op.Data = []byte(`["q",1]`)
		}
		o := a.askFor(t, 5*time.Second, op)
		if errors.Is(o.err, cluster.ErrUnsupported) {
			t.Logf("%v: not in this format", kind)
			continue
		}
		wantAll(t, o, []*member{b, c}, "b", "c")
		if o.took > 2*time.Second {
			t.Errorf("%v: got the end after %v, want it with the last answer", kind, o.took)
		}
		var got, want []string
		for _, x := range o.answers {
			switch kind {
			case cluster.EmitAck:
				if x.First {
					got = append(got, fmt.Sprint(x.Clients))
				} else {
					got = append(got, string(x.Data))
				}
				want = []string{"1", "1", `["ack of b"]`, `["ack of c"]`}
			case cluster.Fetch:
				for _, k := range x.Sockets {
					got = append(got, fmt.Sprintf("%s in %s", k.ID, k.Rooms))
				}
				want = []string{"socket-of-b in [socket-of-b r]", "socket-of-c in [socket-of-c r]"}
			case cluster.Count:
				got = append(got, fmt.Sprint(x.Clients))
				want = []string{"1", "1"}
			case cluster.Rooms:
				got = append(got, x.Rooms...)
				want = []string{"everywhere", "everywhere", "room-of-b", "room-of-c"}
			case cluster.ServerAsk:
				got = append(got, string(x.Data))
				want = []string{`["b"]`, `["c"]`}
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%v: got answers %q, want %q", kind, got, want)
		}
	}
	if got := a.Stats().Open; got != 0 {
		t.Errorf("got %d open questions, want none", got)
	}
}

func ignore(*cluster.Op, func(cluster.Answer)) {}

func (s *suite) silent(t *testing.T) {
	a, b, c := s.three(t)
	c.server.answering(ignore)
	o := a.askFor(t, 400*time.Millisecond, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"})
	if got := o.firsts(b, c); !slices.Equal(got, []string{"b"}) {
		t.Errorf("got answers of %v, want [b]", got)
	}
	absent := wantAbsent(t, o, "c")
	if !errors.Is(absent, context.DeadlineExceeded) {
		t.Errorf("got error %v, want one that wraps context.DeadlineExceeded", absent)
	}
	if o.took > 2*time.Second {
		t.Errorf("got the end after %v, want it at the deadline of 400ms", o.took)
	}
}

func (s *suite) acks(t *testing.T) {
	a, b, c := s.three(t)
	op := &cluster.Op{Kind: cluster.EmitAck, Namespace: "/", Data: []byte(`["q"]`)}
	promise := func(clients, acks int) func(*cluster.Op, func(cluster.Answer)) {
		return func(_ *cluster.Op, answer func(cluster.Answer)) {
			answer(cluster.Answer{First: true, Clients: clients})
			for i := range acks {
				go answer(cluster.Answer{Data: fmt.Appendf(nil, `[%d]`, i)})
			}
		}
	}
	b.server.answering(promise(30, 30))
	c.server.answering(promise(0, 0))
	o := a.askFor(t, 5*time.Second, op)
	wantAll(t, o, []*member{b, c}, "b", "c")
	if got := len(o.answers); got != 32 {
		t.Errorf("got %d answers, want 2 first ones and 30 acks", got)
	}
	if o.took > 2*time.Second {
		t.Errorf("got the end after %v, want it with the last ack", o.took)
	}

	c.server.answering(promise(3, 1))
	o = a.askFor(t, 400*time.Millisecond, op)
	if got := len(o.answers); got != 33 {
		t.Errorf("got %d answers, want 2 first ones and 31 acks", got)
	}
	if absent := wantAbsent(t, o, "c"); absent.Acks != 2 {
		t.Errorf("got %d missing acks, want 2", absent.Acks)
	}
}

func (s *suite) leaves(t *testing.T) {
	a, b, c := s.three(t)
	asked := make(chan struct{})
	once := sync.OnceFunc(func() { close(asked) }) // the next question may reach it before it has left
	c.server.answering(func(*cluster.Op, func(cluster.Answer)) { once() })
	go func() {
		<-asked
		c.Close()
	}()
	o := a.askFor(t, 10*time.Second, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"})
	wantAbsent(t, o, "c")
	if got := o.firsts(b, c); !slices.Equal(got, []string{"b"}) {
		t.Errorf("got answers of %v, want [b]", got)
	}
	if o.took > 3*time.Second {
		t.Errorf("got the end after %v, want it when the node left", o.took)
	}
	o = a.askFor(t, 10*time.Second, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"})
	wantAll(t, o, []*member{b}, "b")
}

func (s *suite) joins(t *testing.T) {
	a, b, c := s.three(t)
	joined := make(chan struct{})
	b.server.answering(func(op *cluster.Op, answer func(cluster.Answer)) {
		go func() {
			<-joined
			usual("b", op, answer)
		}()
	})
	result := make(chan outcome)
	go func() {
		result <- a.askFor(t, 10*time.Second, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"})
	}()
	s.eventually(t, "question at c", func() bool { return len(c.server.done()) == 1 })
	d := s.join(t, "d")
	s.know(t, a, b, c, d)
	close(joined)
	wantAll(t, <-result, []*member{b, c}, "b", "c")

	b.server.answering(nil)
	o := a.askFor(t, 10*time.Second, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"})
	wantAll(t, o, []*member{b, c, d}, "b", "c", "d")
}

func (s *suite) crowd(t *testing.T) {
	a, b, c := s.three(t)
	ms := []*member{a, b, c}
	var wg sync.WaitGroup
	for range 10 {
		for _, m := range ms {
			wg.Go(func() {
				for range 3 {
					o := m.askFor(t, 10*time.Second, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"})
					if o.err != nil || len(o.answers) != 2 {
						t.Errorf("got %d answers and error %v, want 2 and none", len(o.answers), o.err)
					}
				}
			})
		}
	}
	wg.Wait()
}

func (s *suite) givenUp(t *testing.T) {
	a, b, c := s.three(t)
	for range a.Ask(t.Context(), &cluster.Op{Kind: cluster.Fetch, Namespace: "/"}) {
		break
	}
	if got := a.Stats().Open; got != 0 {
		t.Errorf("after break, got %d open questions, want none", got)
	}
	b.server.answering(ignore)
	c.server.answering(ignore)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no interest")
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	o := a.ask(ctx, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"})
	if wantAbsent(t, o, "b", "c"); !errors.Is(o.err, why) {
		t.Errorf("got error %v, want one that wraps the context's cause", o.err)
	}
	if got := a.Stats().Open; got != 0 {
		t.Errorf("after the context's end, got %d open questions, want none", got)
	}
}

func (s *suite) frozen(t *testing.T) {
	a, b, c := s.three(t)
	f, ok := c.bus.(Freezer)
	if !ok {
		return // it cannot freeze a node in the process; TestFrozen does it with a process of its own
	}
	f.Freeze()
	frozenQuestions(t, a)
	f.Thaw()
	s.know(t, a, b, c)
	o := a.askFor(t, 5*time.Second, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"})
	wantAll(t, o, []*member{b, c}, "b", "c")
}

// frozenQuestions asks while the node named c is frozen: at once, and when it is known to be dead.
func frozenQuestions(t *testing.T, a *member) {
	t.Helper()
	start := time.Now()
	o := a.askFor(t, 300*time.Millisecond, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"})
	wantAbsent(t, o, "c")
	if got := len(o.answers); got != 1 {
		t.Errorf("right after the freeze, got %d answers, want 1", got)
	}
	if o.took > 2*time.Second {
		t.Errorf("right after the freeze, got the end after %v, want it at the deadline of 300ms", o.took)
	}
	// A long question ends when the node is declared dead.
	o = a.askFor(t, 20*time.Second, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"})
	wantAbsent(t, o, "c")
	if took := time.Since(start); took > 3*deadAfter {
		t.Errorf("a question at a node that dies: got its end after %v, want it %v after the node's last word", took, deadAfter)
	}
	// After that nobody waits for it.
	o = a.askFor(t, 20*time.Second, &cluster.Op{Kind: cluster.Fetch, Namespace: "/"})
	if o.err != nil || len(o.answers) != 1 {
		t.Errorf("when the node is known to be dead, got %d answers and error %v, want 1 and none", len(o.answers), o.err)
	}
	if o.took > deadAfter {
		t.Errorf("when the node is known to be dead, got the end after %v, want it at once", o.took)
	}
}
