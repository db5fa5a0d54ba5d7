package redisbus

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/cluster"
)

const (
	firstPause     = 10 * time.Millisecond // between two tries to connect
	longestPause   = 500 * time.Millisecond
	commandTimeout = 5 * time.Second // for one SUBSCRIBE
	batch          = 256             // topics in one SUBSCRIBE
)

// A topic is what the keeper subscribes to, while somebody wants it.
type topic struct {
	subs  []*subscription // replaced, never changed
	ready bool            // subscribed to on the present connection
}

type subscription struct {
	bus     *Bus
	topic   string
	mu      sync.Mutex // held during deliver, which only queues
	deliver func(topic string, msg []byte)
}

// Subscribe calls deliver for each message on topic. It waits until Redis has confirmed
// the subscription, and returns an error when ctx ends before, or Redis is away.
//
// Of a topic that begins with the prefix and "#" and ends in "#*" (what the Dialect names
// for a namespace) it is all channels that begin with what stands before the *, and
// deliver is called with that topic, not with the channel.
func (b *Bus) Subscribe(ctx context.Context, name string, deliver func(topic string, msg []byte)) (cluster.Subscription, error) {
	s := &subscription{bus: b, topic: name, deliver: deliver}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, ErrClosed
	}
	t := b.topics[name]
	if t == nil {
		t = &topic{}
		b.topics[name] = t
	}
	t.subs = append(t.subs[:len(t.subs):len(t.subs)], s)
	if !b.started {
		b.started = true
		b.tasks.Go(b.keep)
	}
	b.mu.Unlock()
	b.poke()

	if err := b.await(ctx, t); err != nil {
		s.Close()
		return nil, fmt.Errorf("redisbus: subscribe %q: %w", name, err)
	}
	return s, nil
}

// await waits until t is subscribed to.
func (b *Bus) await(ctx context.Context, t *topic) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	for {
		b.mu.Lock()
		ready, changed := t.ready, b.changed
		b.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-changed:
		case <-b.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrAway, context.Cause(ctx))
		}
	}
}

// Close ends the subscription. deliver is not called any more when it returns.
func (s *subscription) Close() error {
	b := s.bus
	b.mu.Lock()
	if t := b.topics[s.topic]; t != nil {
		var rest []*subscription
		for _, other := range t.subs {
			if other != s {
				rest = append(rest, other)
			}
		}
		if t.subs = rest; len(rest) == 0 {
			delete(b.topics, s.topic)
		}
	}
	b.mu.Unlock()
	b.poke()
	s.mu.Lock()
	s.deliver = nil
	s.mu.Unlock()
	return nil
}

// poke has the keeper look for something to do.
func (b *Bus) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// keep owns the connection of the subscriptions: it makes it, keeps what is subscribed
// to equal to what is wanted, and starts again when it breaks, until the Bus is closed.
func (b *Bus) keep() {
	pause := firstPause
	for connections := 0; b.ctx.Err() == nil; {
		worked, err := b.connection(connections > 0)
		if b.ctx.Err() != nil {
			return
		}
		if worked {
			connections++
			pause = firstPause
			b.log.Warn("redisbus: the connection of the subscriptions broke; messages of other nodes may be lost", "err", err)
		}
		b.sleep(pause)
		pause = min(2*pause, longestPause)
	}
}

// connection serves one connection until it breaks. It reports whether it ever worked.
func (b *Bus) connection(again bool) (worked bool, err error) {
	client, release := b.client.Dedicate()
	defer release()
	defer client.Close()
	broken := client.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: b.dispatch})
	have := make(map[string]*topic)
	defer b.unready()
	for {
		if err := b.reconcile(client, have); err != nil {
			return worked, err
		}
		if !worked && again {
			b.count.reconnects.Add(1)
			b.log.Info("redisbus: subscribed again", "topics", len(have))
		}
		worked = true
		select {
		case <-b.wake:
		case err := <-broken:
			return worked, err
		case <-b.ctx.Done():
			return worked, nil
		}
	}
}

