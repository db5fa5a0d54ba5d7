package redisbus

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/redissub"
)

// A topic is what is known of a topic; nothing besides.
type (
	topic = redissub.Topic[none]
	none  = struct{}
)

// Subscribe calls deliver for each message on topic. It waits until Redis has confirmed
// the subscription, and returns an error when ctx ends before, or Redis is away. Many
// that subscribe at once share their round trips.
//
// Of a topic that begins with the prefix and "#" and ends in "#*" (what the Dialect names
// for a namespace) it is all channels that begin with what stands before the *, and
// deliver is called with that topic, not with the channel. Of the topic of all requests, which the Dialect
// names for an observer, deliver is called with the channel.
func (b *Bus) Subscribe(ctx context.Context, topic string, deliver func(topic string, msg []byte)) (cluster.Subscription, error) {
	return b.base.Subscribe(ctx, topic, deliver)
}

// keep owns the connection of the subscriptions: it makes it, keeps what is subscribed
// to equal to what is wanted, and starts again when it breaks, until the Bus is closed.
func (b *Bus) keep() {
	pause := redissub.FirstPause
	for connections := 0; !b.base.Tasks.Closed(); {
		worked, err := b.connection(connections > 0)
		if b.base.Tasks.Closed() {
			return
		}
		if worked {
			connections++
			pause = redissub.FirstPause
		}
		if worked && b.wanted() {
			b.log.Warn("redisbus: the connection of the subscriptions broke; messages of other nodes may be lost", "err", err)
		}
		b.base.Tasks.Sleep(pause)
		pause = min(2*pause, redissub.LongestPause)
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
			b.base.Count.Reconnects.Add(1)
			b.log.Info("redisbus: subscribed again")
		}
		worked = true
		if retry == nil && len(b.refused) > 0 {
			retry = time.After(redissub.LongestPause)
		}
		select {
		case <-b.base.Wake:
		case <-retry:
			retry = nil
			b.reconsider()
		case err := <-broken:
			return worked, err
		case <-b.base.Tasks.Context().Done():
			return worked, nil
		}
	}
}

// reconsider has what Redis refused tried again.
func (b *Bus) reconsider() {
	b.base.Mu.Lock()
	defer b.base.Mu.Unlock()
	for _, t := range b.refused {
		b.base.Look(t)
	}
	b.refused = nil
}

// wanted reports whether anybody subscribes to anything.
func (b *Bus) wanted() bool {
	b.base.Mu.Lock()
	defer b.base.Mu.Unlock()
	for _, t := range b.base.Topics {
		if t.Wanted() {
			return true
		}
	}
	return false
}

// lose takes note that the connection has nothing any more.
func (b *Bus) lose() {
	b.base.Mu.Lock()
	defer b.base.Mu.Unlock()
	b.refused = nil
	for _, t := range b.base.Topics {
		if t.State() != redissub.Absent {
			t.To(redissub.Absent)
		}
		b.base.Look(t)
	}
}

// reconcile makes what the connection has what the Bus wants.
func (b *Bus) reconcile(client rueidis.DedicatedClient) error {
	var missing, gone []*topic
	b.base.Mu.Lock()
	for _, t := range b.base.Take() {
		switch {
		case t.State() == redissub.Absent && t.Wanted():
			missing = append(missing, t)
			t.To(redissub.Joining)
		case t.State() == redissub.Subscribed && !t.Wanted():
			gone = append(gone, t)
			t.To(redissub.Leaving)
		default:
			b.base.Look(t)
		}
	}
	b.base.Mu.Unlock()

	for len(missing)+len(gone) > 0 {
		m, g := min(len(missing), redissub.Batch), min(len(gone), redissub.Batch)
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
			b.base.Mu.Lock()
			t.Err = err
			t.To(redissub.Absent)
			if !t.Wanted() {
				b.base.Look(t)
			} else {
				b.refused = append(b.refused, t)
			}
			b.base.Mu.Unlock()
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
	ctx, cancel := context.WithTimeout(b.base.Tasks.Context(), redissub.CommandTimeout)
	defer cancel()
	for _, cmd := range cmds {
		if b.client.Mode() == rueidis.ClientModeCluster {
			cmd = cmd.SetSlot(b.slot) // to a server that has slots: Count sees these, and not all others
		}
		if err := client.Do(ctx, cmd).Error(); err != nil {
			return err
		}
	}
	b.base.Mu.Lock()
	defer b.base.Mu.Unlock()
	for _, t := range missing {
		t.Err = nil
		t.To(redissub.Subscribed)
		b.base.Look(t) // it may be wanted no more by now
	}
	for _, t := range gone {
		t.To(redissub.Absent)
		b.base.Look(t)
	}
	return nil
}

// split returns the channels among topics, and the others as patterns.
func (b *Bus) split(topics []*topic) (channels, patterns []string) {
	for _, t := range topics {
		if b.isPattern(t.Name) {
			patterns = append(patterns, globOf(t.Name))
		} else {
			channels = append(channels, t.Name)
		}
	}
	return channels, patterns
}

// dispatch takes a message from the connection.
func (b *Bus) dispatch(m rueidis.PubSubMessage) {
	name := m.Channel
	if m.Pattern != "" {
		name = topicOf(m.Pattern)
	}
	topic := name
	if b.classic != nil && name == b.classic.allRequests() {
		topic = m.Channel
	}
	b.base.Deliver(name, topic, m.Message)
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
