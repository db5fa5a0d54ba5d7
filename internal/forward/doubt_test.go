package forward

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// An attendedBus says whether anybody listens.
type attendedBus struct {
	cluster.Bus
	there func(topic string) bool
}

func (b attendedBus) Attended(_ context.Context, topic string) (bool, error) {
	return b.there(topic), nil
}

// asker makes a node whose bus says who listens, and which makes no links.
func (x *world) asker(t *testing.T, there func(topic string) bool, change ...func(*Options)) *site {
	t.Helper()
	bus := membus.New(&x.hub, &membus.Options{Name: "a"})
	quiet := slog.New(slog.DiscardHandler)
	node, err := cluster.Join(t.Context(), attendedBus{bus, there}, &cluster.Options{ID: "a", Logger: quiet, Settle: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	o := &Options{Node: node, Serve: answers, Gone: gone, Logger: quiet, Advertise: "-"}
	for _, f := range change {
		f(o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		node.Close()
		bus.Close()
	})
	return &site{Peers: p, name: "a", node: node, bus: bus}
}

// TestKilledAndMissed has a node with a link be killed, and the medium know that nobody listens for it.
func TestKilledAndMissed(t *testing.T) {
	simulate(t, "", func(t *testing.T, x *world) {
		var dead atomic.Bool
		a := x.asker(t, func(topic string) bool { return topic != "atoll.node.b" || !dead.Load() }, func(o *Options) { o.Advertise, o.Dial = "http://a/", x.dial })
		b := x.node(t, "b", answers)
		know(t, a, b)
		linkUp(t, a)
		dead.Store(true)
		x.kill(b)
		synctest.Wait()
		wantWithin(t, greetRefusing, a, 400, "gone")
		wantWithin(t, 0, a, 400, "gone")
	})
}

// TestKilledOverTheCarrier has a node be killed that is asked over the carrier.
func TestKilledOverTheCarrier(t *testing.T) {
	never := func(o *Options) { o.Advertise = "-" }
	for _, after := range []time.Duration{0, 300, 650, 990} {
		simulate(t, "the medium knows", func(t *testing.T, x *world) {
			var dead atomic.Bool
			a := x.asker(t, func(topic string) bool { return topic != "atoll.node.b" || !dead.Load() })
			b := x.node(t, "b", waits(nil), never)
			know(t, a, b)
			x.node(t, "c", answers, never) // whose announcements come
			done := make(chan time.Time)
			go func() {
				wantAnswer(t, a, 400, "gone")
				done <- time.Now()
			}()
			time.Sleep(4*time.Second + after*time.Millisecond)
			dead.Store(true)
			x.kill(b)
			killed := time.Now()
			if took := (<-done).Sub(killed); took > 1600*time.Millisecond {
				t.Errorf("what waits: got the end after %v, want it within 1.6 s", took)
			}
			wantWithin(t, 2*greetAgain, a, 400, "gone")
			if _, ok := a.view.Load().peers["b"]; !ok {
				t.Error("the cluster has declared the node dead already: the test shows nothing")
			}
		})
	}
	simulate(t, "one that is slow lives", func(t *testing.T, x *world) {
		a := x.asker(t, func(string) bool { return true })
		c := make(chan struct{})
		b := x.node(t, "b", waits(c), never)
		know(t, a, b)
		time.AfterFunc(time.Second, func() {
			x.hub.SetFault(func(from, _, _ string) membus.Fault {
				if from == "b" {
					return membus.Fault{Delay: 1700 * time.Millisecond}
				}
				return membus.Fault{}
			})
		})
		time.AfterFunc(10*time.Second, func() { close(c) })
		wantAnswer(t, a, 200, "late")
	})
	simulate(t, "the medium was away, and one is slow to come back", func(t *testing.T, x *world) {
		var away atomic.Bool
		a := x.asker(t, func(topic string) bool { return !away.Load() || topic == "atoll.node.a" })
		c := make(chan struct{})
		b := x.node(t, "b", waits(c), never)
		know(t, a, b)
		x.node(t, "c", answers, never)
		go func() {
			time.Sleep(3100 * time.Millisecond)
			away.Store(true)
			x.hub.SetDown(true)
			time.Sleep(1200 * time.Millisecond)
			x.hub.SetDown(false)
			time.Sleep(600 * time.Millisecond)
			away.Store(false)
			time.Sleep(2 * time.Second)
			close(c)
		}()
		time.Sleep(2500 * time.Millisecond) // so that no ping is due while the medium is away
		wantAnswer(t, a, 200, "late")
	})
}

// TestDoubtOfNobody has the last line end right before a node is looked after: it is looked after again later.
func TestDoubtOfNobody(t *testing.T) {
	simulate(t, "", func(t *testing.T, x *world) {
		a, b := x.node(t, "a", answers), x.node(t, "b", answers)
		know(t, a, b)
		time.Sleep(500 * time.Millisecond)
		y := a.view.Load().peers["b"]
		y.doubt()
		y.mu.Lock()
		defer y.mu.Unlock()
		if y.doubted {
			t.Error("got a node that is looked after for ever, want one that is not")
		}
	})
}
