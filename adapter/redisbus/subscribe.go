package redisbus

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

const (
	firstPause     = 10 * time.Millisecond // between two tries to connect
	longestPause   = 500 * time.Millisecond
	commandTimeout = 5 * time.Second // for one SUBSCRIBE
	batch          = 256             // topics in one SUBSCRIBE
)

// state is how far a topic is on the connection of the subscriptions; 0 is not there.
type state int

const (
	subscribed state = iota + 1
	leaving          // UNSUBSCRIBE was or is being sent
)

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
	b.topics[name] = append(slices.Clip(b.topics[name]), s)
	if !b.started {
		b.started = true
		b.tasks.Go(b.keep)
	}
	b.mu.Unlock()
	b.poke()

	wait, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	if err := b.await(wait, func() bool { return b.have[name] == subscribed }); err != nil {
		s.Close()
		return nil, fmt.Errorf("redisbus: subscribe %q: %w", name, err)
	}
	return s, nil
}

// await waits until ok, which is called with b.mu held whenever the connection has changed.
func (b *Bus) await(ctx context.Context, ok func() bool) error {
	for {
		b.mu.Lock()
		done, changed := ok(), b.changed
		b.mu.Unlock()
		if done {
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

// Close ends the subscription. deliver is not called any more when it returns, and
// Redis does not count it any more, if it answers within a second.
func (s *subscription) Close() error {
	b := s.bus
	b.mu.Lock()
	rest := slices.DeleteFunc(slices.Clone(b.topics[s.topic]), func(other *subscription) bool { return other == s })
	if b.topics[s.topic] = rest; len(rest) == 0 {
		delete(b.topics, s.topic)
	}
	b.mu.Unlock()
	b.poke()
	s.mu.Lock()
	s.deliver = nil
	s.mu.Unlock()

	if b.away.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	b.await(ctx, func() bool { return b.have[s.topic] == 0 || b.topics[s.topic] != nil })
	return nil
}

// stopAnswering gives up the channels of requests: who says goodbye is not counted among
// those who answer any more by the time that others hear it.
func (b *Bus) stopAnswering(ctx context.Context) {
	requests := b.dialect.prefix + "-request#"
	b.mu.Lock()
	for name := range b.topics {
		if strings.HasPrefix(name, requests) {
			delete(b.topics, name)
		}
	}
	b.mu.Unlock()
	b.poke()
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	b.await(ctx, func() bool {
		for name := range b.have {
			if strings.HasPrefix(name, requests) {
				return false
			}
		}
		return true
	})
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
		}
		if worked && b.wanted() {
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
	defer b.set(func() { clear(b.have) })
	for {
		if err := b.reconcile(client); err != nil {
			return worked, err
		}
		if !worked && again && b.wanted() {
			b.count.reconnects.Add(1)
			b.log.Info("redisbus: subscribed again")
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

// wanted reports whether anybody subscribes to anything.
func (b *Bus) wanted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.topics) > 0
}

// set changes b.have and tells those who wait for it.
func (b *Bus) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

// reconcile makes what the connection has what the Bus wants.
func (b *Bus) reconcile(client rueidis.DedicatedClient) error {
	var missing, gone []string
	b.mu.Lock()
	for name := range b.topics {
		if b.have[name] == 0 {
			missing = append(missing, name)
		}
	}
	for name := range b.have {
		if b.topics[name] == nil {
			b.have[name] = leaving
			gone = append(gone, name)
		}
	}
	b.mu.Unlock()

	var cmds []rueidis.Completed
	channels, patterns := b.split(missing)
	cmds = commands(cmds, channels, func(s []string) rueidis.Completed { return client.B().Subscribe().Channel(s...).Build() })
	cmds = commands(cmds, patterns, func(s []string) rueidis.Completed { return client.B().Psubscribe().Pattern(s...).Build() })
	channels, patterns = b.split(gone)
	cmds = commands(cmds, channels, func(s []string) rueidis.Completed { return client.B().Unsubscribe().Channel(s...).Build() })
	cmds = commands(cmds, patterns, func(s []string) rueidis.Completed { return client.B().Punsubscribe().Pattern(s...).Build() })
	if len(cmds) == 0 {
		return nil
	}

	ctx, cancel := context.WithTimeout(b.ctx, commandTimeout)
	defer cancel()
	for _, cmd := range cmds {
		if err := client.Do(ctx, cmd).Error(); err != nil {
			return err
		}
	}
	b.set(func() {
		for _, name := range gone {
			delete(b.have, name)
		}
		for _, name := range missing {
			b.have[name] = subscribed
		}
	})
	if len(gone) > 0 {
		b.poke() // what was given up may be wanted again by now
	}
	return nil
}

// split returns the channels among topics, and the others as patterns.
func (b *Bus) split(topics []string) (channels, patterns []string) {
	for _, name := range topics {
		if b.isPattern(name) {
			patterns = append(patterns, globOf(name))
		} else {
			channels = append(channels, name)
		}
	}
	return channels, patterns
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

// dispatch takes a message from the connection.
func (b *Bus) dispatch(m rueidis.PubSubMessage) {
	b.count.received.Add(1)
	name := m.Channel
	if m.Pattern != "" {
		name = topicOf(m.Pattern)
	}
	b.mu.Lock()
	subs := b.topics[name] // replaced, never changed
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
