package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// old is a dialect in the manner of the classic Redis adapter: each namespace has topics of its
// own, and some nodes do not announce themselves, so that they are counted by their subscriptions.
type old struct{}

func (old) Topics(node, namespace string) []string {
	if namespace == "" {
		return []string{"atoll"}
	}
	return []string{"request" + namespace, "response" + namespace, "response" + namespace + "#" + node}
}

func (old) Encode(m *cluster.Message) (string, []byte, error) {
	topic := "request" + m.Namespace
	switch m.Kind {
	case cluster.Heartbeat, cluster.Goodbye:
		topic = "atoll"
	case cluster.Reply:
		topic = "response" + m.Namespace
	}
	data, err := json.Marshal(m)
	return topic, data, err
}

func (old) Decode(node, topic string, data []byte) (*cluster.Message, error) {
	m := &cluster.Message{}
	if err := json.Unmarshal(data, m); err != nil || m.From == node || m.Kind == cluster.Reply && m.To != node {
		return nil, err
	}
	return m, nil
}

func (old) Expect(ctx context.Context, bus cluster.Bus, node, namespace string) (int, error) {
	n, err := bus.(cluster.Counter).Count(ctx, "request"+namespace)
	return max(0, n-1), err
}

// older is old without a topic for each node, and now and then it panics.
type older struct{ old }

func (older) Topics(node, namespace string) []string { return old{}.Topics(node, namespace)[:1] }

func (older) Encode(m *cluster.Message) (string, []byte, error) {
	topic, data, err := old{}.Encode(m)
	return strings.Replace(topic, "response", "request", 1), data, err
}

func (older) Decode(node, topic string, data []byte) (*cluster.Message, error) {
	if string(data) == "panic" {
		panic("a bug")
	}
	return old{}.Decode(node, topic, data)
}

// A counter counts the subscriptions of all buses.
type counter struct {
	mu   sync.Mutex
	subs map[string]int
}

func (c *counter) add(topic string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs[topic] += n
}

// A countedBus is a Bus that speaks the old dialect and counts.
type countedBus struct {
	*membus.Bus
	c       *counter
	dialect cluster.Dialect
}

func (b countedBus) Dialect() cluster.Dialect { return b.dialect }

func (b countedBus) Count(_ context.Context, topic string) (int, error) {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	return b.c.subs[topic], nil
}

func (b countedBus) Subscribe(ctx context.Context, topic string, deliver func(string, []byte)) (cluster.Subscription, error) {
	s, err := b.Bus.Subscribe(ctx, topic, deliver)
	if err != nil {
		return nil, err
	}
	b.c.add(topic, 1)
	return &countedSub{s, b.c, topic, sync.Once{}}, nil
}

type countedSub struct {
	cluster.Subscription
	c     *counter
	topic string
	once  sync.Once
}

func (s *countedSub) Close() error {
	s.once.Do(func() { s.c.add(s.topic, -1) })
	return s.Subscription.Close()
}

// oldCluster has nodes named a, b and c with the namespace "/" open.
type oldCluster struct {
	a, b, c *site
	hub     membus.Hub
	counter counter
	dialect cluster.Dialect
}

func newOldCluster(t *testing.T, d cluster.Dialect) *oldCluster {
	o := &oldCluster{counter: counter{subs: map[string]int{}}, dialect: d}
	o.a, o.b, o.c = o.join(t, "a"), o.join(t, "b"), o.join(t, "c")
	return o
}

func (o *oldCluster) join(t *testing.T, name string) *site {
	t.Helper()
	s := &site{bus: membus.New(&o.hub, &membus.Options{Name: name})}
	var err error
	s.Node, err = cluster.Join(t.Context(), countedBus{s.bus, &o.counter, o.dialect}, &cluster.Options{ID: "id-" + name, Name: name, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.Attach(s)
	if err := s.Open(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.bus.Thaw()
		s.Close()
		s.bus.Close()
	})
	return s
}

// A stranger is a node of another kind: it answers without a name and says nothing else.
type stranger struct {
	bus    countedBus
	answer func(m *cluster.Message) []cluster.Answer
}

func (o *oldCluster) enter(t *testing.T) *stranger {
	t.Helper()
	x := &stranger{bus: countedBus{membus.New(&o.hub, nil), &o.counter, o.dialect}}
	asks := make(chan []byte, 100)
	if _, err := x.bus.Subscribe(t.Context(), "request/", func(_ string, b []byte) { asks <- b }); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for b := range asks {
			m, _ := old{}.Decode("", "", b)
			if m == nil || m.Kind != cluster.Ask || x.answer == nil {
				continue
			}
			for _, a := range x.answer(m) {
				topic, data, _ := old{}.Encode(&cluster.Message{Kind: cluster.Reply, To: m.From, Request: m.Request, Namespace: m.Namespace, Answer: &a})
				x.bus.Publish(context.Background(), topic, data)
			}
		}
	})
	t.Cleanup(func() {
		x.bus.Close()
		close(asks)
		wg.Wait()
	})
	return x
}

