package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/sid"
)

// A tollBus counts what is published and what is subscribed to, and can delay or refuse subscriptions.
type tollBus struct {
	cluster.Bus
	mu        sync.Mutex
	topics    map[string]int // published on each
	subs      map[string]int // open now
	opened    int
	delay     time.Duration
	refuse    error
	busy, max int
}

func (b *tollBus) Publish(ctx context.Context, topic string, msg []byte) error {
	b.mu.Lock()
	b.topics[topic]++
	b.mu.Unlock()
	return b.Bus.Publish(ctx, topic, msg)
}

func (b *tollBus) Subscribe(ctx context.Context, topic string, deliver func(string, []byte)) (cluster.Subscription, error) {
	b.mu.Lock()
	delay, refuse := b.delay, b.refuse
	b.busy++
	b.max = max(b.max, b.busy)
	b.mu.Unlock()
	defer func() { b.mu.Lock(); b.busy--; b.mu.Unlock() }()
	if delay > 0 {
		time.Sleep(delay)
	}
	if refuse != nil {
		return nil, refuse
	}
	s, err := b.Bus.Subscribe(ctx, topic, deliver)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.subs[topic]++
	b.opened++
	b.mu.Unlock()
	return tollSub{s, b, topic}, nil
}

type tollSub struct {
	cluster.Subscription
	b     *tollBus
	topic string
}

func (s tollSub) Close() error {
	s.b.mu.Lock()
	if s.b.subs[s.topic]--; s.b.subs[s.topic] == 0 {
		delete(s.b.subs, s.topic)
	}
	s.b.mu.Unlock()
	return s.Subscription.Close()
}

// rooms returns how many rooms are subscribed to.
func (b *tollBus) rooms() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for topic := range b.subs {
		if strings.Contains(topic, ".room.") {
			n++
		}
	}
	return n
}

func (b *tollBus) set(delay time.Duration, refuse error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delay, b.refuse = delay, refuse
}

func (b *tollBus) published(part string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for topic, k := range b.topics {
		if strings.Contains(topic, part) {
			n += k
		}
	}
	return n
}

// router makes a node that routes.
func router(t *testing.T, hub *membus.Hub, name string, change ...func(*cluster.Options)) (*site, *tollBus) {
	t.Helper()
	s := &site{bus: membus.New(hub, &membus.Options{Name: name})}
	b := &tollBus{Bus: s.bus, topics: map[string]int{}, subs: map[string]int{}}
	o := &cluster.Options{ID: "id-" + name, Name: name, RouteRooms: true, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(o)
	}
	var err error
	if s.Node, err = cluster.Join(t.Context(), b, o); err != nil {
		t.Fatal(err)
	}
	if err := s.Attach(s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		s.bus.Close()
		if got := b.rooms(); got != 0 {
			t.Errorf("%s: got %d rooms subscribed to after Close, want none", name, got)
		}
	})
	return s, b
}

func (s *site) emitTo(t *testing.T, data string, rooms ...string) {
	t.Helper()
	op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: []byte(data), Selector: cluster.Selector{Rooms: rooms}}
	if err := s.Tell(t.Context(), op); err != nil {
		t.Fatal(err)
	}
}

func enter(t *testing.T, s *site, rooms ...string) {
	t.Helper()
	if err := s.Enter(t.Context(), "/", rooms...); err != nil {
		t.Fatal(err)
	}
}

func got(s *site) string { return strings.Join(s.received(), " ") }

