package cluster_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

var (
	modelSeed = flag.Uint64("model.seed", 0, "the one run of TestModel that is wanted")
	modelRuns = flag.Int("model.runs", 3000, "how many runs of TestModel are made")
	modelTime = flag.Duration("model.time", 15*time.Second, "after which TestModel makes no further runs")
)

// TestModel puts small clusters through random faults, and checks what doc.go promises: order of each
// goroutine, nothing twice, delivered + lost = sent, questions that are answered or name who is missing.
func TestModel(t *testing.T) { testModel(t, aBus, *modelTime) }

// TestModelLanes does it with a format that has the lanes of the official ones.
func TestModelLanes(t *testing.T) { testModel(t, lanes, *modelTime/3) }

// TestModelLog does it on a log. There, what living nodes tell is delivered, all of it.
func TestModelLog(t *testing.T) { testModel(t, aLog, *modelTime/3) }

// TestModelRooms does it with what is routed to rooms, which have lanes of their own.
func TestModelRooms(t *testing.T) { testModel(t, rooms, *modelTime/3) }

// A medium is what carries a model's cluster.
type medium int

const (
	aBus medium = iota
	lanes
	aLog
	rooms
)

func testModel(t *testing.T, on medium, limit time.Duration) {
	first, runs := uint64(1), *modelRuns
	if testing.Short() {
		runs = min(runs, 200)
	}
	if *modelSeed != 0 {
		first, runs = *modelSeed, 1
	}
	var total modelSums
	made := 0
	for start, seed := time.Now(), first; seed < first+uint64(runs) && time.Since(start) < limit; seed++ {
		made++
		synctest.Test(t, func(t *testing.T) { newModel(t, seed, on).run(&total) })
		if t.Failed() {
			t.Fatalf("to run it again: go test ./cluster -run %s$ -model.seed=%d", t.Name(), seed)
		}
	}
	t.Logf("%d runs: %+v", made, total)
	if made >= 100 && (total.Repaired == 0 && on != aLog || total.Delayed == 0 || total.Duplicates == 0 || total.Asks == total.Complete && on != rooms) {
		t.Errorf("got %+v, want some of everything: the faults are too weak", total)
	}
}

type modelSums struct {
	Sent, Delivered, Lost, Repaired, Duplicates, Late, Delayed int
	Asks, Complete                                             int
}

// A model is one run: a hub with faults, and actors on it.
type model struct {
	t    *testing.T
	seed uint64
	on   medium
	hub  *membus.Hub

	mu     sync.Mutex
	rand   *rand.Rand // for what the chaos does
	links  map[string]uint64
	actors []*actor // those that were killed or left, too
	calm   bool
	drop   int // of 100 messages
	sums   modelSums

	talkers sync.WaitGroup
	stop    chan struct{}
}

// An actor is a node, what it said and what it heard.
type actor struct {
	*cluster.Node
	m    *model
	bus  *membus.Bus
	gone bool // killed or closed
	kept bool // it was there from the beginning

	mu       sync.Mutex
	sent     int // Tells, and questions that were published
	unsaid   int // questions that were not: others may report them as lost, or not
	from     map[string]*tale
	problems []string
}

// A tale is what one actor heard of another.
type tale struct {
	seen      int // how much the other had said when it became a member
	delivered int
	lost      int
	last      map[string]int // of each goroutine
}

func newModel(t *testing.T, seed uint64, on medium) *model {
	return &model{
		t: t, seed: seed, on: on, hub: new(membus.Hub), rand: rand.New(rand.NewPCG(seed, 7)),
		links: make(map[string]uint64), calm: true, stop: make(chan struct{}),
	}
}

func (m *model) intN(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rand.IntN(n)
}

