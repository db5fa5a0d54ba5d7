package redisshard

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/internal/redissub"
)

const (
	pingEvery   = time.Second
	pingTimeout = 3 * time.Second // without a sign of life after it a connection is dead
)

// A topic is what is known of a topic, and whose link it is, unless it is absent.
type topic = redissub.Topic[*link]

// A link is a connection to one server, for subscriptions.
type link struct {
	bus    *Bus
	addr   string // empty where Redis is alone
	wake   chan struct{}
	heard  atomic.Uint64       // messages that came
	topics map[*topic]struct{} // those with this link; b.base.Mu guards it
	todo   []*topic            // are joining or leaving; b.base.Mu guards it
}

// hand has the link bring t in order. b.base.Mu is held.
func (l *link) hand(t *topic) {
	l.todo = append(l.todo, t)
	redissub.Signal(l.wake)
}

// leave has the link give up t. b.base.Mu is held.
func (b *Bus) leave(t *topic) {
	t.To(redissub.Leaving)
	t.Place.hand(t)
}

// absent says that nobody subscribes to t. b.base.Mu is held.
func absent(t *topic) {
	if t.Place != nil {
		delete(t.Place.topics, t)
		t.Place = nil
	}
	t.To(redissub.Absent)
}

// keep gives each topic that is wanted to the link of the server that serves it, until the Bus is closed.
func (b *Bus) keep() {
	for pause := redissub.FirstPause; ; {
		select {
		case <-b.base.Wake:
		case <-b.base.Tasks.Context().Done():
			return
		}
		b.base.Mu.Lock()
		failed, worked := b.failed, b.worked
		b.failed, b.worked = false, false
		b.base.Mu.Unlock()
		if worked {
			pause = redissub.FirstPause
		}
		if failed {
			b.base.Tasks.Sleep(pause)
			pause = min(2*pause, redissub.LongestPause)
		}
		var slots *slots
		if b.cluster {
			ctx, cancel := context.WithTimeout(b.base.Tasks.Context(), redissub.CommandTimeout)
			var err error
			slots, err = b.where.get(ctx, b.client)
			cancel()
			if err != nil {
				b.postpone(err)
				continue
			}
		}
		b.place(slots)
	}
}

// postpone takes note that nothing can be subscribed to now.
func (b *Bus) postpone(err error) {
	b.base.Mu.Lock()
	defer b.base.Mu.Unlock()
	for _, t := range b.base.Listed {
		t.Err = away(err)
	}
	b.failed = true
	b.base.Poke()
}

// away says why nothing can be subscribed to.
func away(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}

// place gives the topics on the list to links.
func (b *Bus) place(slots *slots) {
	b.base.Mu.Lock()
	defer b.base.Mu.Unlock()
	for _, t := range b.base.Take() {
		if !t.Wanted() || t.State() != redissub.Absent {
			b.base.Look(t)
			continue
		}
		addr := ""
		if slots != nil {
			if addr = slots.owner(slotOf(t.Name)); addr == "" {
				t.Err = away(errors.New("no server serves the slot of the channel"))
				b.failed = true
				b.where.forget("")
				b.base.Look(t)
				continue
			}
		}
		l := b.links[addr]
		if l == nil {
			l = &link{bus: b, addr: addr, wake: make(chan struct{}, 1), topics: make(map[*topic]struct{})}
			b.links[addr] = l
			b.base.Tasks.Go(l.run)
		}
		t.Place = l
		l.topics[t] = struct{}{}
		t.To(redissub.Joining)
		l.hand(t)
	}
}

// run serves the link until its connection breaks, it has no topics any more, or the Bus is closed.
func (l *link) run() {
	b := l.bus
	worked, err := l.serve()
	b.base.Mu.Lock()
	if b.links[l.addr] == l {
		delete(b.links, l.addr)
	}
	lost := 0
	for t := range l.topics {
		if t.State() == redissub.Subscribed && t.Wanted() {
			lost++
		}
		t.Err = away(err)
		absent(t)
		b.base.Look(t)
	}
	if err != nil {
		b.failed = true
	}
	b.base.Mu.Unlock()
	if err == nil || b.base.Tasks.Closed() {
		return
	}
	b.where.forget("")
	b.base.Poke()
	if worked {
		b.base.Count.Reconnects.Add(1)
		b.log.Warn("redisshard: a connection of subscriptions broke; messages of other nodes may be lost", "server", l.addr, "channels", lost, "err", err)
	}
}

// serve does the work of run. It reports whether anything was ever subscribed to, and why the
// connection is no more; nothing where it is not needed any more.
func (l *link) serve() (worked bool, err error) {
	b := l.bus
	node := b.client
	if b.cluster {
		if node = b.client.Nodes()[l.addr]; node == nil {
			return false, l.introduce()
		}
	}
	client, release := node.Dedicate()
	defer release()
	defer client.Close()
	broken := client.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: l.dispatch, OnSubscription: l.pushed})
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	heard := l.heard.Load()
	for {
		for more := true; more; {
			if more, err = l.work(client); err != nil {
				return worked, err
			}
			worked = worked || more
		}
		if l.idle() {
			return worked, nil
		}
		select {
		case <-l.wake:
		case err := <-broken:
			if err == nil {
				err = errors.New("the connection was closed")
			}
			return worked, err
		case <-tick.C:
			now := l.heard.Load()
			if now == heard {
				if err := ping(b.base.Tasks.Context(), client); err != nil && l.heard.Load() == now {
					return worked, fmt.Errorf("the connection is silent: %w", err)
				}
			}
			heard = now
		case <-b.base.Tasks.Context().Done():
			return worked, nil
		}
	}
}

