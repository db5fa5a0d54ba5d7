package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// A site is a node for tests, with what it received.
type site struct {
	*cluster.Node
	bus *membus.Bus

	mu  sync.Mutex
	got []string
	log []string // members that came and went, gaps
	do  func(op *cluster.Op, answer func(cluster.Answer))
}

func (s *site) Do(op *cluster.Op, answer func(cluster.Answer)) {
	s.mu.Lock()
	s.got = append(s.got, string(op.Data))
	do := s.do
	s.mu.Unlock()
	if do != nil {
		do(op, answer)
	} else if answer != nil {
		answer(cluster.Answer{First: true, Clients: 1})
		if op.Kind == cluster.EmitAck {
			answer(cluster.Answer{Data: []byte("[]")})
		}
	}
}

func (s *site) received() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

func (s *site) history() string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, " ")
}

func (s *site) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

// join makes a node on the hub. It has one second of heartbeat and three until it is dead.
func join(t *testing.T, hub *membus.Hub, name string, change ...func(*cluster.Options)) *site {
	t.Helper()
	s := &site{bus: membus.New(hub, &membus.Options{Name: name})}
	o := &cluster.Options{
		ID: "id-" + name, Name: name, Logger: slog.New(slog.DiscardHandler),
		OnMember: func(m cluster.Member, up bool) { s.note("%s%s", map[bool]string{true: "+", false: "-"}[up], m.Name) },
		OnGap:    func(from string, first, last uint64) { s.note("gap:%s:%d-%d", from, first, last) },
	}
	for _, f := range change {
		f(o)
	}
	var err error
	if s.Node, err = cluster.Join(t.Context(), s.bus, o); err != nil {
		t.Fatalf("Join: %v", err)
	}
	if err := s.Attach(s); err != nil {
		t.Fatalf("Attach: %v", err)
	}
	t.Cleanup(func() {
		s.bus.Thaw()
		s.Close()
		s.bus.Close()
	})
	return s
}

func (s *site) emit(t *testing.T, data string) {
	t.Helper()
	if err := s.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: []byte(data)}); err != nil {
		t.Fatalf("Tell: %v", err)
	}
}

// ask asks with a time limit, and returns how many answered, the time it took and the error.
func (s *site) ask(t *testing.T, limit time.Duration, kind cluster.Kind) (int, time.Duration, error) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := time.Now()
	n := 0
	for _, err := range s.Ask(ctx, &cluster.Op{Kind: kind, Namespace: "/", Data: []byte("[]")}) {
		if err != nil {
			return n, time.Since(start), err
		}
		n++
	}
	return n, time.Since(start), nil
}

func (s *site) peers() string {
	synctest.Wait()
	var names []string
	for _, p := range s.Peers() {
		names = append(names, p.Name)
	}
	return strings.Join(names, " ")
}

func simulate(t *testing.T, name string, f func(t *testing.T, hub *membus.Hub)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, new(membus.Hub)) })
	})
}

func TestDeath(t *testing.T) {
	simulate(t, "without a word", func(t *testing.T, hub *membus.Hub) {
		a, b, c := join(t, hub, "a"), join(t, hub, "b"), join(t, hub, "c")
		c.bus.SetDown(true)
		time.Sleep(1900 * time.Millisecond)
		if got, want := a.peers(), "b c"; got != want {
			t.Errorf("after 1.9 s: got peers %q, want %q", got, want)
		}
		time.Sleep(1500 * time.Millisecond)
		if got, want := a.peers(), "b"; got != want {
			t.Errorf("after 3.4 s: got peers %q, want %q", got, want)
		}
		if got, want := b.history(), "+a +c -c"; got != want {
			t.Errorf("OnMember at b: got %q, want %q", got, want)
		}
		if s := a.Stats(); s.Deaths != 1 || s.Leaves != 0 || s.Peers != 1 {
			t.Errorf("got stats %+v, want 1 death, no leave, 1 peer", s)
		}
		c.bus.SetDown(false)
		time.Sleep(1100 * time.Millisecond)
		if got, want := a.peers()+"/"+c.peers(), "b c/a b"; got != want {
			t.Errorf("when it is back: got peers %q, want %q", got, want)
		}
	})
	simulate(t, "a question that waits ends and names it", func(t *testing.T, hub *membus.Hub) {
		a, _, c := join(t, hub, "a"), join(t, hub, "b"), join(t, hub, "c")
		c.bus.Freeze()
		n, took, err := a.ask(t, time.Minute, cluster.Count)
		var absent *cluster.AbsentError
		if !errors.As(err, &absent) || !slices.Equal(absent.Nodes, []string{"c (id-c)"}) || absent.Err != nil {
			t.Errorf("got error %v, want an AbsentError that names c and has no cause", err)
		}
		if n != 1 || took > 3500*time.Millisecond {
			t.Errorf("got %d answers after %v, want 1 after 3 s", n, took)
		}
		if n, took, err := a.ask(t, time.Minute, cluster.Count); n != 1 || err != nil || took > 0 {
			t.Errorf("when it is dead: got %d answers, error %v after %v, want 1 and none at once", n, err, took)
		}
	})
	simulate(t, "we were frozen ourselves", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		join(t, hub, "b")
		a.bus.Freeze()
		time.Sleep(time.Second)
		a.bus.Thaw()
		time.Sleep(time.Second)
		if got, want := a.history(), "+b"; got != want {
			t.Errorf("OnMember: got %q, want %q", got, want)
		}
	})
}

