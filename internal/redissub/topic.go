package redissub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/atollhq/atoll/cluster"
)

// A Topic is what is known of a topic. P is what the keeper knows of it besides. The Base's Mu guards it.
type Topic[P any] struct {
	Name  string
	Place P
	Err   error // why it could not be subscribed to the last time; Subscribe returns it when its time is over

	subs  []*subscription[P] // who wants it; replaced, never changed
	state State
	dirty bool          // it is on the list
	moved chan struct{} // closed when state changes; nil while nobody waits for that
}

// A State is how far a topic is on its connection.
type State int

const (
	Absent     State = iota
	Joining          // the command that subscribes is to be sent, or was
	Subscribed       // Redis has confirmed it
	Leaving          // the command that unsubscribes is to be sent, or was
)

// State returns how far t is. The Base's Mu is held.
func (t *Topic[P]) State() State { return t.state }

// Wanted reports whether anybody subscribes to t. The Base's Mu is held.
func (t *Topic[P]) Wanted() bool { return len(t.subs) > 0 }

// To changes the state; Look comes next. The Base's Mu is held.
func (t *Topic[P]) To(s State) {
	t.state = s
	if t.moved != nil {
		close(t.moved)
		t.moved = nil
	}
}

// Look has the keeper see to t, unless all is as it should be: t comes onto the list, or Options.Leave is told. b.Mu is held.
func (b *Base[P]) Look(t *Topic[P]) {
	switch wanted := t.Wanted(); {
	case t.dirty || t.state == Joining || t.state == Leaving:
	case !wanted && t.state == Absent:
		if b.Topics[t.Name] == t {
			delete(b.Topics, t.Name)
		}
	case wanted == (t.state == Subscribed):
	case !wanted && b.o.Leave != nil:
		b.o.Leave(t)
	default:
		t.dirty = true
		b.Listed = append(b.Listed, t)
		b.Poke()
	}
}

// Take takes the topics off the list that the keeper should see to. Each of them wants a Look then, unless the keeper
// changes its state. b.Mu is held.
func (b *Base[P]) Take() []*Topic[P] {
	listed := b.Listed
	b.Listed = nil
	for _, t := range listed {
		t.dirty = false
	}
	return listed
}

// Poke has the keeper look for something to do.
func (b *Base[P]) Poke() { Signal(b.Wake) }

// Signal puts a token into c, unless it is full.
func Signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

type subscription[P any] struct {
	bus     *Base[P]
	topic   *Topic[P]
	mu      sync.Mutex // held during deliver, which only queues
	deliver func(topic string, msg []byte)
}

// Subscribe calls deliver for each message that Deliver brings for topic. It waits until Redis has confirmed
// the subscription, and returns an error when ctx ends before, or CommandTimeout has passed.
func (b *Base[P]) Subscribe(ctx context.Context, name string, deliver func(topic string, msg []byte)) (cluster.Subscription, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: subscribe %q: %w", b.o.Package, name, context.Cause(ctx))
	}
	b.Mu.Lock()
	if b.closed {
		b.Mu.Unlock()
		return nil, b.o.ErrClosed
	}
	t := b.Topics[name]
	if t == nil {
		t = &Topic[P]{Name: name}
		b.Topics[name] = t
	}
	s := &subscription[P]{bus: b, topic: t, deliver: deliver}
	t.subs = append(slices.Clip(t.subs), s)
	if !b.started {
		b.started = b.Tasks.Go(b.o.Keep)
	}
	b.Look(t)
	b.Mu.Unlock()

	wait, cancel := context.WithTimeout(ctx, CommandTimeout)
	defer cancel()
	if err := b.await(wait, t, func() bool { return t.state == Subscribed }); err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: subscribe %q: %w", b.o.Package, name, err)
	}
	return s, nil
}

// await waits until ok, which is called with b.Mu held whenever the state of t has changed.
func (b *Base[P]) await(ctx context.Context, t *Topic[P], ok func() bool) error {
	for {
		b.Mu.Lock()
		done := ok()
		if !done && t.moved == nil {
			t.moved = make(chan struct{})
		}
		moved := t.moved
		b.Mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-b.Tasks.Context().Done():
			return b.o.ErrClosed
		case <-ctx.Done():
			b.Mu.Lock()
			err := t.Err
			b.Mu.Unlock()
			if err != nil {
				return err
			}
			return fmt.Errorf("%w: %w", b.o.ErrAway, context.Cause(ctx))
		}
	}
}

// Close ends the subscription. deliver is not called any more when it returns, and
// Redis does not count it any more, if it answers within a second.
func (s *subscription[P]) Close() error {
	b, t := s.bus, s.topic
	b.Mu.Lock()
	t.subs = slices.DeleteFunc(slices.Clone(t.subs), func(other *subscription[P]) bool { return other == s })
	b.Look(t)
	b.Mu.Unlock()
	s.mu.Lock()
	s.deliver = nil
	s.mu.Unlock()

	if b.Guard.Away() {
		return nil
	}
	ctx, cancel := context.WithTimeout(b.Tasks.Context(), closeTimeout)
	defer cancel()
	b.await(ctx, t, func() bool { return t.state == Absent || t.Wanted() })
	return nil
}

// GiveUp ends all subscriptions to topics that begin with prefix, and waits until Redis does not count them any more, for as
// long as a Publish may take.
func (b *Base[P]) GiveUp(ctx context.Context, prefix string) {
	var given []*Topic[P]
	b.Mu.Lock()
	for name, t := range b.Topics {
		if strings.HasPrefix(name, prefix) {
			t.subs = nil
			given = append(given, t)
			b.Look(t)
		}
	}
	b.Mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, b.o.Timeout)
	defer cancel()
	for _, t := range given {
		b.await(ctx, t, func() bool { return t.state == Absent })
	}
}

// Deliver brings a message to who subscribes to name. They are told that its topic is the given one.
func (b *Base[P]) Deliver(name, topic, msg string) {
	b.Count.Received.Add(1)
	b.Mu.Lock()
	var subs []*subscription[P]
	if t := b.Topics[name]; t != nil {
		subs = t.subs
	}
	b.Mu.Unlock()
	for _, s := range subs {
		s.mu.Lock()
		if s.deliver != nil {
			s.deliver(topic, []byte(msg))
		}
		s.mu.Unlock()
	}
}