// reconcile makes what the connection has, as have says, what the Bus wants.
func (b *Bus) reconcile(client rueidis.DedicatedClient, have map[string]*topic) error {
	var gone []string
	missing := make(map[string]*topic)
	b.mu.Lock()
	for name, t := range b.topics {
		switch old := have[name]; {
		case old == t:
		case old != nil: // given up and wanted again before we came to it
			have[name] = t
			t.ready = true
		default:
			missing[name] = t
		}
	}
	for name := range have {
		if b.topics[name] == nil {
			gone = append(gone, name)
		}
	}
	b.mu.Unlock()

	var names, patterns []string
	for name := range missing {
		if b.isPattern(name) {
			patterns = append(patterns, globOf(name))
		} else {
			names = append(names, name)
		}
	}
	cmds := commands(nil, names, func(s []string) rueidis.Completed { return client.B().Subscribe().Channel(s...).Build() })
	cmds = commands(cmds, patterns, func(s []string) rueidis.Completed { return client.B().Psubscribe().Pattern(s...).Build() })
	names, patterns = nil, nil
	for _, name := range gone {
		if b.isPattern(name) {
			patterns = append(patterns, globOf(name))
		} else {
			names = append(names, name)
		}
	}
	cmds = commands(cmds, names, func(s []string) rueidis.Completed { return client.B().Unsubscribe().Channel(s...).Build() })
	cmds = commands(cmds, patterns, func(s []string) rueidis.Completed { return client.B().Punsubscribe().Pattern(s...).Build() })

	ctx, cancel := context.WithTimeout(b.ctx, commandTimeout)
	defer cancel()
	for _, cmd := range cmds {
		if err := client.Do(ctx, cmd).Error(); err != nil {
			return err
		}
	}
	for _, name := range gone {
		delete(have, name)
	}
	b.mu.Lock()
	for name, t := range missing {
		have[name] = t
		t.ready = true
	}
	close(b.changed)
	b.changed = make(chan struct{})
	b.mu.Unlock()
	return nil
}

// commands appends the commands for names, some hundred in each.
func commands(cmds []rueidis.Completed, names []string, build func([]string) rueidis.Completed) []rueidis.Completed {
	for len(names) > 0 {
		n := min(len(names), batch)
		cmds = append(cmds, build(names[:n]))
		names = names[n:]
	}
	return cmds
}

// unready notes that nothing is subscribed to.
func (b *Bus) unready() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.topics {
		t.ready = false
	}
}

// dispatch takes a message from the connection.
func (b *Bus) dispatch(m rueidis.PubSubMessage) {
	b.count.received.Add(1)
	name := m.Channel
	if m.Pattern != "" {
		name = topicOf(m.Pattern)
	}
	b.mu.Lock()
	var subs []*subscription
	if t := b.topics[name]; t != nil {
		subs = t.subs
	}
	b.mu.Unlock()
	for _, s := range subs {
		s.mu.Lock()
		if s.deliver != nil {
			s.deliver(name, []byte(m.Message))
		}
		s.mu.Unlock()
	}
}

// isPattern reports whether a topic stands for many channels.
func (b *Bus) isPattern(topic string) bool {
	return strings.HasPrefix(topic, b.prefix+"#") && strings.HasSuffix(topic, "#*")
}

// globOf returns the pattern for Redis of a topic that ends in *: whatever else is
// special in a pattern stands for itself.
//
// See https://redis.io/docs/latest/commands/psubscribe/
func globOf(topic string) string {
	var s strings.Builder
	for _, c := range []byte(topic[:len(topic)-1]) {
		switch c {
		case '*', '?', '[', ']', '^', '-', '\\':
			s.WriteByte('\\')
		}
		s.WriteByte(c)
	}
	s.WriteByte('*')
	return s.String()
}

// topicOf is the inverse of globOf.
func topicOf(glob string) string {
	if !strings.Contains(glob, `\`) {
		return glob
	}
	var s strings.Builder
	for i := 0; i < len(glob); i++ {
		if glob[i] == '\\' && i+1 < len(glob) {
			i++
		}
		s.WriteByte(glob[i])
	}
	return s.String()
}
