package cluster_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// A pacedBus takes its time for each message.
type pacedBus struct{ cluster.Bus }

func (b pacedBus) Publish(ctx context.Context, topic string, msg []byte) error {
	time.Sleep(10 * time.Millisecond)
	return b.Bus.Publish(ctx, topic, msg)
}

// parts answers in many parts.
type parts struct {
	n     int
	pace  func(context.Context)
	ended chan struct{}
}

func (p *parts) Do(_ *cluster.Op, answer func(cluster.Answer)) {
	if answer == nil {
		return
	}
	answer(cluster.Answer{First: true, Clients: p.n})
	go func() {
		defer close(p.ended)
		for range p.n {
			p.pace(context.Background())
			answer(cluster.Answer{Sockets: []cluster.SocketInfo{{ID: "x", Data: make([]byte, 100<<10)}}})
		}
	}()
}

// Many parts of an answer, more than may wait at once, all arrive where they are paced.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		join := func(name string, o *cluster.Options) *cluster.Node {
			o.Name, o.Logger = name, slog.New(slog.DiscardHandler)
			bus := membus.New(&hub, &membus.Options{Name: name})
			n, err := cluster.Join(t.Context(), pacedBus{bus}, o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				n.Close()
				bus.Close()
			})
			return n
		}
		a, b := join("a", &cluster.Options{}), join("b", &cluster.Options{MaxQueue: 1 << 20})
		p := &parts{n: 50, pace: b.Pace, ended: make(chan struct{})}
		for _, n := range []*cluster.Node{a, b} {
			if err := n.Open(t.Context(), "/"); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Attach(p); err != nil {
			t.Fatal(err)
		}
		got := 0
		for answer, err := range a.Ask(t.Context(), &cluster.Op{Kind: cluster.Fetch, Namespace: "/"}) {
			if err != nil {
				t.Error(err)
			}
			got += len(answer.Sockets)
		}
		if got != p.n {
			t.Errorf("got %d parts, want %d", got, p.n)
		}
		<-p.ended
		if n := b.Stats().Lost; n != 0 {
			t.Errorf("got %d answers lost, want none", n)
		}

		// Whoever waits does not wait for a node that is closed.
		p.ended = make(chan struct{})
		for range a.Ask(t.Context(), &cluster.Op{Kind: cluster.Fetch, Namespace: "/"}) {
			break
		}
		b.Close()
		<-p.ended
	})
}