func TestExpecter(t *testing.T) {
	one := func(*cluster.Message) []cluster.Answer { return []cluster.Answer{{First: true, Clients: 1}} }
	absentOf := func(t *testing.T, err error, nodes []string, unnamed, acks int) {
		t.Helper()
		var absent *cluster.AbsentError
		if !errors.As(err, &absent) || !slices.Equal(absent.Nodes, nodes) || absent.Unnamed != unnamed || absent.Acks != acks {
			t.Errorf("got error %v, want an AbsentError with nodes %v, %d unnamed and %d acks", err, nodes, unnamed, acks)
		}
	}
	answers := func(t *testing.T, s *site, kind cluster.Kind, want int) {
		t.Helper()
		if n, took, err := s.ask(t, time.Minute, kind); n != want || err != nil || took > 0 {
			t.Errorf("%v: got %d answers, error %v after %v, want %d at once", kind, n, err, took, want)
		}
	}
	simulate(t, "all answer", func(t *testing.T, _ *membus.Hub) {
		o := newOldCluster(t, old{})
		x, y := o.enter(t), o.enter(t)
		x.answer, y.answer = one, one
		answers(t, o.a, cluster.Count, 4)
	})
	simulate(t, "acks of nodes without a name", func(t *testing.T, _ *membus.Hub) {
		o := newOldCluster(t, old{})
		x := o.enter(t)
		x.answer = func(*cluster.Message) []cluster.Answer {
			return []cluster.Answer{{First: true, Clients: 2}, {Data: []byte("[1]")}, {Data: []byte("[2]")}}
		}
		answers(t, o.a, cluster.EmitAck, 7)
		x.answer = func(*cluster.Message) []cluster.Answer {
			return []cluster.Answer{{First: true, Clients: 2}, {Data: []byte("[1]")}}
		}
		n, _, err := o.a.ask(t, time.Second, cluster.EmitAck)
		if n != 6 {
			t.Errorf("got %d answers, want 6", n)
		}
		absentOf(t, err, nil, 0, 1)
	})
	simulate(t, "one without a name does not answer", func(t *testing.T, _ *membus.Hub) {
		o := newOldCluster(t, old{})
		o.enter(t).answer = one
		o.enter(t)
		n, _, err := o.a.ask(t, time.Second, cluster.Count)
		if n != 3 {
			t.Errorf("got %d answers, want 3", n)
		}
		absentOf(t, err, nil, 1, 0)
	})
	simulate(t, "a frozen node is named, then not waited for", func(t *testing.T, _ *membus.Hub) {
		o := newOldCluster(t, old{})
		o.enter(t).answer = one
		o.c.bus.Freeze()
		_, took, err := o.a.ask(t, time.Second, cluster.Count)
		absentOf(t, err, []string{"c (id-c)"}, 0, 0)
		if took != time.Second {
			t.Errorf("got the end after %v, want it at the deadline", took)
		}
		time.Sleep(4 * time.Second)
		answers(t, o.a, cluster.Count, 2) // though it is still subscribed
		o.c.bus.Thaw()
		time.Sleep(2 * time.Second)
		answers(t, o.a, cluster.Count, 3)
	})
	simulate(t, "a killed node is not waited for, known to be dead or not", func(t *testing.T, _ *membus.Hub) {
		o := newOldCluster(t, old{})
		o.enter(t).answer = one
		o.c.bus.SetDown(true)
		for _, topic := range (old{}).Topics("id-c", "/") {
			o.counter.add(topic, -1) // the medium sees that its connection is gone
		}
		answers(t, o.a, cluster.Count, 2)
		time.Sleep(5 * time.Second)
		answers(t, o.a, cluster.Count, 2)
	})
	simulate(t, "a member that does not have the namespace", func(t *testing.T, _ *membus.Hub) {
		o := newOldCluster(t, old{})
		o.enter(t).answer = one
		if err := o.c.CloseNamespace("/"); err != nil {
			t.Fatal(err)
		}
		answers(t, o.a, cluster.Count, 2)
		if err := o.c.Open(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
		answers(t, o.a, cluster.Count, 3)
	})
	simulate(t, "a node that was counted before it announced itself", func(t *testing.T, _ *membus.Hub) {
		o := newOldCluster(t, old{})
		o.enter(t).answer = func(m *cluster.Message) []cluster.Answer {
			return []cluster.Answer{{Node: "early", First: true}}
		}
		answers(t, o.a, cluster.Count, 3)
	})
	simulate(t, "where members and strangers cannot be told apart", func(t *testing.T, _ *membus.Hub) {
		o := newOldCluster(t, older{})
		answers(t, o.a, cluster.Count, 2)
		if err := o.c.CloseNamespace("/"); err != nil {
			t.Fatal(err)
		}
		answers(t, o.a, cluster.Count, 1)
		if err := o.c.Open(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
		o.c.bus.Freeze()
		n, _, err := o.a.ask(t, time.Second, cluster.Count)
		if n != 1 {
			t.Errorf("got %d answers, want 1", n)
		}
		absentOf(t, err, []string{"c (id-c)"}, 0, 0)
	})
	simulate(t, "a dialect that panics", func(t *testing.T, _ *membus.Hub) {
		o := newOldCluster(t, older{})
		if err := o.b.bus.Publish(t.Context(), "atoll", []byte("panic")); err != nil {
			t.Fatal(err)
		}
		answers(t, o.a, cluster.Count, 2)
		if got := o.a.Stats().Malformed; got != 1 {
			t.Errorf("got %d malformed messages, want 1", got)
		}
	})
}