func TestRouting(t *testing.T) {
	simulate(t, "goes where members are", func(t *testing.T, hub *membus.Hub) {
		a, _ := router(t, hub, "a")
		b, _ := router(t, hub, "b")
		c, _ := router(t, hub, "c")
		synctest.Wait()
		for i := range 20 {
			room := fmt.Sprint("r", i)
			enter(t, b, room)
			a.emitTo(t, room, room)
		}
		a.emitTo(t, "two", "r1", "r2")
		a.emitTo(t, "all")
		if got := len(b.received()); got != 22 {
			t.Errorf("where members are: got %d operations, want 22", got)
		}
		if got := got(c); got != "two all" {
			t.Errorf("elsewhere: got %q, want what is for several rooms and for all", got)
		}
		time.Sleep(time.Minute)
		if s := b.Stats(); s.Gaps != 0 || s.Duplicates != 0 {
			t.Errorf("got %d gaps and %d duplicates, want none", s.Gaps, s.Duplicates)
		}
	})
	simulate(t, "only when all nodes route", func(t *testing.T, hub *membus.Hub) {
		a, _ := router(t, hub, "a")
		b, _ := router(t, hub, "b")
		c := join(t, hub, "c")
		synctest.Wait()
		a.emitTo(t, "1", "r")
		if got(b) != "1" || got(c) != "1" {
			t.Errorf("got %q and %q, want 1 at both", got(b), got(c))
		}
		c.Close()
		synctest.Wait()
		a.emitTo(t, "2", "r")
		if got(b) != "1" {
			t.Errorf("got %q, want nothing more", got(b))
		}
		if join(t, hub, "d").Routes() {
			t.Error("Routes: got true without RouteRooms")
		}
	})
	simulate(t, "a socket's own room goes to its owner", func(t *testing.T, hub *membus.Hub) {
		a, bus := router(t, hub, "a")
		b, bbus := router(t, hub, "b")
		c, _ := router(t, hub, "c")
		synctest.Wait()
		enter(t, b, sid.New(b.Tag()))
		if n := bbus.rooms(); n != 0 {
			t.Errorf("got %d rooms subscribed to, want none for a socket's own", n)
		}
		a.emitTo(t, "1", sid.New(b.Tag()))
		synctest.Wait()                  // it is another topic
		a.emitTo(t, "2", sid.New(12345)) // nobody's
		if got(b) != "1 2" || got(c) != "2" {
			t.Errorf("got %q and %q, want 1 at its owner and 2 everywhere", got(b), got(c))
		}
		before := bus.published("")
		a.emitTo(t, "3", sid.New(a.Tag()))
		if n := bus.published("") - before; n != 0 {
			t.Errorf("got %d messages for our own socket, want none", n)
		}
	})
	simulate(t, "a room that is named like somebody's socket", func(t *testing.T, hub *membus.Hub) {
		a, _ := router(t, hub, "a")
		b, _ := router(t, hub, "b")
		c, _ := router(t, hub, "c")
		synctest.Wait()
		room := sid.New(b.Tag())
		enter(t, c, room)
		synctest.Wait()
		a.emitTo(t, "1", room)
		b.emitTo(t, "2", room)
		if got(b) != "1" || got(c) != "1 2" {
			t.Errorf("got %q and %q, want 1 at both, and 2", got(b), got(c))
		}
		c.Exit("/", room)
		time.Sleep(2 * time.Second)
		a.emitTo(t, "3", room)
		if got(b) != "1 3" || got(c) != "1 2" {
			t.Errorf("when it is left: got %q and %q, want 3 at the owner only", got(b), got(c))
		}
		late := sid.New(sid.TagOf("id-late")) // whose owner comes later
		enter(t, c, late)
		d, _ := router(t, hub, "late")
		time.Sleep(2 * time.Second)
		a.emitTo(t, "4", late)
		if got(d) != "4" || !strings.HasSuffix(got(c), "4") {
			t.Errorf("got %q and %q, want 4 at both", got(d), got(c))
		}
	})
	simulate(t, "what is lost on the way comes again, in order", func(t *testing.T, hub *membus.Hub) {
		a, _ := router(t, hub, "a")
		b, _ := router(t, hub, "b")
		synctest.Wait()
		own := sid.New(b.Tag())
		enter(t, b, "r", own)
		time.Sleep(2 * time.Second)
		count := 0
		hub.SetFault(func(from, to, topic string) membus.Fault {
			if !strings.Contains(topic, ".room.") && !strings.Contains(topic, ".node.") {
				return membus.Fault{}
			}
			count++
			return membus.Fault{Drop: count%3 == 0}
		})
		for i := range 100 {
			a.emitTo(t, fmt.Sprint("r", i), "r")
			a.emitTo(t, fmt.Sprint("s", i), own)
		}
		time.Sleep(time.Minute)
		next := map[byte]int{}
		for _, data := range b.received() {
			if want := fmt.Sprint(string(data[0]), next[data[0]]); data != want {
				t.Errorf("got %s, want %s", data, want)
			}
			next[data[0]]++
		}
		if s := b.Stats(); next['r'] != 100 || next['s'] != 100 || s.Gaps != 0 {
			t.Errorf("got %d and %d, and %d gaps, want 100 each and none", next['r'], next['s'], s.Gaps)
		}
	})
	simulate(t, "what was just told to join is not missed", func(t *testing.T, hub *membus.Hub) {
		a, _ := router(t, hub, "a")
		b, bbus := router(t, hub, "b")
		synctest.Wait()
		bbus.set(2*time.Second, nil)
		var tasks sync.WaitGroup
		b.do = func(op *cluster.Op, _ func(cluster.Answer)) {
			if op.Kind == cluster.JoinRooms {
				tasks.Go(func() { b.Enter(t.Context(), "/", op.Names...) })
			}
		}
		if err := a.Tell(t.Context(), &cluster.Op{Kind: cluster.JoinRooms, Namespace: "/", Names: []string{"r"}}); err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			a.emitTo(t, fmt.Sprint(i), "r")
			time.Sleep(time.Second / 2)
		}
		tasks.Wait()
		if n := len(b.received()); n != 31 {
			t.Errorf("got %q, want all 30", got(b))
		}
	})
}