// fault decides what happens to a message: the k-th on its way has the same fate in each run of a seed.
func (m *model) fault(from, to, topic string) membus.Fault {
	m.mu.Lock()
	defer m.mu.Unlock()
	link := from + ">" + to + ":" + topic
	m.links[link]++
	if m.calm {
		return membus.Fault{}
	}
	h := m.links[link]
	for i := range len(link) {
		h = h*31 + uint64(link[i])
	}
	r := rand.New(rand.NewPCG(m.seed, h))
	var f membus.Fault
	switch x := r.IntN(100); {
	case x < m.drop:
		f.Drop = true
	case x < m.drop+5:
		f.Repeat = 1 + r.IntN(2)
	case x < m.drop+10:
		f.Delay = time.Duration(r.IntN(100)) * time.Millisecond
	case x < m.drop+20:
		f.Delay, f.Aside = time.Duration(r.IntN(300))*time.Millisecond, true
	}
	return f
}

// join adds an actor. It returns nil where the bus does not let it in.
func (m *model) join() *actor {
	m.mu.Lock()
	id := fmt.Sprintf("n%d", len(m.actors))
	m.mu.Unlock()
	a := &actor{m: m, from: make(map[string]*tale)}
	var bus cluster.Bus
	o := membus.Options{Name: id}
	switch m.on {
	case aLog:
		l := membus.NewLog(m.hub, &membus.LogOptions{Options: o})
		a.bus, bus = l.Bus, l
	case lanes:
		a.bus = membus.New(m.hub, &o)
		bus = speaker{a.bus, byNamespace{cluster.Native("")}}
	default:
		a.bus = membus.New(m.hub, &o)
		bus = a.bus
	}
	n, err := cluster.Join(context.Background(), bus, &cluster.Options{
		ID: id, Name: id, Logger: slog.New(slog.DiscardHandler), OnGap: a.gap, OnMember: a.member,
		RouteRooms: m.on == rooms,
	})
	if err != nil {
		a.bus.Close()
		return nil
	}
	a.Node = n
	if err := n.Attach(a); err != nil {
		m.t.Errorf("Attach: %v", err)
	}
	for n.Open(context.Background(), "/") != nil {
		time.Sleep(100 * time.Millisecond)
	}
	for m.on == rooms && n.Enter(context.Background(), "/", "0", "1") != nil {
		n.Exit("/", "0", "1")
		time.Sleep(100 * time.Millisecond)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.actors = append(m.actors, a)
	return a
}

// speak begins what the actor says.
func (a *actor) speak() {
	for g := range 2 {
		r := rand.New(rand.NewPCG(a.m.seed, uint64(a.Self().Name[1])*100+uint64(g)))
		a.m.talkers.Go(func() { a.talk(fmt.Sprintf("%s/%d", a.ID(), g), r) })
	}
}

func (a *actor) tale(id string) *tale {
	x := a.from[id]
	if x == nil {
		x = &tale{seen: -1, last: make(map[string]int)}
		a.from[id] = x
	}
	return x
}

func (a *actor) member(who cluster.Member, up bool) {
	s := a.m.find(who.ID)
	if s == nil || !up {
		return
	}
	s.mu.Lock()
	said := s.sent
	s.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if x := a.tale(who.ID); x.seen < 0 {
		x.seen = said
	}
}

func (m *model) find(id string) *actor {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.actors {
		if a.ID() == id {
			return a
		}
	}
	return nil
}

func (a *actor) gap(from string, first, last uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tale(from).lost += int(last - first + 1)
}

func (a *actor) Do(op *cluster.Op, answer func(cluster.Answer)) {
	if answer != nil {
		answer(cluster.Answer{First: true})
	}
	who, rest, _ := strings.Cut(string(op.Data), "/")
	var g, k int
	fmt.Sscanf(rest, "%d/%d", &g, &k)
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.tale(who)
	x.delivered++
	if name := fmt.Sprint(g); k <= x.last[name] {
		a.problems = append(a.problems, fmt.Sprintf("%s at %s came behind %d", op.Data, a.ID(), x.last[name]))
	} else {
		x.last[name] = k
	}
}

// talk tells and asks until the run ends or the actor is gone.
func (a *actor) talk(name string, r *rand.Rand) {
	for k := 1; ; k++ {
		select {
		case <-a.m.stop:
			return
		case <-time.After(time.Duration(1+r.IntN(240)) * time.Millisecond):
		}
		op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: fmt.Appendf(nil, "%s/%d", name, k)}
		if a.m.on == rooms {
			_, g, _ := strings.Cut(name, "/")
			op.Rooms = []string{g} // one for each goroutine: across two, no order is promised
		} else if r.IntN(20) == 0 {
			op.Kind = cluster.EmitAck
			a.question(op)
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+r.IntN(2000))*time.Millisecond)
		a.mu.Lock()
		a.sent++
		a.mu.Unlock()
		err := a.Tell(ctx, op)
		cancel()
		switch {
		case errors.Is(err, cluster.ErrClosed):
			a.mu.Lock()
			a.sent--
			a.mu.Unlock()
			return
		case errors.Is(err, cluster.ErrDelayed):
			a.m.mu.Lock()
			a.m.sums.Delayed++
			a.m.mu.Unlock()
		case err != nil:
			a.complain("Tell: got error %v, want none or one that wraps ErrDelayed", err)
		}
	}
}