// dispatch takes a message from the connection.
func (l *link) dispatch(m rueidis.PubSubMessage) {
	l.heard.Add(1)
	l.bus.base.Deliver(m.Channel, m.Channel, m.Message)
}

func ping(ctx context.Context, client rueidis.DedicatedClient) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return client.Do(ctx, client.B().Ping().Build()).Error()
}

// introduce has the client find the server of the link, which it does not know yet: asked for something
// of its slot, it is sent there.
func (l *link) introduce() error {
	b := l.bus
	key := ""
	b.base.Mu.Lock()
	for t := range l.topics {
		key = t.Name
		break
	}
	b.base.Mu.Unlock()
	ctx, cancel := context.WithTimeout(b.base.Tasks.Context(), b.timeout)
	defer cancel()
	b.client.Do(ctx, b.client.B().Exists().Key(key).Build())
	return fmt.Errorf("the client does not know the server %s yet", l.addr)
}

// idle reports whether the link has nothing to do, and takes it off the list if so. In a Redis alone
// there is nothing to be saved by that.
func (l *link) idle() bool {
	b := l.bus
	b.base.Mu.Lock()
	defer b.base.Mu.Unlock()
	if !b.cluster || len(l.topics) > 0 {
		return false
	}
	delete(b.links, l.addr)
	return true
}

// work sends what the link has to do, some of it. It reports whether there was any.
func (l *link) work(client rueidis.DedicatedClient) (some bool, err error) {
	b := l.bus
	b.base.Mu.Lock()
	n := min(len(l.todo), redissub.Batch)
	topics := make([]*topic, 0, n)
	sent := make([]redissub.State, 0, n) // the states that the commands are for
	cmds := make([]rueidis.Completed, 0, n)
	for _, t := range l.todo[:n] {
		switch {
		case t.Place != l: // it was pushed off meanwhile
			continue
		case t.State() == redissub.Joining:
			cmds = append(cmds, client.B().Ssubscribe().Channel(t.Name).Build())
		case t.State() == redissub.Leaving:
			cmds = append(cmds, client.B().Sunsubscribe().Channel(t.Name).Build())
		default:
			continue
		}
		topics, sent = append(topics, t), append(sent, t.State())
	}
	l.todo = l.todo[n:]
	b.base.Mu.Unlock()
	if len(cmds) == 0 {
		return n > 0, nil
	}
	ctx, cancel := context.WithTimeout(b.base.Tasks.Context(), redissub.CommandTimeout)
	defer cancel()
	for i, r := range client.DoMulti(ctx, cmds...) {
		if err := r.NonRedisError(); err != nil {
			return true, err
		}
		l.settle(topics[i], sent[i], r.Error())
	}
	return true, nil
}

// settle takes note of what Redis has said about t to a command that was for the given state. What Redis pushed before
// that may have taken t further.
func (l *link) settle(t *topic, sent redissub.State, err error) {
	b := l.bus
	b.base.Mu.Lock()
	defer b.base.Mu.Unlock()
	switch {
	case t.Place != l || t.State() != sent:
	case sent == redissub.Leaving:
		absent(t)
	case err != nil:
		t.Err = away(err)
		b.failed = true
		if e, ok := rueidis.IsRedisErr(err); ok {
			if addr, moved := e.IsMoved(); moved {
				b.where.forget(addr)
			}
		}
		absent(t)
	default: // the client did not tell of the confirmation
		b.confirm(t)
	}
	b.base.Look(t)
}

// confirm says that t is subscribed to. b.base.Mu is held.
func (b *Bus) confirm(t *topic) {
	t.Err = nil
	b.worked = true
	t.To(redissub.Subscribed)
}

// pushed takes in what Redis says about subscriptions, on its own account too: a server lets go of those whose slot
// moves elsewhere.
func (l *link) pushed(s rueidis.PubSubSubscription) {
	b := l.bus
	b.base.Mu.Lock()
	defer b.base.Mu.Unlock()
	t := b.base.Topics[s.Channel]
	if t == nil || t.Place != l {
		return
	}
	switch {
	case s.Kind == "ssubscribe" && t.State() == redissub.Joining:
		b.confirm(t)
		b.base.Look(t)
	case s.Kind == "sunsubscribe" && t.State() == redissub.Leaving:
		absent(t)
		b.base.Look(t)
	case s.Kind == "sunsubscribe" && t.State() == redissub.Subscribed:
		b.moves.Add(1)
		b.where.forget("")
		absent(t)
		b.base.Look(t)
	}
}
