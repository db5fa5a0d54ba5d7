package cluster_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/sid"
)

// dropping runs f while the hub drops what goes from one bus to others.
func dropping(hub *membus.Hub, from string, f func()) {
	hub.SetFault(func(sender, to, topic string) membus.Fault { return membus.Fault{Drop: sender == from} })
	f()
	hub.SetFault(nil)
}

func check(t *testing.T, what string, s *site, want string) {
	t.Helper()
	if got := strings.Join(s.received(), " "); got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestRepair(t *testing.T) {
	simulate(t, "what is behind a hole waits for it", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		a.emit(t, "1")
		dropping(hub, "a", func() { a.emit(t, "2") })
		a.emit(t, "3")
		check(t, "at once", b, "1")
		time.Sleep(100 * time.Millisecond)
		check(t, "a moment later", b, "1 2 3")
		if s := a.Stats(); s.Resent != 1 || s.Kept == 0 {
			t.Errorf("at the sender: got %d sent again and %d bytes kept, want 1 and some", s.Resent, s.Kept)
		}
	})
	simulate(t, "the sender keeps nothing", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a", func(o *cluster.Options) { o.Resend = -1 })
		b := join(t, hub, "b")
		a.emit(t, "1")
		dropping(hub, "a", func() { a.emit(t, "2") })
		a.emit(t, "3")
		time.Sleep(1900 * time.Millisecond)
		check(t, "after 1.9 s", b, "1")
		time.Sleep(200 * time.Millisecond)
		check(t, "after 2.1 s", b, "1 3")
		if got, want := b.history(), "+a gap:id-a:2-2"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		hub.SetDown(true)
		if err := a.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/"}); err == nil || errors.Is(err, cluster.ErrDelayed) {
			t.Errorf("Tell while the bus is down: got error %v, want one that does not wrap ErrDelayed", err)
		}
	})
	simulate(t, "it keeps a part", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a", func(o *cluster.Options) { o.Resend = 4000 })
		b := join(t, hub, "b")
		hub.SetDown(true)
		for i := range 100 {
			a.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: fmt.Appendf(nil, "%03d%s", i, strings.Repeat("x", 50))})
		}
		hub.SetDown(false)
		time.Sleep(5 * time.Second)
		got, s := b.received(), b.Stats()
		if len(got) < 15 || len(got)+int(s.Gaps) != 100 || !strings.HasPrefix(got[len(got)-1], "099") || !slices.IsSorted(got) {
			t.Errorf("got %d operations and %d lost, want the last ones, 100 together: %q", len(got), s.Gaps, got)
		}
		if kept := a.Stats().Kept; kept > 4000 {
			t.Errorf("got %d bytes kept, want 4000 at most", kept)
		}
	})
	simulate(t, "what comes after it was given up", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a", func(o *cluster.Options) { o.Resend = -1 })
		b := join(t, hub, "b")
		hub.SetFault(func(from, _, _ string) membus.Fault {
			return membus.Fault{Delay: 3 * time.Second, Aside: from == "a"}
		})
		a.emit(t, "1")
		hub.SetFault(nil)
		a.emit(t, "2")
		time.Sleep(4 * time.Second)
		check(t, "in the end", b, "2")
		if s := b.Stats(); s.Gaps != 1 || s.Late != 1 {
			t.Errorf("got %d lost and %d late, want 1 and 1", s.Gaps, s.Late)
		}
	})
	simulate(t, "a sender that dies", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		dropping(hub, "a", func() { a.emit(t, "1") })
		a.emit(t, "2")
		a.bus.SetDown(true)
		time.Sleep(2100 * time.Millisecond)
		check(t, "after 2.1 s", b, "2")
		if got := b.Stats().Gaps; got != 1 {
			t.Errorf("got %d lost, want 1", got)
		}
	})
	simulate(t, "a long outage", func(t *testing.T, hub *membus.Hub) {
		a, b, c := join(t, hub, "a"), join(t, hub, "b"), join(t, hub, "c")
		c.bus.SetDown(true) // c only does not hear; for a and b the bus is away later
		const count = 20_000
		for i := range count {
			if i == count/2 {
				c.bus.SetDown(false)
				hub.SetDown(true)
			}
			err := a.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: fmt.Appendf(nil, "%05d", i)})
			if (err != nil) != (i >= count/2) {
				t.Fatalf("Tell %d: got error %v", i, err)
			}
			if i%100 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		hub.SetDown(false)
		time.Sleep(10 * time.Second)
		for _, s := range []*site{b, c} {
			if got := s.received(); len(got) != count || !slices.IsSorted(got) {
				t.Errorf("at %s: got %d operations, sorted %v, want all %d in order; %+v", s.Name(), len(got), slices.IsSorted(got), count, s.Stats())
			}
		}
	})
	simulate(t, "large ones", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		dropping(hub, "a", func() {
			for i := range 10 {
				a.emit(t, fmt.Sprint(i)+strings.Repeat("x", 200_000*(i%3)))
			}
		})
		time.Sleep(3 * time.Second)
		if got := b.received(); len(got) != 10 || !slices.IsSorted(got) || len(got[2]) != 400_001 {
			t.Errorf("got %d operations, want 10 in order", len(got))
		}
	})
	simulate(t, "a publisher cannot be asked", func(t *testing.T, hub *membus.Hub) {
		b := join(t, hub, "b")
		bus := membus.New(hub, &membus.Options{Name: "p"})
		defer bus.Close()
		p := cluster.NewPublisher(bus, nil)
		tell := func(data string) {
			p.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: []byte(data)})
		}
		tell("1")
		dropping(hub, "p", func() { tell("2") })
		tell("3")
		time.Sleep(600 * time.Millisecond)
		check(t, "after 0.6 s", b, "1 3")
		if got, want := b.history(), "gap:emitter:2-2"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	simulate(t, "no repair", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		b := join(t, hub, "b", func(o *cluster.Options) { o.RepairWait = -1 })
		dropping(hub, "a", func() { a.emit(t, "1") })
		a.emit(t, "2")
		check(t, "at once", b, "2")
		time.Sleep(1100 * time.Millisecond)
		if got, want := b.history(), "+a gap:id-a:1-1"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	simulate(t, "a node that closes", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		a.emit(t, "1")
		dropping(hub, "a", func() { a.emit(t, "2") })
		a.Close()
		time.Sleep(3 * time.Second)
		if got, want := b.history(), "+a -a gap:id-a:2-2"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestForged has somebody announce what is not true.
func TestForged(t *testing.T) {
	simulate(t, "a number too high", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		a.emit(t, "1")
		spy := membus.New(hub, nil)
		defer spy.Close()
		d := cluster.Native("")
		for i := range uint64(3000) {
			m := &cluster.Message{Kind: cluster.Heartbeat, From: fmt.Sprint("x", i%2000), Life: i, Number: 1<<61 - i, Member: &cluster.Member{}}
			topic, data, err := d.Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			spy.Publish(t.Context(), topic, data)
			m = &cluster.Message{Kind: cluster.Again, From: fmt.Sprint("x", i%2000), Life: i, To: "id-b", Spans: []cluster.Span{{Lane: "", First: 1, Last: math.MaxUint64}}}
			if topic, data, err = d.Encode(m); err != nil {
				t.Fatal(err)
			}
			spy.Publish(t.Context(), topic, data)
		}
		a.emit(t, "2")
		time.Sleep(5 * time.Second)
		check(t, "from an honest node", b, "1 2")
		if got := b.Stats().Forgotten; got < 1900 {
			t.Errorf("got %d senders forgotten, want 1900 at least", got)
		}
	})
}

// TestForgedNumbers has somebody say that another has said much more than it has.
func TestForgedNumbers(t *testing.T) {
	const high = 1 << 61
	for _, c := range []struct {
		name  string
		join  func(t *testing.T, hub *membus.Hub, name string) *site
		forge cluster.Message
	}{
		{"told", joinPlain, cluster.Message{Kind: cluster.Tell, Number: high, Op: emitOp("forged")}},
		{"announced", joinPlain, cluster.Message{Kind: cluster.Heartbeat, Number: high, Member: &cluster.Member{}}},
		{"announced, of a lane that the sender does not know", joinBy, cluster.Message{
			Kind: cluster.Heartbeat, Member: &cluster.Member{}, Marks: []cluster.Mark{{Lane: "/", Next: high}},
		}},
	} {
		simulate(t, c.name, func(t *testing.T, hub *membus.Hub) {
			spy := membus.New(hub, nil)
			defer spy.Close()
			d := cluster.Native("")
			var life atomic.Uint64 // of a
			if _, err := spy.Subscribe(t.Context(), "atoll.all", func(topic string, data []byte) {
				if m, err := d.Decode("", topic, data); err == nil && m.From == "id-a" {
					life.Store(m.Life)
				}
			}); err != nil {
				t.Fatal(err)
			}
			a, b := c.join(t, hub, "a"), c.join(t, hub, "b")
			time.Sleep(2 * time.Second)
			m := c.forge
			m.From, m.Life = "id-a", life.Load()
			topic, data, err := d.Encode(&m)
			if err != nil {
				t.Fatal(err)
			}
			if err := spy.Publish(t.Context(), topic, data); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			a.emit(t, "1")
			dropping(hub, "a", func() { a.emit(t, "2") })
			time.Sleep(5 * time.Second)
			check(t, "in the end", b, "1 2")
			if got := b.Stats(); got.Held != 0 || got.Gaps != 0 {
				t.Errorf("got %d bytes held and %d messages lost, want none", got.Held, got.Gaps)
			}
		})
	}
}

func joinPlain(t *testing.T, hub *membus.Hub, name string) *site { return join(t, hub, name) }

// byNamespace is a dialect like the official ones: one lane for each namespace.
type byNamespace struct{ cluster.Dialect }

func (byNamespace) Lane(m *cluster.Message) string { return m.Namespace }

func joinBy(t *testing.T, hub *membus.Hub, name string) *site {
	t.Helper()
	s := &site{bus: membus.New(hub, &membus.Options{Name: name})}
	n, err := cluster.Join(t.Context(), speaker{s.bus, byNamespace{cluster.Native("")}}, &cluster.Options{
		ID: "id-" + name, Name: name, Logger: slog.New(slog.DiscardHandler),
		OnGap: func(from string, first, last uint64) { s.note("gap:%s:%d-%d", from, first, last) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Node = n
	if err := errors.Join(n.Attach(s), n.Open(t.Context(), "/"), n.Open(t.Context(), "/x")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		s.bus.Close()
	})
	return s
}

func TestLanes(t *testing.T) {
	tell := func(t *testing.T, s *site, nsp, data string) {
		t.Helper()
		if err := s.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: nsp, Data: []byte(data)}); err != nil && !errors.Is(err, cluster.ErrDelayed) {
			t.Fatal(err)
		}
	}
	simulate(t, "the first and the last messages of each", func(t *testing.T, hub *membus.Hub) {
		a, b := joinBy(t, hub, "a"), joinBy(t, hub, "b")
		time.Sleep(2 * time.Second) // b knows what a has said: nothing
		dropping(hub, "a", func() {
			tell(t, a, "/", "1")
			tell(t, a, "/x", "x1")
		})
		tell(t, a, "/", "2")
		time.Sleep(3 * time.Second)
		got := b.received()
		slices.Sort(got)
		if want := "1 2 x1"; strings.Join(got, " ") != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if i := slices.Index(b.received(), "1"); i > slices.Index(b.received(), "2") {
			t.Errorf("got %q, want 1 before 2", b.received())
		}
	})
	simulate(t, "one does not wait for another", func(t *testing.T, hub *membus.Hub) {
		a, b := joinBy(t, hub, "a"), joinBy(t, hub, "b")
		time.Sleep(2 * time.Second)
		dropping(hub, "a", func() { tell(t, a, "/", "1") })
		tell(t, a, "/", "2")
		tell(t, a, "/x", "x1")
		check(t, "at once", b, "x1")
		time.Sleep(time.Second)
		check(t, "then", b, "x1 1 2")
	})
	simulate(t, "an outage", func(t *testing.T, hub *membus.Hub) {
		a, b := joinBy(t, hub, "a"), joinBy(t, hub, "b")
		time.Sleep(2 * time.Second)
		hub.SetDown(true)
		tell(t, a, "/", "1")
		time.Sleep(4 * time.Second)
		tell(t, a, "/", "2")
		hub.SetDown(false)
		time.Sleep(3 * time.Second)
		check(t, "then", b, "1 2")
		if got := b.history(); got != "" {
			t.Errorf("got %q, want no gap", got)
		}
	})
	simulate(t, "a namespace that is opened later", func(t *testing.T, hub *membus.Hub) {
		a, b := joinBy(t, hub, "a"), joinBy(t, hub, "b")
		for i := range 5 {
			tell(t, a, "/y", fmt.Sprint(i))
		}
		b.received()
		if err := b.CloseNamespace("/y"); err != nil {
			t.Fatal(err)
		}
		if err := b.Open(t.Context(), "/y"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if got := b.history(); got != "" {
			t.Errorf("got %q, want no gap", got)
		}
	})
}

func TestRoutedLanes(t *testing.T) {
	routes := func(o *cluster.Options) { o.RouteRooms = true }
	tell := func(t *testing.T, s *site, room, data string) {
		t.Helper()
		if err := s.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/", Selector: cluster.Selector{Rooms: []string{room}}, Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	simulate(t, "the last message of a room", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a", routes), join(t, hub, "b", routes)
		if err := b.Enter(t.Context(), "/", "r"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		tell(t, a, "r", "1")
		dropping(hub, "a", func() { tell(t, a, "r", "2") })
		time.Sleep(4 * time.Second)
		check(t, "in the end", b, "1 2")
	})
	simulate(t, "the first messages of a room", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a", routes), join(t, hub, "b", routes)
		if err := b.Enter(t.Context(), "/", "r", "only"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		dropping(hub, "a", func() {
			tell(t, a, "r", "1")
			tell(t, a, "r", "2")
		})
		tell(t, a, "r", "3")
		time.Sleep(time.Second)
		dropping(hub, "a", func() { tell(t, a, "only", "4") })
		time.Sleep(4 * time.Second)
		check(t, "in the end", b, "1 2 3 4")
	})
	simulate(t, "who enters when there were some", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a", routes), join(t, hub, "b", routes)
		time.Sleep(5 * time.Second)
		tell(t, a, "r", "before")
		time.Sleep(5 * time.Second)
		if err := b.Enter(t.Context(), "/", "r"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		tell(t, a, "r", "1")
		time.Sleep(100 * time.Millisecond)
		check(t, "soon", b, "1")
		time.Sleep(4 * time.Second)
		check(t, "in the end", b, "1")
	})
	simulate(t, "for one socket", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a", routes), join(t, hub, "b", routes)
		time.Sleep(5 * time.Second)
		room := sid.New(b.Tag())
		dropping(hub, "a", func() { tell(t, a, room, "1") })
		tell(t, a, room, "2")
		dropping(hub, "a", func() { tell(t, a, room, "3") })
		time.Sleep(4 * time.Second)
		check(t, "in the end", b, "1 2 3")
	})
	simulate(t, "a room that is left and entered again", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a", routes), join(t, hub, "b", routes)
		time.Sleep(5 * time.Second)
		for i := range 3 {
			if err := b.Enter(t.Context(), "/", "r"); err != nil {
				t.Fatal(err)
			}
			tell(t, a, "r", fmt.Sprint(i))
			synctest.Wait()
			b.Exit("/", "r")
			time.Sleep(2 * time.Second)
			for range 10 {
				tell(t, a, "r", "nobody is there")
			}
			time.Sleep(2 * time.Second)
		}
		time.Sleep(10 * time.Second)
		check(t, "in the end", b, "0 1 2")
		if got := b.Stats().Gaps; got != 0 {
			t.Errorf("got %d lost, want none", got)
		}
	})
}

// TestSlowRepair has a node miss much, and every message take longer than a question is waited for: what is asked for in vain
// for now is not asked for, and sent, many times over.
func TestSlowRepair(t *testing.T) {
	simulate(t, "a slow medium", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		var deaf atomic.Bool
		deaf.Store(true)
		hub.SetFault(func(from, to, topic string) membus.Fault {
			return membus.Fault{Drop: deaf.Load() && from == "a" && to == "b", Delay: 400 * time.Millisecond}
		})
		const count = 3000
		big := strings.Repeat("x", 2000)
		for i := range count {
			a.emit(t, fmt.Sprintf("%d %s", i, big))
		}
		deaf.Store(false)
		time.Sleep(3 * time.Minute)
		if got := len(b.received()); got != count {
			t.Errorf("got %d messages, want %d", got, count)
		}
		if got := a.Stats().Resent; got > 3*count {
			t.Errorf("got %d messages sent again, want %d, and not more than three times as many", got, count)
		}
	})
}
