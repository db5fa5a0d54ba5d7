package cluster_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// A slowBus takes a while for the messages that slow names, whatever the context says, as
// a medium does that has them already.
type slowBus struct {
	cluster.Bus
	slow func(msg []byte) time.Duration
}

func (b slowBus) Publish(ctx context.Context, topic string, msg []byte) error {
	time.Sleep(b.slow(msg))
	return b.Bus.Publish(context.WithoutCancel(ctx), topic, msg)
}

func joinSlow(t *testing.T, hub *membus.Hub, slow func(msg []byte) time.Duration) *cluster.Node {
	t.Helper()
	bus := membus.New(hub, nil)
	n, err := cluster.Join(t.Context(), slowBus{bus, slow}, &cluster.Options{ID: "id-slow", Name: "slow", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("Join: %v", err)
	}
	t.Cleanup(func() {
		n.Close()
		bus.Close()
	})
	return n
}

func TestLate(t *testing.T) {
	simulate(t, "an operation that heartbeats overtake", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		n := joinSlow(t, hub, func(msg []byte) time.Duration {
			if strings.Contains(string(msg), "large") {
				return 3 * time.Second
			}
			return 0
		})
		if err := n.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: []byte(`["large"]`)}); err != nil {
			t.Fatalf("Tell: %v", err)
		}
		if got := a.received(); len(got) != 1 {
			t.Errorf("got %q, want the operation, late as it is", got)
		}
	})
	simulate(t, "two that a new publisher sends at once", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		bus := membus.New(hub, nil)
		defer bus.Close()
		p := cluster.NewPublisher(slowBus{bus, func(msg []byte) time.Duration {
			if strings.Contains(string(msg), "first") {
				return time.Millisecond
			}
			return 0
		}}, nil)
		for _, data := range []string{`["first"]`, `["second"]`} {
			go p.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: []byte(data)})
			synctest.Wait()
		}
		time.Sleep(time.Second)
		if got := a.received(); len(got) != 2 {
			t.Errorf("got %q, want both", got)
		}
	})
	simulate(t, "answers that change places", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		n := joinSlow(t, hub, func(msg []byte) time.Duration {
			if strings.Contains(string(msg), "late") {
				return time.Millisecond
			}
			return 0
		})
		if err := n.Attach(serverFunc(func(op *cluster.Op, answer func(cluster.Answer)) {
			const acks = 30
			answer(cluster.Answer{First: true, Clients: acks, Rooms: []string{"late"}})
			for range acks {
				answer(cluster.Answer{Data: []byte("[]")})
			}
		})); err != nil {
			t.Fatal(err)
		}
		if got, _, err := a.ask(t, 5*time.Second, cluster.EmitAck); got != 31 || err != nil {
			t.Errorf("got %d answers and error %v, want 31 and none", got, err)
		}
	})
	simulate(t, "an announcement when the node closes", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		var armed atomic.Bool
		n := joinSlow(t, hub, func(msg []byte) time.Duration {
			if armed.Load() && msg[2] == byte(cluster.Heartbeat) {
				return 100 * time.Millisecond
			}
			return 0
		})
		armed.Store(true)
		time.Sleep(950 * time.Millisecond) // in the middle of one
		n.Close()
		time.Sleep(200 * time.Millisecond)
		if got := a.peers(); got != "" {
			t.Errorf("after Close: got peers %q, want none", got)
		}
	})
	simulate(t, "the goodbye of an earlier life", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		b.bus.SetDown(true)
		join(t, hub, "b")
		b.bus.SetDown(false)
		go b.Close()
		time.Sleep(time.Millisecond)
		if got, want := a.history(), "+b -b +b"; got != want {
			t.Errorf("OnMember: got %q, want %q", got, want)
		}
	})
}

type serverFunc func(op *cluster.Op, answer func(cluster.Answer))

func (f serverFunc) Do(op *cluster.Op, answer func(cluster.Answer)) { f(op, answer) }
