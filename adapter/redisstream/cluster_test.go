//go:build unix

package redisstream_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/atollhq/atoll/adapter/redisstream"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/redistest"
)

// openCluster makes a bus on a Redis Cluster.
func openCluster(t testing.TB, o *redisstream.Options, addrs ...string) *redisstream.Bus {
	t.Helper()
	c, err := rueidis.NewClient(option(addrs...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if c.Mode() != rueidis.ClientModeCluster {
		t.Fatalf("got mode %v, want a client of a cluster", c.Mode())
	}
	b := redisstream.New(c, o)
	t.Cleanup(func() { b.Close() })
	return b
}

// settleClients waits until the goroutines have ended with which clients of a Redis Cluster look after old
// connections, for 5 s each.
func settleClients(t *testing.T) {
	t.Cleanup(func() {
		for deadline := time.Now().Add(10 * time.Second); goleak.Find() != nil && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// TestSlotMoves moves the stream to another server of a Redis Cluster, and back, while it is written and read: what
// was written is read, in order, once. Then its server is killed: it goes on with the replica.
func TestSlotMoves(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 seconds")
	}
	settleClients(t)
	c := redistest.StartReplicated(t)
	o := &redisstream.Options{Logger: quiet}
	a, b := openCluster(t, o, c.Addrs()...), openCluster(t, o, c.Addrs()...)
	m := follow(t, b, topicN)
	slot := c.Slot(t, "socket.io")
	home := c.Owner(t, slot)
	var want []string
	write := func(n int) {
		for i := range n {
			topic, msg := entry(t, fmt.Sprint(i))
			if at, err := a.Append(t.Context(), topic, msg); err == nil {
				want = append(want, at)
			}
		}
	}
	offsets := func() (all []string) {
		for _, l := range m.all() {
			if slices.Contains(want, l.offset) {
				all = append(all, l.offset)
			}
		}
		return all
	}
	write(50)
	var other *redistest.Server
	for _, s := range c.Primaries(t) {
		if s != home {
			other = s
		}
	}
	for _, to := range []*redistest.Server{other, home} {
		var wg sync.WaitGroup
		wg.Go(func() { c.MoveSlot(t, slot, to) })
		for range 20 {
			write(10)
			time.Sleep(5 * time.Millisecond)
		}
		wg.Wait()
		n := len(want)
		eventually(t, "a write", func() bool { write(1); return len(want) > n })
		write(50)
		eventually(t, "all that was written", func() bool { return len(offsets()) >= len(want) })
		if !slices.Equal(offsets(), want) {
			t.Error("got other entries than were written, or another order")
		}
	}
	home.Kill()
	c.Promoted(t, slot, home)
	before := len(m.all())
	topic, msg := entry(t, "after")
	eventually(t, "a write to the replica", func() bool { _, err := a.Append(t.Context(), topic, msg); return err == nil })
	eventually(t, "an entry of the replica", func() bool { return slices.Contains(m.texts()[before:], "after") })
}

// recorder notes the operations that it gets.
type recorder struct {
	mu  sync.Mutex
	ops []string
}

func (r *recorder) Do(op *cluster.Op, answer func(cluster.Answer)) {
	r.mu.Lock()
	r.ops = append(r.ops, string(op.Data))
	r.mu.Unlock()
	if answer != nil {
		answer(cluster.Answer{First: true, Data: []byte(`[]`)})
	}
}

// TestTellAsk has one goroutine tell, by the stream, and ask, on channels, by turns: the other nodes get all in order.
func TestTellAsk(t *testing.T) {
	s := redistest.Start(t)
	nodes := make([]*cluster.Node, 3)
	seen := make([]*recorder, 3)
	for i := range nodes {
		n, err := cluster.Join(t.Context(), open(t, s, nil), &cluster.Options{Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		seen[i] = &recorder{}
		if err := n.Attach(seen[i]); err != nil {
			t.Fatal(err)
		}
		if err := n.Open(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
		nodes[i] = n
	}
	eventually(t, "peers", func() bool { return len(nodes[0].Peers()) == 2 })
	var want []string
	for i := range 200 {
		op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: fmt.Appendf(nil, `["e",%d]`, i)}
		want = append(want, string(op.Data))
		if i%4 != 3 {
			if err := nodes[0].Tell(t.Context(), op); err != nil {
				t.Fatal(err)
			}
			continue
		}
		op.Kind = cluster.ServerAsk
		for _, err := range nodes[0].Ask(t.Context(), op) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, r := range seen[1:] {
		all := func() []string { r.mu.Lock(); defer r.mu.Unlock(); return slices.Clone(r.ops) }
		eventually(t, "all operations", func() bool { return len(all()) >= len(want) })
		if !slices.Equal(all(), want) {
			t.Errorf("got %q, want them in order", all())
		}
	}
	if st := nodes[1].Stats(); st.Lost != 0 {
		t.Errorf("got %+v, want nothing lost", st)
	}
}

// TestClosedNamespace has a namespace be closed and opened again: how far it was read is known while it is open only.
func TestClosedNamespace(t *testing.T) {
	s := redistest.Start(t)
	n, err := cluster.Join(t.Context(), open(t, s, nil), &cluster.Options{Logger: quiet, Settle: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for range 2 {
		if err := n.Open(t.Context(), "/x"); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Keep(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/x", Data: []byte(`["e"]`)}); err != nil {
			t.Fatal(err)
		}
		if n.Position("/x") == "" {
			t.Error("open: got no position, want one")
		}
		if err := n.CloseNamespace("/x"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "no position", func() bool { return n.Position("/x") == "" })
	}
}
