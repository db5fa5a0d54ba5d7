package cluster_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"github.com/atollhq/atoll/cluster"
)

// A meter is a medium without queues, which counts what each of its buses is given. (A
// membus has a goroutine for each subscription, which is much for 200,000 of them.)
type meter struct {
	mu   sync.RWMutex
	subs map[string][]*meterSub // never changed in place
}

type meterBus struct {
	m               *meter
	messages, bytes atomic.Int64
}

type meterSub struct {
	b       *meterBus
	topic   string
	deliver func(string, []byte)
	mu      sync.Mutex
}

func (b *meterBus) Publish(_ context.Context, topic string, msg []byte) error {
	b.m.mu.RLock()
	subs := b.m.subs[topic]
	b.m.mu.RUnlock()
	if len(subs) == 0 {
		return nil
	}
	msg = append([]byte(nil), msg...)
	for _, s := range subs {
		s.b.messages.Add(1)
		s.b.bytes.Add(int64(len(msg)))
		s.mu.Lock()
		s.deliver(topic, msg)
		s.mu.Unlock()
	}
	return nil
}

func (b *meterBus) Subscribe(_ context.Context, topic string, deliver func(string, []byte)) (cluster.Subscription, error) {
	s := &meterSub{b: b, topic: topic, deliver: deliver}
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	old := b.m.subs[topic]
	b.m.subs[topic] = append(old[:len(old):len(old)], s)
	return s, nil
}

func (b *meterBus) Close() error { return nil }

func (s *meterSub) Close() error {
	m := s.b.m
	m.mu.Lock()
	defer m.mu.Unlock()
	var rest []*meterSub
	for _, x := range m.subs[s.topic] {
		if x != s {
			rest = append(rest, x)
		}
	}
	if m.subs[s.topic] = rest; rest == nil {
		delete(m.subs, s.topic)
	}
	return nil
}

// A crowd is a cluster of nodes with rooms of two members; the last node has none.
type crowd struct {
	nodes []*cluster.Node
	buses []*meterBus
	got   []atomic.Int64
	rooms int
}

func newCrowd(t testing.TB, nodes, rooms int, route bool) *crowd {
	c := &crowd{rooms: rooms, got: make([]atomic.Int64, nodes)}
	m := &meter{subs: make(map[string][]*meterSub)}
	for i := range nodes {
		b := &meterBus{m: m}
		n, err := cluster.Join(context.Background(), b, &cluster.Options{
			ID: fmt.Sprint("n", i), RouteRooms: route, Settle: -1, Resend: 1 << 20, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Attach(serverFunc(func(op *cluster.Op, answer func(cluster.Answer)) { c.got[i].Add(1) })); err != nil {
			t.Fatal(err)
		}
		c.nodes, c.buses = append(c.nodes, n), append(c.buses, b)
	}
	return c
}

// members returns the two nodes that have a member of a room.
func (c *crowd) members(room int) (int, int) {
	n := len(c.nodes) - 1
	a := room % n
	return a, (a + 1 + room/n%(n-1)) % n
}

func (c *crowd) enter(t testing.TB) {
	of := make([][]string, len(c.nodes))
	for room := range c.rooms {
		a, b := c.members(room)
		of[a], of[b] = append(of[a], fmt.Sprint("room", room)), append(of[b], fmt.Sprint("room", room))
	}
	for i, n := range c.nodes {
		if err := n.Enter(context.Background(), "/", of[i]...); err != nil {
			t.Fatal(err)
		}
	}
}

// talk has the first member of a room say something to it.
func (c *crowd) talk(t testing.TB, room int) {
	a, _ := c.members(room)
	op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: chatter, Selector: cluster.Selector{Rooms: []string{fmt.Sprint("room", room)}}}
	if err := c.nodes[a].Tell(context.Background(), op); err != nil {
		t.Fatal(err)
	}
}

func (c *crowd) close() {
	for _, n := range c.nodes {
		n.Close()
	}
}

var chatter = []byte(`["chat","` + strings.Repeat("x", 100) + `"]`)

// What a node without members receives does not grow with rooms and traffic.
func TestRoutingStaysFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const nodes, seconds = 50, 5
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "routed\trooms\temits\tmessages/s\tbytes/s\tat a member's: emits\t\n")
	run := func(route bool, rooms, emits int) (perSecond, bytesPerSecond int64) {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, nodes, rooms, route)
			defer c.close()
			time.Sleep(2 * time.Second) // all know each other
			c.enter(t)
			idle := c.buses[nodes-1]
			messages, bytes := idle.messages.Load(), idle.bytes.Load()
			for s := range seconds {
				for k := s * emits / seconds; k < (s+1)*emits/seconds; k++ {
					c.talk(t, k%rooms)
				}
				time.Sleep(time.Second)
			}
			synctest.Wait()
			perSecond, bytesPerSecond = (idle.messages.Load()-messages)/seconds, (idle.bytes.Load()-bytes)/seconds
			want, heard := int64(emits), int64(0)
			for i := range nodes {
				heard += c.got[i].Load()
				if s := c.nodes[i].Stats(); s.Gaps != 0 || s.Duplicates != 0 {
					t.Errorf("node %d: got %d gaps and %d duplicates, want none", i, s.Gaps, s.Duplicates)
				}
			}
			if !route {
				want *= nodes - 1
			}
			if heard != want {
				t.Errorf("%d rooms: got %d operations performed, want %d", rooms, heard, want)
			}
			fmt.Fprintf(w, "%v\t%d\t%d\t%d\t%d\t%d\t\n", route, rooms, emits, perSecond, bytesPerSecond, c.got[0].Load())
		})
		return
	}
	run(false, 1000, 2000)
	few, fewBytes := run(true, 1000, 2000)
	many, manyBytes := run(true, 10_000, 10_000)
	if !racing { // the race detector makes a minute of it
		many, manyBytes = run(true, 100_000, 100_000)
	}
	w.Flush()
	t.Logf("what a node without members receives, of %d:\n%s", nodes, out.String())
	if many > few+few/10 || manyBytes > fewBytes+fewBytes/10 {
		t.Errorf("got %d messages and %d bytes a second with many rooms, want what it is with 1,000: %d and %d", many, manyBytes, few, fewBytes)
	}
}

func BenchmarkRouting(b *testing.B) {
	for _, rooms := range []int{1000, 100_000} {
		for _, route := range []bool{false, true} {
			b.Run(fmt.Sprintf("rooms=%d/routed=%v", rooms, route), func(b *testing.B) {
				c := newCrowd(b, 50, rooms, route)
				defer c.close()
				time.Sleep(1200 * time.Millisecond)
				c.enter(b)
				idle := c.buses[len(c.buses)-1]
				before := idle.bytes.Load()
				k := 0
				for b.Loop() {
					c.talk(b, k%rooms)
					k++
				}
				b.ReportMetric(float64(idle.bytes.Load()-before)/float64(k), "idle-bytes/op")
			})
		}
	}
}
