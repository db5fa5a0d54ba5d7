package redisstream

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/atollhq/atoll/cluster"
)

// A subscription is to a channel or to entries of a stream.
type subscription struct {
	bus   *Bus
	topic string
	once  sync.Once

	// Of a channel: what is below, and messages that wait until the stream was read as far as their sender wrote it.
	below   cluster.Subscription
	queue   []held
	bytes   int
	drained bool // nobody works off the queue

	// Of a stream.
	readers   []*reader
	namespace string        // empty for all
	start     map[string]id // by stream: entries up to here are not delivered

	mu      sync.Mutex // held during deliver, which only queues
	deliver func(topic, offset string, msg []byte)
}

// Subscribe calls deliver for each message on topic: a channel, or what the Dialect names for entries of streams. It waits
// until Redis has confirmed the subscription, and returns an error when ctx ends before, or Redis is away.
func (b *Bus) Subscribe(ctx context.Context, topic string, deliver func(topic string, msg []byte)) (cluster.Subscription, error) {
	s := &subscription{bus: b, topic: topic, drained: true}
	s.deliver = func(topic, _ string, msg []byte) {
		if msg != nil {
			deliver(topic, msg)
		}
	}
	var err error
	switch {
	case b.ctx.Err() != nil:
		err = ErrClosed
	case topic == allTopic:
		keys := make([]string, b.o.StreamCount)
		for i := range keys {
			keys[i] = b.o.key(i)
		}
		err = b.read(ctx, s, keys...)
	case strings.HasPrefix(topic, strayTopic):
		s.namespace = topic[len(strayTopic):]
		_, key := b.o.streamOf(s.namespace)
		if key == "" {
			err = fmt.Errorf("nothing of %q goes astray: %w", s.namespace, cluster.ErrUnsupported)
		} else {
			err = b.read(ctx, s, key)
		}
	case b.Kept(topic):
		return b.Follow(ctx, topic, s.deliver)
	default:
		if !b.register(s) {
			return nil, ErrClosed
		}
		below, err := b.channels.Subscribe(ctx, topic, s.receive)
		if err != nil {
			s.forget()
			return nil, known(err)
		}
		s.mu.Lock()
		s.below = below
		s.mu.Unlock()
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("redisstream: subscribe %q: %w", topic, err)
	}
	return s, nil
}

// Follow calls deliver for each entry of a namespace, in the order of the stream, each once. It goes on where it was when
// Redis was away. Where entries were trimmed before they could be read, deliver is called with a place
// right before the first that is kept, and a nil msg.
func (b *Bus) Follow(ctx context.Context, topic string, deliver func(topic, offset string, msg []byte)) (cluster.Subscription, error) {
	if !b.Kept(topic) {
		return nil, fmt.Errorf("redisstream: follow: topic %q is not kept: %w", topic, cluster.ErrUnsupported)
	}
	s := &subscription{bus: b, topic: topic, drained: true, namespace: topic[len(keptTopic):], deliver: deliver}
	index, _ := b.o.streamOf(s.namespace)
	if err := b.read(ctx, s, b.o.key(index)); err != nil {
		return nil, fmt.Errorf("redisstream: follow %q: %w", topic, err)
	}
	return s, nil
}

// register has the subscription closed with the Bus.
func (b *Bus) register(s *subscription) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.subs[s] = struct{}{}
	}
	return !b.closed
}

func (s *subscription) forget() {
	s.bus.mu.Lock()
	delete(s.bus.subs, s)
	s.bus.mu.Unlock()
}

// Close ends the subscription. deliver is not called any more when it returns.
func (s *subscription) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		below := s.below
		s.mu.Unlock()
		if below != nil {
			below.Close()
		}
		for _, r := range s.readers {
			r.leave(s)
		}
	})
	s.mu.Lock()
	s.deliver, s.queue, s.bytes = nil, nil, 0
	s.mu.Unlock()
	s.forget()
	return nil
}

// stopAnswering gives up the channels of questions: who says goodbye is not counted among those who answer any more
// by the time that others hear it.
func (b *Bus) stopAnswering() {
	var public []*subscription
	b.mu.Lock()
	for s := range b.subs {
		if strings.HasPrefix(s.topic, b.o.ChannelPrefix+"#") {
			public = append(public, s)
		}
	}
	b.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range public {
		wg.Go(func() { s.Close() })
	}
	wg.Wait()
}
