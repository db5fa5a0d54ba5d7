package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

func withKey(key string) func(*cluster.Options) {
	return func(o *cluster.Options) { o.Key = []byte(key) }
}

func TestKey(t *testing.T) {
	const key, other = "a key of 16 bytes or more", "another key of that sort"
	simulate(t, "those who have it hear each other, and nobody else", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a", withKey(key)), join(t, hub, "b", withKey(key))
		c, d := join(t, hub, "c"), join(t, hub, "d", withKey(other))
		a.emit(t, "1")
		c.emit(t, "2")
		d.emit(t, "3")
		time.Sleep(2 * time.Second)
		if got := strings.Join(b.received(), " "); got != "1" {
			t.Errorf("got %q, want what was told with the key", got)
		}
		if got := d.received(); len(got) != 0 {
			t.Errorf("with another key: got %q, want nothing", got)
		}
		if got, want := a.peers()+"/"+b.peers()+"/"+d.peers(), "b/a/"; got != want {
			t.Errorf("got peers %q, want %q", got, want)
		}
		if got := b.Stats(); got.Forged == 0 || got.Malformed != 0 {
			t.Errorf("got %d forged and %d malformed messages, want some and none", got.Forged, got.Malformed)
		}
		if n, _, err := a.ask(t, time.Second, cluster.Count); n != 1 || err != nil {
			t.Errorf("got %d answers and error %v, want one and none", n, err)
		}
	})
	simulate(t, "repair", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a", withKey(key)), join(t, hub, "b", withKey(key))
		hub.SetFault(func(string, string, string) membus.Fault { return membus.Fault{Drop: true} })
		a.emit(t, "1")
		hub.SetFault(nil)
		a.emit(t, "2")
		time.Sleep(2 * time.Second)
		if got := strings.Join(b.received(), " "); got != "1 2" {
			t.Errorf("got %q, want 1 and 2", got)
		}
	})
	simulate(t, "bytes that changed, or stand on another topic", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a", withKey(key))
		spy := membus.New(hub, nil)
		defer spy.Close()
		var got [][]byte
		if _, err := spy.Subscribe(t.Context(), "atoll.all", func(_ string, msg []byte) { got = append(got, msg) }); err != nil {
			t.Fatal(err)
		}
		p := cluster.NewPublisher(spy, &cluster.PublisherOptions{Key: []byte(key)})
		if err := p.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: []byte("1")}); err != nil {
			t.Fatal(err)
		}
		if got := a.received(); len(got) != 1 {
			t.Errorf("got %q, want what the publisher told", got)
		}
		msg := got[len(got)-1]
		before := a.Stats().Forged
		for i := range msg {
			bad := append([]byte(nil), msg...)
			bad[i] ^= 1
			spy.Publish(t.Context(), "atoll.all", bad)
			spy.Publish(t.Context(), "atoll.all", msg[:i])
		}
		spy.Publish(t.Context(), "atoll.node.id-a", msg)
		if got := a.received(); len(got) != 1 {
			t.Errorf("got %q, want nothing more", got)
		}
		if got, want := a.Stats().Forged-before, uint64(2*len(msg)+1); got != want {
			t.Errorf("got %d forged messages, want %d", got, want)
		}
	})
}

// A speaker is a bus with a dialect of its own.
type speaker struct {
	cluster.Bus
	d cluster.Dialect
}

func (s speaker) Dialect() cluster.Dialect { return s.d }

func TestKeyRefused(t *testing.T) {
	var hub membus.Hub
	bus := membus.New(&hub, nil)
	defer bus.Close()
	official := speaker{bus, struct{ cluster.Dialect }{cluster.Native("")}}
	key := []byte(strings.Repeat("k", 16))
	o := &cluster.Options{Key: key, Logger: slog.New(slog.DiscardHandler)}
	if n, err := cluster.Join(context.Background(), official, o); !errors.Is(err, cluster.ErrUnsupported) {
		n.Close()
		t.Errorf("Join: got error %v, want one that says that the format cannot carry a key", err)
	}
	o.Key = key[:15]
	if n, err := cluster.Join(context.Background(), bus, o); err == nil || !strings.Contains(err.Error(), "Options.Key") {
		n.Close()
		t.Errorf("Join with a short key: got error %v, want one that names Options.Key", err)
	}
	for _, p := range []*cluster.Publisher{
		cluster.NewPublisher(official, &cluster.PublisherOptions{Key: key}),
		cluster.NewPublisher(bus, &cluster.PublisherOptions{Key: key[:15]}),
	} {
		if err := p.Tell(context.Background(), &cluster.Op{Kind: cluster.Emit, Namespace: "/"}); err == nil {
			t.Error("Tell of a publisher whose key cannot be carried: got no error, want one")
		}
	}
}

func BenchmarkKey(b *testing.B) {
	for _, key := range []string{"", "a key of 16 bytes or more"} {
		b.Run(fmt.Sprintf("key=%v", key != ""), func(b *testing.B) {
			var hub membus.Hub
			bus := membus.New(&hub, nil)
			defer bus.Close()
			p := cluster.NewPublisher(bus, &cluster.PublisherOptions{Key: []byte(key)})
			op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: make([]byte, 256)}
			b.ReportAllocs()
			for b.Loop() {
				p.Tell(b.Context(), op)
			}
		})
	}
}