func TestRestart(t *testing.T) {
	simulate(t, "with the same id, at once", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		b.bus.SetDown(true) // killed
		b2 := join(t, hub, "b")
		if got, want := a.history(), "+b -b +b"; got != want {
			t.Errorf("OnMember: got %q, want %q", got, want)
		}
		b2.emit(t, "1")
		if got := a.received(); len(got) != 1 {
			t.Errorf("got %q of the restarted node, want its message", got)
		}
		b2.Close()
		if got := a.peers(); got != "" {
			t.Errorf("got peers %q, want none", got)
		}
	})
	simulate(t, "the id of a living node", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		bus := membus.New(hub, nil)
		defer bus.Close()
		_, err := cluster.Join(t.Context(), bus, &cluster.Options{ID: a.ID(), Logger: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), `"id-a"`) {
			t.Errorf("Join: got error %v, want one that says that the id is taken", err)
		}
	})
}

func TestRepeats(t *testing.T) {
	simulate(t, "every message comes three times", func(t *testing.T, hub *membus.Hub) {
		hub.SetFault(func(from, to, topic string) membus.Fault { return membus.Fault{Repeat: 2} })
		a, b := join(t, hub, "a"), join(t, hub, "b")
		for i := range 100 {
			a.emit(t, fmt.Sprint(i))
		}
		if got := b.received(); len(got) != 100 {
			t.Errorf("got %d operations, want 100", len(got))
		}
		if n, _, err := a.ask(t, time.Second, cluster.EmitAck); n != 2 || err != nil {
			t.Errorf("got %d answers and error %v, want 2 and none", n, err)
		}
		if got := b.Stats().Duplicates; got < 200 {
			t.Errorf("got %d duplicates, want 200 at least", got)
		}
	})
}