func (a *actor) complain(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.problems = append(a.problems, fmt.Sprintf(format, args...))
}

// question asks, and checks that all members answered or were named.
func (a *actor) question(op *cluster.Op) {
	members := a.Peers()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	answered := make(map[string]bool)
	var absent *cluster.AbsentError
	start := time.Now()
	a.mu.Lock()
	a.sent++
	a.mu.Unlock()
	for x, err := range a.Ask(ctx, op) {
		if errors.Is(err, cluster.ErrClosed) || err != nil && !errors.As(err, &absent) {
			return
		}
		if err == nil {
			answered[x.Node] = true
		}
	}
	if took := time.Since(start); took > 2*time.Second {
		a.complain("a question: got its end after %v, want it after 2 s at the latest", took)
	}
	if absent != nil && absent.Err != nil && strings.Contains(absent.Err.Error(), "cluster: ask:") { // it was not published
		a.mu.Lock()
		a.sent--
		a.unsaid++
		a.mu.Unlock()
	}
	now := a.Peers()
	for _, p := range members {
		if !slices.ContainsFunc(now, func(m cluster.Member) bool { return m.ID == p.ID }) {
			continue // it may have left between our look at the members and the question
		}
		if !answered[p.ID] && (absent == nil || !slices.Contains(absent.Nodes, p.Name)) {
			a.complain("a question: got answers of %v and error %v, want %s in one of them", answered, absent, p.ID)
		}
	}
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	if a.m.sums.Asks++; absent == nil {
		a.m.sums.Complete++
	}
}

// living returns an actor that is there, nil if there are fewer than least.
func (m *model) living(least int) *actor {
	m.mu.Lock()
	defer m.mu.Unlock()
	var as []*actor
	for _, a := range m.actors {
		if !a.gone {
			as = append(as, a)
		}
	}
	if len(as) < least {
		return nil
	}
	return as[m.rand.IntN(len(as))]
}

// mischief does one thing to the cluster, and undoes it.
func (m *model) mischief() {
	long := time.Duration(m.intN(4000)) * time.Millisecond
	switch m.intN(9) {
	case 0:
		m.hub.SetDown(true)
		time.Sleep(long)
		m.hub.SetDown(false)
	case 1, 2:
		if a := m.living(1); a != nil {
			a.bus.SetDown(true)
			time.Sleep(long)
			a.bus.SetDown(false)
		}
	case 3, 4:
		if a := m.living(1); a != nil {
			a.bus.Freeze()
			time.Sleep(long)
			a.bus.Thaw()
		}
	case 5:
		if a := m.living(1); a != nil {
			m.hub.Partition([]string{a.ID()}, m.others(a))
			time.Sleep(long)
			m.hub.Partition()
		}
	case 6: // killed
		if a := m.living(3); a != nil {
			m.leave(a, true)
		}
	case 7:
		if a := m.living(3); a != nil {
			m.leave(a, false)
		}
	case 8:
		if a := m.join(); a != nil {
			a.speak()
		}
	}
	time.Sleep(time.Duration(m.intN(500)) * time.Millisecond)
}

