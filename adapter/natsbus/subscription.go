package natsbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/atollhq/atoll/cluster"
)

type subscription struct {
	bus   *Bus
	topic string
	sub   *nats.Subscription
	once  sync.Once

	mu      sync.Mutex // held during deliver, which only queues
	deliver func(topic string, msg []byte)
}

// Subscribe implements cluster.Bus. It returns when our server has the subscription, and
// those that it has routes to; for a server that does not answer it waits half a second.
func (b *Bus) Subscribe(ctx context.Context, topic string, deliver func(topic string, msg []byte)) (cluster.Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := b.ready(); err != nil {
		return nil, err
	}
	s := &subscription{bus: b, topic: topic, deliver: deliver}
	var err error
	s.sub, err = b.conn.Subscribe(subject(topic), s.receive)
	if err != nil {
		return nil, fmt.Errorf("natsbus: subscribe: %w", b.explain(err))
	}
	s.sub.SetPendingLimits(-1, maxPending)
	b.mu.Lock()
	closed := b.closed
	if !closed {
		b.subs[s] = struct{}{}
	}
	b.mu.Unlock()
	if closed {
		err = ErrClosed
	} else if err = b.answers(); err == nil {
		err = b.spreads(ctx)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *subscription) receive(m *nats.Msg) {
	if m.Header != nil && m.Header.Get(attendedHeader) != "" {
		_ = m.Respond(nil) // nobody waits for the error: who asked finds out
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deliver != nil {
		s.deliver(s.topic, m.Data)
	}
}

// Close implements cluster.Subscription.
func (s *subscription) Close() error {
	var err error
	s.once.Do(func() {
		if n, e := s.sub.Dropped(); e == nil {
			s.bus.gone.Add(uint64(n))
		}
		err = s.sub.Unsubscribe()
		s.bus.mu.Lock()
		delete(s.bus.subs, s)
		s.bus.mu.Unlock()
	})
	s.mu.Lock() // deliver may be running
	s.deliver = nil
	s.mu.Unlock()
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubscription) {
		return fmt.Errorf("natsbus: unsubscribe: %w", err)
	}
	return nil
}

const (
	spreadTimeout = 500 * time.Millisecond // for servers known by name
	spreadBlind   = 50 * time.Millisecond  // for servers that are somewhere
	spreadPause   = 20 * time.Millisecond  // until the first repetition of the question
)

// syncSubject is where buses ask each other whether they hear them.
func (b *Bus) syncSubject() string { return b.cluster + ".sync" }

// answers makes the bus answer others' questions whether it hears them.
func (b *Bus) answers() error {
	b.answerOnce.Lock()
	defer b.answerOnce.Unlock()
	b.mu.Lock()
	done := b.answer != nil || b.closed
	b.mu.Unlock()
	if done {
		return nil
	}
	sub, err := b.conn.Subscribe(b.syncSubject(), func(m *nats.Msg) {
		if m.Reply != "" {
			m.Respond([]byte(b.conn.ConnectedServerName()))
		}
	})
	if err != nil {
		return fmt.Errorf("natsbus: subscribe: %w", b.explain(err))
	}
	b.mu.Lock()
	closed := b.closed
	if !closed {
		b.answer = sub
	}
	b.mu.Unlock()
	if closed {
		sub.Unsubscribe()
	}
	return nil
}

// A wave is a spread for all who subscribed before it began.
type wave struct {
	done chan struct{} // closed when it is over
	err  error
}

// spreads waits for a spread that begins from now on. Many who subscribe at once share one.
func (b *Bus) spreads(ctx context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return ErrClosed
	}
	w := b.wave
	if w == nil {
		w = &wave{done: make(chan struct{})}
		b.wave = w
		if !b.spreading {
			b.spreading = true
			b.tasks.Go(b.spreadAll)
		}
	}
	b.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// spreadAll spreads until nobody waits for it.
func (b *Bus) spreadAll() {
	for {
		b.mu.Lock()
		w := b.wave
		if b.wave = nil; w == nil {
			b.spreading = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		w.err = b.spread(b.ctx)
		close(w.done)
	}
}

// spread waits until what we have subscribed to is known where others publish. Our server
// says so itself. What it tells the servers it has routes to arrives there in order, so a
// question that a bus behind each of them answers has come after the subscription.
func (b *Bus) spread(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, subscribeTimeout)
		defer cancel()
	}
	if err := b.conn.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("natsbus: subscribe: %w", b.explain(err))
	}
	missing := make(map[string]bool)
	wait := spreadTimeout
	if b.routed != nil {
		for _, name := range b.routed() {
			missing[name] = true
		}
		if len(missing) == 0 {
			return nil
		}
	} else {
		if len(b.conn.DiscoveredServers()) == 0 && len(b.conn.Servers()) <= 1 {
			return nil
		}
		wait = spreadBlind
	}
	inbox := nats.NewInbox()
	sub, err := b.conn.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("natsbus: subscribe: %w", b.explain(err))
	}
	defer sub.Unsubscribe()
	for end, pause := time.Now().Add(wait), spreadPause; time.Now().Before(end); pause *= 2 {
		// Again and again: over a route that is new the question may be too early.
		if err := b.conn.PublishRequest(b.syncSubject(), inbox, nil); err != nil {
			return fmt.Errorf("natsbus: subscribe: %w", b.explain(err))
		}
		limit, cancel := context.WithDeadline(ctx, earlier(end, time.Now().Add(pause)))
		for {
			m, err := sub.NextMsgWithContext(limit)
			if err != nil {
				break
			}
			delete(missing, string(m.Data))
			if len(missing) == 0 && b.routed != nil {
				cancel()
				return nil
			}
		}
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil // who did not answer in time may not hear us yet
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
