package cluster_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// letters gives what comes to s alone.
func letters(t *testing.T, s *site) func() string {
	t.Helper()
	var mu sync.Mutex
	var got []string
	if err := s.Direct(func(from string, data []byte) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, from+":"+string(data))
	}); err != nil {
		t.Fatal(err)
	}
	return func() string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(got, " ")
	}
}

func TestDirect(t *testing.T) {
	simulate(t, "with a key", func(t *testing.T, hub *membus.Hub) {
		key := withKey("a key of 16 bytes or more")
		a, b := join(t, hub, "a", key), join(t, hub, "b", key)
		got := letters(t, b)
		if err := a.Send(t.Context(), "id-b", []byte("x")); err != nil {
			t.Fatal(err)
		}
		_, data, err := cluster.Native("").Encode(&cluster.Message{Kind: cluster.Direct, From: "id-a", To: "id-b", Data: []byte("forged")})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.bus.Publish(t.Context(), "atoll.node.id-b", data); err != nil {
			t.Fatal(err)
		}
		if got, want := got(), "id-a:x"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := b.Stats().Forged; got != 1 {
			t.Errorf("got %d forged messages, want 1", got)
		}
	})
	simulate(t, "for an earlier life", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		spy := membus.New(hub, nil)
		defer spy.Close()
		var msg []byte
		if _, err := spy.Subscribe(t.Context(), "atoll.node.id-b", func(_ string, m []byte) { msg = m }); err != nil {
			t.Fatal(err)
		}
		if err := a.Send(t.Context(), "id-b", []byte("x")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.Close()
		b = join(t, hub, "b")
		got := letters(t, b)
		if err := spy.Publish(t.Context(), "atoll.node.id-b", msg); err != nil {
			t.Fatal(err)
		}
		if got := got(); got != "" {
			t.Errorf("got %q, want nothing", got)
		}
		if err := a.Send(t.Context(), "id-b", []byte("y")); err != nil {
			t.Fatal(err)
		}
		if got, want := got(), "id-a:y"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	simulate(t, "the bus is away", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		got := letters(t, b)
		hub.SetDown(true)
		if err := a.Send(t.Context(), "id-b", []byte("x")); !errors.Is(err, membus.ErrDown) {
			t.Errorf("got error %v, want what the bus says", err)
		}
		hub.SetDown(false)
		if err := a.Send(t.Context(), "id-b", []byte("y")); err != nil {
			t.Fatal(err)
		}
		if got, want := got(), "id-a:y"; got != want {
			t.Errorf("got %q, want %q: nothing is sent again", got, want)
		}
	})
	simulate(t, "members change", func(t *testing.T, hub *membus.Hub) {
		a := join(t, hub, "a")
		changed := a.Changed()
		b := join(t, hub, "b")
		select {
		case <-changed:
		default:
			t.Error("a member came: got no change, want one")
		}
		changed = a.Changed()
		b.emit(t, "1")
		synctest.Wait()
		select {
		case <-changed:
			t.Error("nobody came or went: got a change, want none")
		default:
		}
		b.bus.SetDown(true)
		<-changed
		if got := a.peers(); got != "" {
			t.Errorf("got peers %q, want none", got)
		}
		changed = a.Changed()
		a.Close()
		<-changed
		<-a.Changed()
	})
}

// A counted bus says how many subscribe to the topic of a node.
type counted struct {
	cluster.Bus
	count map[string]int
	err   error
}

func (c counted) Count(_ context.Context, topic string) (int, error) { return c.count[topic], c.err }

func TestListens(t *testing.T) {
	var hub membus.Hub
	bus := membus.New(&hub, nil)
	defer bus.Close()
	ask := func(b cluster.Bus, to string) bool {
		t.Helper()
		n, err := cluster.Join(t.Context(), b, &cluster.Options{ID: "asker", Settle: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		return n.Listens(t.Context(), to)
	}
	count := map[string]int{"atoll.node.here": 1}
	for _, c := range []struct {
		bus  cluster.Bus
		to   string
		want bool
	}{
		{bus, "gone", true}, // it cannot say
		{counted{bus, count, nil}, "here", true},
		{counted{bus, count, nil}, "gone", false},
		{counted{bus, count, errors.New("away")}, "gone", true},
		{attended{bus, map[string]bool{"atoll.node.here": true}, nil}, "here", true},
		{attended{bus, nil, nil}, "gone", false},
		{attended{bus, nil, errors.New("away")}, "gone", true},
	} {
		if got := ask(c.bus, c.to); got != c.want {
			t.Errorf("%T, %s: got %v, want %v", c.bus, c.to, got, c.want)
		}
	}
}

// An attended bus says whether anybody subscribes to a topic.
type attended struct {
	cluster.Bus
	there map[string]bool
	err   error
}

func (a attended) Attended(_ context.Context, topic string) (bool, error) {
	return a.there[topic], a.err
}

func TestSilence(t *testing.T) {
	simulate(t, "", func(t *testing.T, hub *membus.Hub) {
		a, b := join(t, hub, "a"), join(t, hub, "b")
		between := func(id string, least, most time.Duration) {
			t.Helper()
			if got := a.Silence(id); got < least || got > most {
				t.Errorf("%s: got %v, want %v to %v", id, got, least, most)
			}
		}
		time.Sleep(5500 * time.Millisecond)
		between("id-b", 0, time.Second)
		between("nobody", 0, 0)
		hub.SetFault(func(from, _, _ string) membus.Fault { return membus.Fault{Drop: from == "b"} })
		time.Sleep(1500 * time.Millisecond)
		between("id-b", 1500*time.Millisecond, 2500*time.Millisecond)
		hub.SetFault(nil)
		if err := b.Send(t.Context(), "id-a", []byte("x")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		between("id-b", 0, 0)
		// While the medium is away nobody can be heard, and when it is back all get a moment.
		hub.SetDown(true)
		time.Sleep(1700 * time.Millisecond)
		hub.SetDown(false)
		time.Sleep(300 * time.Millisecond)
		between("id-b", 0, time.Second)
	})
}