func TestGaps(t *testing.T) {
	simulate(t, "messages are lost", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		for i := range 10 {
			if i == 0 || i == 4 || i == 5 || i == 9 { // the first, two in the middle, the last
				hub.SetFault(func(string, string, string) membus.Fault { return membus.Fault{Drop: true} })
			}
			a.emit(t, fmt.Sprint(i))
			hub.SetFault(nil)
		}
		time.Sleep(5 * time.Second)
		if got, want := strings.Join(b.received(), " "), "0 1 2 3 4 5 6 7 8 9"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if s := b.Stats(); s.Gaps != 0 || s.Repaired != 4 {
			t.Errorf("got %d lost messages and %d repaired, want none and 4", s.Gaps, s.Repaired)
		}
		if got := a.Stats().Gaps; got != 0 {
			t.Errorf("at the sender: got %d lost messages, want none", got)
		}
	})
	simulate(t, "what could not be published comes later", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		a.emit(t, "1")
		hub.SetDown(true)
		err := a.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/"})
		if !errors.Is(err, membus.ErrDown) || !errors.Is(err, cluster.ErrDelayed) {
			t.Errorf("Tell while the bus is down: got error %v, want the bus's and ErrDelayed", err)
		}
		n, took, err := a.ask(t, time.Minute, cluster.Count)
		var absent *cluster.AbsentError
		if !errors.As(err, &absent) || !errors.Is(err, membus.ErrDown) || !slices.Equal(absent.Nodes, []string{"b (id-b)"}) || n != 0 || took > 0 {
			t.Errorf("Ask while the bus is down: got error %v after %v, want the bus's at once, naming b", err, took)
		}
		if got := a.Stats().Lost; got < 2 {
			t.Errorf("got %d messages not published, want 2 at least", got)
		}
		hub.SetDown(false)
		time.Sleep(3 * time.Second)
		a.emit(t, "2")
		if got := b.received(); !slices.Equal(got, []string{"1", "", "2"}) {
			t.Errorf("got %q, want 1, what was told while the bus was down, and 2", got)
		}
		if got, want := b.history(), "+a"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	simulate(t, "a newcomer misses nothing", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		for i := range 5 {
			a.emit(t, fmt.Sprint(i))
		}
		b := join(t, hub, "b")
		a.emit(t, "5")
		time.Sleep(5 * time.Second)
		if got, want := b.history(), "+a"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestPartition(t *testing.T) {
	simulate(t, "and heal", func(t *testing.T, hub *membus.Hub) {
		a, b, c := join(t, hub, "a"), join(t, hub, "b"), join(t, hub, "c")
		hub.Partition([]string{"a", "b"}, []string{"c"})
		a.emit(t, "1")
		time.Sleep(4 * time.Second)
		if got, want := a.peers()+"/"+b.peers()+"/"+c.peers(), "b/a/"; got != want {
			t.Errorf("apart: got peers %q, want %q", got, want)
		}
		if n, took, err := a.ask(t, time.Minute, cluster.Count); n != 1 || err != nil || took > 0 {
			t.Errorf("apart: got %d answers, error %v after %v, want 1 at once", n, err, took)
		}
		hub.Partition()
		time.Sleep(3 * time.Second)
		if got, want := a.peers()+"/"+b.peers()+"/"+c.peers(), "b c/a c/a b"; got != want {
			t.Errorf("together: got peers %q, want %q", got, want)
		}
		if got := c.received(); len(got) != 2 {
			t.Errorf("at c: got %q, want what it missed; the question, whose answers came, is its too", got)
		}
		words := strings.Fields(c.history())
		slices.Sort(words)
		if got, want := strings.Join(words, " "), "+a +a +b +b -a -b"; got != want {
			t.Errorf("at c: got %q, want %q in some order", got, want)
		}
	})
}

func TestQueue(t *testing.T) {
	simulate(t, "full", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		b := join(t, hub, "b", func(o *cluster.Options) { o.MaxQueue = 10_000 })
		open := make(chan struct{})
		b.mu.Lock()
		b.do = func(*cluster.Op, func(cluster.Answer)) { <-open }
		b.mu.Unlock()
		for range 100 {
			a.emit(t, strings.Repeat("x", 1000))
		}
		synctest.Wait()
		s := b.Stats()
		if s.Dropped < 80 || s.Waiting > 10_000 {
			t.Errorf("got %d dropped and %d bytes waiting, want over 80 and under 10,000", s.Dropped, s.Waiting)
		}
		close(open)
		time.Sleep(3 * time.Second)
		if got := len(b.received()); got != 100 {
			t.Errorf("got %d operations, want 100: what found no room is asked for again", got)
		}
		if got := b.Stats().Waiting; got != 0 {
			t.Errorf("in the end, got %d bytes waiting, want none", got)
		}
	})
	simulate(t, "answers that nobody reads", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a", func(o *cluster.Options) { o.MaxQueue = 10_000 })
		b := join(t, hub, "b")
		b.mu.Lock()
		b.do = func(_ *cluster.Op, answer func(cluster.Answer)) {
			answer(cluster.Answer{First: true, Clients: 100})
			for range 100 {
				answer(cluster.Answer{Data: make([]byte, 1000)})
			}
		}
		b.mu.Unlock()
		var absent *cluster.AbsentError
		n := 0
		for _, err := range a.Ask(t.Context(), &cluster.Op{Kind: cluster.EmitAck, Namespace: "/", Timeout: time.Second}) {
			if n++; n == 1 {
				synctest.Wait() // read slowly
			}
			errors.As(err, &absent)
		}
		if absent == nil || absent.Acks == 0 || uint64(absent.Acks) != a.Stats().Dropped {
			t.Errorf("got error %v and %d dropped answers, want an AbsentError with their number", absent, a.Stats().Dropped)
		}
	})
}