func TestEnter(t *testing.T) {
	simulate(t, "many rooms at once", func(t *testing.T, hub *membus.Hub) {
		s, bus := router(t, hub, "a")
		bus.set(10*time.Millisecond, nil)
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				rooms := make([]string, 200)
				for k := range rooms {
					rooms[k] = fmt.Sprint("r", (i/2)*200+k) // each twice
				}
				enter(t, s, rooms...)
			})
		}
		wg.Wait()
		if took := time.Since(start); bus.rooms() != 1000 || bus.max > 65 || took > 200*time.Millisecond {
			t.Errorf("got %d rooms, %d at a time, in %v; want 1000, bounded, in 160 ms", bus.rooms(), bus.max, took)
		}
		for i := range 1000 {
			s.Exit("/", fmt.Sprint("r", i))
		}
		time.Sleep(5 * time.Second)
		if n := bus.rooms(); n != 1000 {
			t.Errorf("got %d rooms, want all, for there is a member in each", n)
		}
		for i := range 1000 {
			s.Exit("/", fmt.Sprint("r", i))
		}
		time.Sleep(5 * time.Second)
		if n := bus.rooms(); n != 0 {
			t.Errorf("got %d rooms, want none", n)
		}
	})
	simulate(t, "to and fro costs nothing", func(t *testing.T, hub *membus.Hub) {
		s, bus := router(t, hub, "a")
		opened := bus.opened
		for range 100 {
			enter(t, s, "r")
			s.Exit("/", "r")
			time.Sleep(500 * time.Millisecond)
		}
		if n := bus.opened - opened; n != 1 {
			t.Errorf("got %d subscriptions, want 1", n)
		}
		time.Sleep(2 * time.Second)
		if n := bus.rooms(); n != 0 {
			t.Errorf("got %d rooms, want none", n)
		}
		s.Exit("/", "r", "never entered")
		enter(t, s, "r")
		if n := bus.rooms(); n != 1 {
			t.Errorf("got %d rooms, want 1", n)
		}
	})
	simulate(t, "an error, and it goes on trying", func(t *testing.T, hub *membus.Hub) {
		a, _ := router(t, hub, "a")
		s, bus := router(t, hub, "b")
		synctest.Wait()
		away := errors.New("away")
		bus.set(0, away)
		if err := s.Enter(t.Context(), "/", "r"); !errors.Is(err, away) {
			t.Errorf("got %v, want what the bus said", err)
		}
		bus.set(0, nil)
		time.Sleep(3 * time.Second)
		a.emitTo(t, "1", "r")
		if got(s) != "1" {
			t.Errorf("got %q, want 1", got(s))
		}
		bus.set(0, away)
		if err := s.Enter(t.Context(), "/", "x"); err == nil {
			t.Error("got no error")
		}
		s.Exit("/", "x")
		time.Sleep(3 * time.Second)
		bus.set(0, nil)
		time.Sleep(3 * time.Second)
		if n := bus.rooms(); n != 1 {
			t.Errorf("got %d rooms, want 1", n)
		}
	})
	simulate(t, "the caller's time, and the node's", func(t *testing.T, hub *membus.Hub) {
		s, bus := router(t, hub, "a")
		bus.set(time.Second, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := s.Enter(ctx, "/", "r"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
		done := make(chan error)
		go func() { done <- s.Enter(context.Background(), "/", "r", "q") }()
		synctest.Wait()
		go s.Close()
		if err := <-done; !errors.Is(err, cluster.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
	simulate(t, "entering while the subscription ends", func(t *testing.T, hub *membus.Hub) {
		a, _ := router(t, hub, "a")
		b, _ := router(t, hub, "b")
		synctest.Wait()
		for i := range 50 {
			enter(t, b, "r")
			a.emitTo(t, "x", "r")
			synctest.Wait()
			b.Exit("/", "r")
			time.Sleep(time.Second + time.Duration(i)*10*time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		if n, s := len(b.received()), b.Stats(); n != 50 || s.Gaps != 0 || s.Duplicates != 0 {
			t.Errorf("got %d of 50, %d gaps, %d duplicates", n, s.Gaps, s.Duplicates)
		}
	})
}

// Who has no time left does not spoil it for the others.
func TestOpenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newOldCluster(t, old{})
		b := &tollBus{Bus: countedBus{c.a.bus, &c.counter, old{}}, topics: map[string]int{}, subs: map[string]int{}}
		bus := struct {
			*tollBus
			cluster.Speaker
		}{b, countedBus{c.a.bus, &c.counter, old{}}}
		n, err := cluster.Join(t.Context(), bus, &cluster.Options{ID: "id-x"})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		b.set(time.Second, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		first := make(chan error)
		go func() { first <- n.Open(ctx, "/x") }()
		synctest.Wait()
		if err := n.Open(t.Context(), "/x"); err != nil {
			t.Errorf("the second: got %v, want it open", err)
		}
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the first: got %v, want its context's error", err)
		}
	})
}
