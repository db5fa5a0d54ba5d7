package cluster_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// An unsureLog appends, and once says that it did not.
type unsureLog struct {
	*membus.LogBus
	match string
	said  atomic.Bool
}

func (b *unsureLog) Append(ctx context.Context, topic string, msg []byte) (string, error) {
	offset, err := b.LogBus.Append(ctx, topic, msg)
	if err == nil && strings.Contains(string(msg), b.match) && !b.said.Swap(true) {
		return "", errors.New("connection lost")
	}
	return offset, err
}

func TestAppendedTwice(t *testing.T) {
	simulate(t, "it is performed and read once", func(t *testing.T, hub *membus.Hub) {
		b := keepers(t, hub, nil, "b")[0]
		a := keepers(t, hub, func(l *membus.LogBus) cluster.Bus { return &unsureLog{LogBus: l, match: "unsure"} }, "a")[0]
		from := b.Position("/")
		for _, data := range []string{"1 ", "unsure ", "2 "} {
			if err := a.Tell(t.Context(), emitOp(data)); err != nil && !errors.Is(err, cluster.ErrDelayed) {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * time.Second)
		got := b.performed()
		if len(got) != 3 {
			t.Fatalf("got %q performed, want three", got)
		}
		if n := b.Stats().Duplicates; n != 1 {
			t.Fatalf("got %d duplicates, want 1: the test tests nothing", n)
		}
		_, unsure, _ := strings.Cut(got[1], "@")
		for _, c := range []struct{ from, want string }{{from, "1 unsure 2 "}, {unsure, "2 "}} {
			var got string
			for op, err := range b.Since(t.Context(), "/", c.from) {
				if err != nil {
					t.Fatal(err)
				}
				got += string(op.Data)
			}
			if got != c.want {
				t.Errorf("Since %s: got %q, want %q", c.from, got, c.want)
			}
		}
	})
}
