package redisshard

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/cluster"
)

// A topic is what is known of a topic. The Bus's mu guards it.
type topic struct {
	name  string
	slot  int
	subs  []*subscription // who wants it; replaced, never changed
	state state
	link  *link         // whose it is, unless it is absent
	err   error         // why it could not be subscribed to the last time
	dirty bool          // it is on the Bus's list
	moved chan struct{} // closed when state changes; nil while nobody waits for that
}

// state is how far a topic is on its link.
type state int

const (
	absent     state = iota
	joining          // SSUBSCRIBE is to be sent, or was
	subscribed       // Redis has confirmed it
	leaving          // SUNSUBSCRIBE is to be sent, or was
)

// to changes the state. b.mu is held.
func (t *topic) to(s state) {
	t.state = s
	if s == absent && t.link != nil {
		delete(t.link.topics, t)
		t.link = nil
	}
	if t.moved != nil {
		close(t.moved)
		t.moved = nil
	}
}

// look has somebody see to t, unless all is as it should be. b.mu is held.
func (b *Bus) look(t *topic) {
	switch wanted := len(t.subs) > 0; {
	case t.dirty:
	case !wanted && t.state == absent:
		if b.topics[t.name] == t {
			delete(b.topics, t.name)
		}
	case !wanted && t.state == subscribed:
		t.to(leaving)
		t.link.hand(t)
	case wanted && t.state == absent:
		t.dirty = true
		b.dirty = append(b.dirty, t)
		signal(b.wake)
	}
}

type subscription struct {
	bus     *Bus
	topic   *topic
	mu      sync.Mutex // held during deliver, which only queues
	deliver func(topic string, msg []byte)
}

// subscribeTimeout is how long Subscribe waits.
const subscribeTimeout = 5 * time.Second

// Subscribe calls deliver for each message on topic. It waits until Redis has confirmed the
// subscription, and returns an error when ctx ends before, or 5 seconds have passed. Many that
// subscribe at once share their round trips.
func (b *Bus) Subscribe(ctx context.Context, name string, deliver func(topic string, msg []byte)) (cluster.Subscription, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("redisshard: subscribe %q: %w", name, context.Cause(ctx))
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, ErrClosed
	}
	t := b.topics[name]
	if t == nil {
		t = &topic{name: name, slot: slotOf(name)}
		b.topics[name] = t
	}
	s := &subscription{bus: b, topic: t, deliver: deliver}
	t.subs = append(slices.Clip(t.subs), s)
	if !b.started {
		b.started = true
		b.tasks.Go(b.keep)
	}
	b.look(t)
	b.mu.Unlock()

	wait, cancel := context.WithTimeout(ctx, subscribeTimeout)
	defer cancel()
	if err := b.await(wait, t, func() bool { return t.state == subscribed }); err != nil {
		s.Close()
		return nil, fmt.Errorf("redisshard: subscribe %q: %w", name, err)
	}
	return s, nil
}

// await waits until ok, which is called with b.mu held whenever the state of t has changed.
func (b *Bus) await(ctx context.Context, t *topic, ok func() bool) error {
	for {
		b.mu.Lock()
		done := ok()
		if !done && t.moved == nil {
			t.moved = make(chan struct{})
		}
		moved, last := t.moved, t.err
		b.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-b.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			if last == nil {
				last = context.Cause(ctx)
			}
			return fmt.Errorf("%w: %w", ErrAway, last)
		}
	}
}

// Close ends the subscription. deliver is not called any more when it returns, and
// Redis does not count it any more, if it answers within a second.
func (s *subscription) Close() error {
	b, t := s.bus, s.topic
	b.mu.Lock()
	t.subs = slices.DeleteFunc(slices.Clone(t.subs), func(other *subscription) bool { return other == s })
	b.look(t)
	b.mu.Unlock()
	s.mu.Lock()
	s.deliver = nil
	s.mu.Unlock()

	if b.away.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	b.await(ctx, t, func() bool { return t.state == absent || len(t.subs) > 0 })
	return nil
}

// stopAnswering gives up the channels of namespaces and rooms: who says goodbye is not counted among
// those who answer any more by the time that others hear it.
func (b *Bus) stopAnswering(ctx context.Context) {
	prefix := b.dialect.prefix + "#"
	var given []*topic
	b.mu.Lock()
	for name, t := range b.topics {
		if strings.HasPrefix(name, prefix) {
			t.subs = nil
			given = append(given, t)
			b.look(t)
		}
	}
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	for _, t := range given {
		b.await(ctx, t, func() bool { return t.state == absent })
	}
}

// dispatch takes a message from a link.
func (b *Bus) dispatch(m rueidis.PubSubMessage) {
	b.count.received.Add(1)
	b.mu.Lock()
	var subs []*subscription
	if t := b.topics[m.Channel]; t != nil {
		subs = t.subs
	}
	b.mu.Unlock()
	for _, s := range subs {
		s.mu.Lock()
		if s.deliver != nil {
			s.deliver(m.Channel, []byte(m.Message))
		}
		s.mu.Unlock()
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