func (m *model) others(a *actor) (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.actors {
		if x != a {
			ids = append(ids, x.ID())
		}
	}
	return ids
}

func (m *model) leave(a *actor, killed bool) {
	m.mu.Lock()
	a.gone = true
	m.mu.Unlock()
	if killed {
		a.bus.SetDown(true)
	}
	a.Close()
	a.bus.Close()
}

func (m *model) run(total *modelSums) {
	for range 3 + m.intN(3) {
		if a := m.join(); a != nil {
			a.kept = true
		}
	}
	time.Sleep(200 * time.Millisecond)
	if m.on == lanes || m.on == rooms {
		time.Sleep(2 * time.Second) // until they have announced themselves to those who listen now
	}
	for _, a := range m.actors {
		a.speak()
	}
	m.hub.SetFault(m.fault)
	m.mu.Lock()
	m.calm, m.drop = false, m.rand.IntN(30)
	m.mu.Unlock()
	for range 1 + m.intN(4) {
		m.mischief()
	}
	m.mu.Lock()
	m.calm = true
	m.mu.Unlock()
	time.Sleep(500 * time.Millisecond)
	close(m.stop)
	m.talkers.Wait()
	time.Sleep(12 * time.Second)
	synctest.Wait()
	m.check()
	for _, a := range m.actors {
		if !a.gone {
			m.leave(a, false)
		}
	}
	total.add(m.sums)
}

func (s *modelSums) add(x modelSums) {
	s.Sent += x.Sent
	s.Delivered += x.Delivered
	s.Lost += x.Lost
	s.Repaired += x.Repaired
	s.Duplicates += x.Duplicates
	s.Late += x.Late
	s.Delayed += x.Delayed
	s.Asks += x.Asks
	s.Complete += x.Complete
}

// check compares what was said with what was heard.
func (m *model) check() {
	for _, r := range m.actors {
		r.mu.Lock()
		for _, p := range r.problems {
			m.t.Errorf("seed %d: %s", m.seed, p)
		}
		r.mu.Unlock()
		st := r.Stats()
		m.sums.Repaired += int(st.Repaired)
		m.sums.Duplicates += int(st.Duplicates)
		m.sums.Late += int(st.Late)
		if r.gone {
			continue
		}
		if st.Held != 0 || st.Waiting != 0 {
			m.t.Errorf("seed %d: %s: got %d bytes held and %d waiting in the end, want none", m.seed, r.ID(), st.Held, st.Waiting)
		}
		for _, s := range m.actors {
			if s == r {
				continue
			}
			x := r.tale(s.ID())
			got := x.delivered + x.lost
			m.sums.Sent += s.sent
			m.sums.Delivered += x.delivered
			m.sums.Lost += x.lost
			what := fmt.Sprintf("seed %d: from %s to %s: got %d delivered and %d lost", m.seed, s.ID(), r.ID(), x.delivered, x.lost)
			switch {
			case got > s.sent+s.unsaid:
				m.t.Errorf("%s, want at most the %d that were sent", what, s.sent)
			case s.gone:
			case r.kept && s.kept && got < s.sent:
				m.t.Errorf("%s, want %d together", what, s.sent)
			case r.kept && s.kept && m.on == aLog && x.delivered < s.sent:
				m.t.Errorf("%s, want all %d delivered", what, s.sent)
			case m.on == lanes || m.on == rooms: // seen it was before its lanes were
			case x.seen >= 0 && got+int(st.Unattached) < s.sent-x.seen: // it became a member while we joined
				m.t.Errorf("%s, want at least the %d that were sent since it was a member", what, s.sent-x.seen)
			}
		}
	}
}
