package redisbus

import (
	"context"
	"crypto/rand"
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

// A topic is what is known of a topic. The Bus's mu guards it.
type topic struct {
	name  string
	subs  []*subscription // who wants it; replaced, never changed
	state state
	err   error         // why Redis refused it the last time
	dirty bool          // it is on the Bus's list
	moved chan struct{} // closed when state changes; nil while nobody waits for that
}

// state is how far a topic is on the connection of the subscriptions.
type state int

const (
	absent state = iota
	moving       // SUBSCRIBE or UNSUBSCRIBE was or is being sent
	subscribed
)

// to changes the state. b.mu is held.
func (t *topic) to(s state) {
	t.state = s
	if t.moved != nil {
		close(t.moved)
		t.moved = nil
	}
}

// look has the keeper look at t, unless all is as it should be. b.mu is held.
func (b *Bus) look(t *topic) {
	switch {
	case t.dirty || t.state == moving:
	case len(t.subs) == 0 && t.state == absent:
		if b.topics[t.name] == t {
			delete(b.topics, t.name)
		}
	case len(t.subs) == 0 || t.state == absent:
		t.dirty = true
		b.dirty = append(b.dirty, t)
		b.poke()
	}
}

// of returns the topic with a name. b.mu is held.
func (b *Bus) of(name string) *topic {
	t := b.topics[name]
	if t == nil {
		t = &topic{name: name}
		b.topics[name] = t
	}
	return t
}

type subscription struct {
	bus     *Bus
	topic   *topic
	mu      sync.Mutex // held during deliver, which only queues
	deliver func(topic string, msg []byte)
}

// Subscribe calls deliver for each message on topic. It waits until Redis has confirmed
// the subscription, and returns an error when ctx ends before, or Redis is away. Many
// that subscribe at once share their round trips.
//
// Of a topic that begins with the prefix and "#" and ends in "#*" (what the Dialect names
// for a namespace) it is all channels that begin with what stands before the *, and
// deliver is called with that topic, not with the channel. Of the topic of all requests, which the Dialect
// names for an observer, deliver is called with the channel.
func (b *Bus) Subscribe(ctx context.Context, name string, deliver func(topic string, msg []byte)) (cluster.Subscription, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("redisbus: subscribe %q: %w", name, context.Cause(ctx))
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, ErrClosed
	}
	t := b.of(name)
	s := &subscription{bus: b, topic: t, deliver: deliver}
	t.subs = append(slices.Clip(t.subs), s)
	if !b.started {
		b.started = true
		b.tasks.Go(b.keep)
	}
	b.look(t)
	b.mu.Unlock()

	wait, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	if err := b.await(wait, t, func() bool { return t.state == subscribed }); err != nil {
		s.Close()
		return nil, fmt.Errorf("redisbus: subscribe %q: %w", name, err)
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
		moved := t.moved
		b.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-b.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			b.mu.Lock()
			refused := t.err
			b.mu.Unlock()
			if refused != nil {
				return refused
			}
			return fmt.Errorf("%w: %w", ErrAway, context.Cause(ctx))
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

// stopAnswering gives up the channels of requests: who says goodbye is not counted among
// those who answer any more by the time that others hear it.
func (b *Bus) stopAnswering(ctx context.Context) {
	requests := b.classic.prefix + "-request#"
	var given []*topic
	b.mu.Lock()
	for name, t := range b.topics {
		if strings.HasPrefix(name, requests) {
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
	defer b.lose()
	b.slot = rand.Text()
	var retry <-chan time.Time
	for {
		if err := b.reconcile(client); err != nil {
			return worked, err
		}
		if !worked && again && b.wanted() {
			b.count.reconnects.Add(1)
			b.log.Info("redisbus: subscribed again")
		}
		worked = true
		if retry == nil && len(b.refused) > 0 {
			retry = time.After(longestPause)
		}
		select {
		case <-b.wake:
		case <-retry:
			retry = nil
			b.reconsider()
		case err := <-broken:
			return worked, err
		case <-b.ctx.Done():
			return worked, nil
		}
	}
}

// reconsider has what Redis refused tried again.
func (b *Bus) reconsider() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.refused {
		b.look(t)
	}
	b.refused = nil
}

// wanted reports whether anybody subscribes to anything.
func (b *Bus) wanted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.topics {
		if len(t.subs) > 0 {
			return true
		}
	}
	return false
}

// lose takes note that the connection has nothing any more.
func (b *Bus) lose() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = nil
	for _, t := range b.topics {
		if t.state != absent {
			t.to(absent)
		}
		b.look(t)
	}
}

// reconcile makes what the connection has what the Bus wants.
func (b *Bus) reconcile(client rueidis.DedicatedClient) error {
	var missing, gone []*topic
	b.mu.Lock()
	for _, t := range b.dirty {
		t.dirty = false
		switch {
		case t.state == absent && len(t.subs) > 0:
			missing = append(missing, t)
			t.to(moving)
		case t.state == subscribed && len(t.subs) == 0:
			gone = append(gone, t)
			t.to(moving)
		default:
			b.look(t)
		}
	}
	clear(b.dirty)
	b.dirty = b.dirty[:0]
	b.mu.Unlock()

	for len(missing)+len(gone) > 0 {
		m, g := min(len(missing), batch), min(len(gone), batch)
		err := b.exchange(client, missing[:m], gone[:g])
		if _, refused := rueidis.IsRedisErr(err); refused {
			err = b.oneByOne(client, missing[:m], gone[:g])
		}
		if err != nil {
			return err
		}
		missing, gone = missing[m:], gone[g:]
	}
	return nil
}

// oneByOne is exchange where Redis refused something: the others shall not suffer from it. What is refused is tried
// again later.
func (b *Bus) oneByOne(client rueidis.DedicatedClient, missing, gone []*topic) error {
	for _, t := range missing {
		err := b.exchange(client, []*topic{t}, nil)
		if _, refused := rueidis.IsRedisErr(err); refused {
			b.mu.Lock()
			t.err = err
			t.to(absent)
			if len(t.subs) == 0 {
				b.look(t)
			} else {
				b.refused = append(b.refused, t)
			}
			b.mu.Unlock()
		} else if err != nil {
			return err
		}
	}
	for _, t := range gone {
		if err := b.exchange(client, nil, []*topic{t}); err != nil {
			return err
		}
	}
	return nil
}

// exchange subscribes to missing, gives up gone, and says so to who waits for them.
func (b *Bus) exchange(client rueidis.DedicatedClient, missing, gone []*topic) error {
	var cmds []rueidis.Completed
	channels, patterns := b.split(missing)
	if len(channels) > 0 {
		cmds = append(cmds, client.B().Subscribe().Channel(channels...).Build())
	}
	if len(patterns) > 0 {
		cmds = append(cmds, client.B().Psubscribe().Pattern(patterns...).Build())
	}
	channels, patterns = b.split(gone)
	if len(channels) > 0 {
		cmds = append(cmds, client.B().Unsubscribe().Channel(channels...).Build())
	}
	if len(patterns) > 0 {
		cmds = append(cmds, client.B().Punsubscribe().Pattern(patterns...).Build())
	}
	ctx, cancel := context.WithTimeout(b.ctx, commandTimeout)
	defer cancel()
	for _, cmd := range cmds {
		if b.client.Mode() == rueidis.ClientModeCluster {
			cmd = cmd.SetSlot(b.slot) // to a server that has slots: Count sees these, and not all others
		}
		if err := client.Do(ctx, cmd).Error(); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range missing {
		t.err = nil
		t.to(subscribed)
		b.look(t) // it may be wanted no more by now
	}
	for _, t := range gone {
		t.to(absent)
		b.look(t)
	}
	return nil
}

// split returns the channels among topics, and the others as patterns.
func (b *Bus) split(topics []*topic) (channels, patterns []string) {
	for _, t := range topics {
		if b.isPattern(t.name) {
			patterns = append(patterns, globOf(t.name))
		} else {
			channels = append(channels, t.name)
		}
	}
	return channels, patterns
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
	if b.classic != nil && name == b.classic.allRequests() {
		name = m.Channel
	}
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
	return b.classic != nil && (topic == b.classic.allRequests() ||
		strings.HasPrefix(topic, b.prefix+"#") && strings.HasSuffix(topic, "#*"))
}

// globOf returns the pattern for Redis of a topic that ends in *: whatever else is
// special in a pattern stands for itself. No more is escaped than must be, because a Redis user may
// only use patterns that are literally among those it is allowed.
//
// See https://redis.io/docs/latest/commands/psubscribe/
func globOf(topic string) string {
	var s strings.Builder
	for _, c := range []byte(topic[:len(topic)-1]) {
		switch c {
		case '*', '?', '[', '\\':
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
