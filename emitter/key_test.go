package emitter_test

import (
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/emitter"
)

// A counter counts operations.
type counter struct{ n int }

func (c *counter) Do(_ *cluster.Op, answer func(cluster.Answer)) {
	if answer != nil {
		answer(cluster.Answer{First: true, Clients: 7})
		return
	}
	c.n++
}

// TestKey: nodes with a key hear who has it too, and nobody else.
func TestKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		bus := membus.New(&hub, &membus.Options{Name: "node"})
		defer bus.Close()
		good, bad := []byte("sixteen bytes and more"), []byte("sixteen other bytes")
		node, err := cluster.Join(t.Context(), bus, &cluster.Options{Key: good, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close()
		var c counter
		if err := node.Attach(&c); err != nil {
			t.Fatal(err)
		}
		for _, key := range [][]byte{good, bad, nil} {
			want, sent := 0, membus.New(&hub, &membus.Options{Name: "emitter"})
			if string(key) == string(good) {
				want = 7
			}
			c.n = 0
			if err := emitter.New(sent, &emitter.Options{Key: key}).Emit(t.Context(), "x"); err != nil {
				t.Error(err)
			}
			em, err := emitter.Connect(t.Context(), sent, &emitter.Options{Key: key, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := em.Count(t.Context()); got != want {
				t.Errorf("with %q: got a count of %d, want %d", key, got, want)
			}
			synctest.Wait()
			if got := c.n; got != want/7 {
				t.Errorf("with %q: got %d operations, want %d", key, got, want/7)
			}
			em.Close()
			sent.Close()
		}
		if err := emitter.New(bus, &emitter.Options{Key: []byte("short")}).Emit(t.Context(), "x"); err == nil {
			t.Error("with a short key: got no error, want one")
		}
	})
}
