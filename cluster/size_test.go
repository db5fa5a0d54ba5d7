package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// A narrowBus carries no message that is larger than limit.
type narrowBus struct {
	cluster.Bus
	limit atomic.Int64
}

func newNarrow(limit int64) *narrowBus {
	b := new(narrowBus)
	b.limit.Store(limit)
	return b
}

func (b *narrowBus) Publish(ctx context.Context, topic string, msg []byte) error {
	if int64(len(msg)) > b.limit.Load() {
		return fmt.Errorf("%d bytes: %w", len(msg), cluster.ErrTooLarge)
	}
	return b.Bus.Publish(ctx, topic, msg)
}

// joinNarrow makes a node that is named "a".
func joinNarrow(t *testing.T, hub *membus.Hub, narrow *narrowBus) *cluster.Node {
	t.Helper()
	bus := membus.New(hub, &membus.Options{Name: "a"})
	narrow.Bus = bus
	n, err := cluster.Join(t.Context(), narrow, &cluster.Options{ID: "id-a", Name: "a", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		bus.Close()
	})
	return n
}

// TestNarrow has messages sent again on a bus that limits their size.
func TestNarrow(t *testing.T) {
	const limit = 10_000
	tell := func(t *testing.T, n *cluster.Node, data string) {
		t.Helper()
		if err := n.Tell(t.Context(), emitOp(data)); err != nil {
			t.Fatal(err)
		}
	}
	simulate(t, "many at once", func(t *testing.T, hub *membus.Hub) {
		a, b := joinNarrow(t, hub, newNarrow(limit)), join(t, hub, "b")
		dropping(hub, "a", func() {
			for i := range 100 {
				tell(t, a, fmt.Sprintf("%03d%s", i, strings.Repeat("x", 40*i)))
			}
		})
		time.Sleep(10 * time.Second)
		if got := b.received(); len(got) != 100 || !slices.IsSorted(got) || b.history() != "+a" {
			t.Errorf("got %d operations and %q, want 100 in order and no gap", len(got), b.history())
		}
	})
	simulate(t, "one that fits, but not with what stands around it", func(t *testing.T, hub *membus.Hub) {
		a, b, c := joinNarrow(t, hub, newNarrow(limit)), join(t, hub, "b"), join(t, hub, "c")
		large := strings.Repeat("x", limit-70)
		hub.SetFault(func(from, to, _ string) membus.Fault { return membus.Fault{Drop: from == "a" && to == "b"} })
		tell(t, a, "1")
		for len(large) < limit {
			if err := a.Tell(t.Context(), emitOp(large+"x")); err != nil {
				break // it is the largest that fits
			}
			large += "x"
		}
		hub.SetFault(nil)
		time.Sleep(10 * time.Second)
		got, want := b.received(), c.received()
		if !slices.Equal(got, want) || len(got) < 2 || b.history() != "+a +c" {
			t.Errorf("got %d operations and %q, want the %d that others got and no gap", len(got), b.history(), len(want))
		}
	})
	simulate(t, "a limit that is lower after an outage", func(t *testing.T, hub *membus.Hub) {
		bus := newNarrow(limit)
		a, b := joinNarrow(t, hub, bus), join(t, hub, "b")
		hub.SetDown(true)
		for _, data := range []string{"1", strings.Repeat("2", limit/2), "3"} {
			if err := a.Tell(t.Context(), emitOp(data)); !errors.Is(err, cluster.ErrDelayed) {
				t.Fatalf("got error %v, want one that wraps ErrDelayed", err)
			}
		}
		bus.limit.Store(limit / 2)
		hub.SetDown(false)
		time.Sleep(10 * time.Second)
		check(t, "in the end", b, "1 3")
		if got, want := b.history(), "+a gap:id-a:2-2"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