func TestUnattached(t *testing.T) {
	simulate(t, "asked and told", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		bus := membus.New(hub, nil)
		defer bus.Close()
		b, err := cluster.Join(t.Context(), bus, &cluster.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		a.emit(t, "1")
		if n, took, err := a.ask(t, time.Minute, cluster.Count); n != 1 || err != nil || took > 0 {
			t.Errorf("got %d answers, error %v after %v, want 1 at once", n, err, took)
		}
		if got := b.Stats().Unattached; got != 2 {
			t.Errorf("got %d operations without a server, want 2", got)
		}
		s := &site{}
		if err := b.Attach(s); err != nil {
			t.Errorf("Attach: %v", err)
		}
		if err := b.Attach(s); err == nil {
			t.Error("second Attach: got no error, want one")
		}
		a.emit(t, "2")
		if got := s.received(); !slices.Equal(got, []string{"2"}) {
			t.Errorf("got %q, want 2", got)
		}
	})
}

func TestTimeouts(t *testing.T) {
	simulate(t, "where the context has none", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a", func(o *cluster.Options) { o.AskTimeout = 2 * time.Second })
		b := join(t, hub, "b")
		var timeout atomic.Int64
		b.mu.Lock()
		b.do = func(op *cluster.Op, _ func(cluster.Answer)) { timeout.Store(int64(op.Timeout)) }
		b.mu.Unlock()
		for _, c := range []struct{ own, want time.Duration }{{0, 2 * time.Second}, {time.Second, time.Second}} {
			start := time.Now()
			var last error
			for _, err := range a.Ask(t.Context(), &cluster.Op{Kind: cluster.Count, Namespace: "/", Timeout: c.own}) {
				last = err
			}
			if got := time.Since(start); got != c.want || !errors.Is(last, context.DeadlineExceeded) {
				t.Errorf("Timeout %v: got error %v after %v, want the deadline after %v", c.own, last, got, c.want)
			}
			if got := time.Duration(timeout.Load()); got != c.want {
				t.Errorf("Timeout %v: the other node was told %v, want %v", c.own, got, c.want)
			}
		}
	})
}

func TestOptions(t *testing.T) {
	var hub membus.Hub
	for name, o := range map[string]*cluster.Options{
		"ID":        {ID: "a b"},
		"DeadAfter": {Heartbeat: time.Second, DeadAfter: time.Second},
	} {
		bus := membus.New(&hub, nil)
		if n, err := cluster.Join(t.Context(), bus, o); err == nil || !strings.Contains(err.Error(), "Options."+name) {
			n.Close()
			t.Errorf("Join: got error %v, want one that names Options.%s", err, name)
		}
		bus.Close()
	}
	down := membus.New(&hub, nil)
	defer down.Close()
	down.SetDown(true)
	if _, err := cluster.Join(t.Context(), down, nil); !errors.Is(err, membus.ErrDown) {
		t.Errorf("Join on a bus that is down: got error %v, want the bus's", err)
	}
}

func TestWrongVerb(t *testing.T) {
	simulate(t, "tell and ask", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		if err := a.Tell(t.Context(), &cluster.Op{Kind: cluster.Fetch}); err == nil {
			t.Error("Tell of a question: got no error, want one")
		}
		if _, _, err := a.ask(t, time.Second, cluster.Emit); err == nil {
			t.Error("Ask of what has no answers: got no error, want one")
		}
	})
}

func BenchmarkTell(b *testing.B) {
	var hub membus.Hub
	var done sync.WaitGroup
	nodes := make([]*cluster.Node, 2)
	for i := range nodes {
		bus := membus.New(&hub, &membus.Options{MaxQueue: 1 << 40})
		defer bus.Close()
		n, err := cluster.Join(b.Context(), bus, &cluster.Options{Settle: -1, MaxQueue: 1 << 40})
		if err != nil {
			b.Fatal(err)
		}
		defer n.Close()
		nodes[i] = n
	}
	nodes[1].Attach(counting{&done})
	op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: make([]byte, 256)}
	b.ReportAllocs()
	for b.Loop() {
		done.Add(1)
		if err := nodes[0].Tell(b.Context(), op); err != nil {
			b.Fatal(err)
		}
	}
	done.Wait()
}

type counting struct{ done *sync.WaitGroup }

func (c counting) Do(*cluster.Op, func(cluster.Answer)) { c.done.Done() }
