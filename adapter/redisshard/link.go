package redisshard

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	firstPause     = 10 * time.Millisecond // between two tries
	longestPause   = 500 * time.Millisecond
	commandTimeout = 5 * time.Second // for one batch
	batch          = 256             // commands sent at once
	pingEvery      = time.Second
	pingTimeout    = 3 * time.Second // without a sign of life after it a connection is dead
)

// A link is a connection to one server, for subscriptions.
type link struct {
	bus    *Bus
	addr   string // empty where Redis is alone
	wake   chan struct{}
	heard  atomic.Uint64       // messages that came
	topics map[*topic]struct{} // those with this link; b.mu guards it
	todo   []*topic            // are joining or leaving; b.mu guards it
}

// hand has the link bring t in order. b.mu is held.
func (l *link) hand(t *topic) {
	l.todo = append(l.todo, t)
	signal(l.wake)
}

// keep gives each topic that is wanted to the link of the server that serves it, until the Bus is closed.
func (b *Bus) keep() {
	for pause := firstPause; ; {
		select {
		case <-b.wake:
		case <-b.ctx.Done():
			return
		}
		b.mu.Lock()
		failed, worked := b.failed, b.worked
		b.failed, b.worked = false, false
		b.mu.Unlock()
		if worked {
			pause = firstPause
		}
		if failed {
			b.sleep(pause)
			pause = min(2*pause, longestPause)
		}
		var slots *slots
		if b.cluster {
			ctx, cancel := context.WithTimeout(b.ctx, commandTimeout)
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
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.dirty {
		t.err = err
	}
	b.failed = true
	signal(b.wake)
}

// place gives the topics on the list to links.
func (b *Bus) place(slots *slots) {
	b.mu.Lock()
	defer b.mu.Unlock()
	dirty := b.dirty
	b.dirty = nil
	for _, t := range dirty {
		t.dirty = false
		if len(t.subs) == 0 || t.state != absent {
			b.look(t)
			continue
		}
		addr := ""
		if slots != nil {
			if addr = slots.owner(t.slot); addr == "" {
				t.err = errors.New("no server serves the slot of the channel")
				b.failed = true
				b.where.forget("")
				b.look(t)
				continue
			}
		}
		l := b.links[addr]
		if l == nil {
			l = &link{bus: b, addr: addr, wake: make(chan struct{}, 1), topics: make(map[*topic]struct{})}
			b.links[addr] = l
			b.tasks.Go(l.run)
		}
		t.link = l
		l.topics[t] = struct{}{}
		t.to(joining)
		l.hand(t)
	}
}

// run serves the link until its connection breaks, it has no topics any more, or the Bus is closed.
func (l *link) run() {
	b := l.bus
	worked, err := l.serve()
	b.mu.Lock()
	if b.links[l.addr] == l {
		delete(b.links, l.addr)
	}
	lost := 0
	for t := range l.topics {
		if t.state == subscribed && len(t.subs) > 0 {
			lost++
		}
		t.err = err
		t.to(absent)
		b.look(t)
	}
	if err != nil {
		b.failed = true
	}
	b.mu.Unlock()
	if err == nil || b.ctx.Err() != nil {
		return
	}
	b.where.forget("")
	signal(b.wake)
	if worked {
		b.count.reconnects.Add(1)
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
				if err := ping(b.ctx, client); err != nil && l.heard.Load() == now {
					return worked, fmt.Errorf("the connection is silent: %w", err)
				}
			}
			heard = now
		case <-b.ctx.Done():
			return worked, nil
		}
	}
}

// dispatch takes a message from the connection.
func (l *link) dispatch(m rueidis.PubSubMessage) {
	l.heard.Add(1)
	l.bus.dispatch(m)
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
	b.mu.Lock()
	for t := range l.topics {
		key = t.name
		break
	}
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(b.ctx, b.timeout)
	defer cancel()
	b.client.Do(ctx, b.client.B().Exists().Key(key).Build())
	return fmt.Errorf("the client does not know the server %s yet", l.addr)
}

// idle reports whether the link has nothing to do, and takes it off the list if so. In a Redis alone
// there is nothing to be saved by that.
func (l *link) idle() bool {
	b := l.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.cluster || len(l.topics) > 0 {
		return false
	}
	delete(b.links, l.addr)
	return true
}

// work sends what the link has to do, some of it. It reports whether there was any.
func (l *link) work(client rueidis.DedicatedClient) (some bool, err error) {
	b := l.bus
	b.mu.Lock()
	n := min(len(l.todo), batch)
	topics := make([]*topic, 0, n)
	sent := make([]state, 0, n) // the states that the commands are for
	cmds := make([]rueidis.Completed, 0, n)
	for _, t := range l.todo[:n] {
		switch {
		case t.link != l: // it was pushed off meanwhile
			continue
		case t.state == joining:
			cmds = append(cmds, client.B().Ssubscribe().Channel(t.name).Build())
		case t.state == leaving:
			cmds = append(cmds, client.B().Sunsubscribe().Channel(t.name).Build())
		default:
			continue
		}
		topics, sent = append(topics, t), append(sent, t.state)
	}
	l.todo = l.todo[n:]
	b.mu.Unlock()
	if len(cmds) == 0 {
		return n > 0, nil
	}
	ctx, cancel := context.WithTimeout(b.ctx, commandTimeout)
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
func (l *link) settle(t *topic, sent state, err error) {
	b := l.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case t.link != l || t.state != sent:
	case sent == leaving:
		t.to(absent)
	case err != nil:
		t.err = err
		b.failed = true
		if e, ok := rueidis.IsRedisErr(err); ok {
			if addr, moved := e.IsMoved(); moved {
				b.where.forget(addr)
			}
		}
		t.to(absent)
	default: // the client did not tell of the confirmation
		b.confirm(t)
	}
	b.look(t)
}

// confirm says that t is subscribed to. b.mu is held.
func (b *Bus) confirm(t *topic) {
	t.err = nil
	b.worked = true
	t.to(subscribed)
}

// pushed takes in what Redis says about subscriptions, on its own account too: a server lets go of those whose slot
// moves elsewhere.
func (l *link) pushed(s rueidis.PubSubSubscription) {
	b := l.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[s.Channel]
	if t == nil || t.link != l {
		return
	}
	switch {
	case s.Kind == "ssubscribe" && t.state == joining:
		b.confirm(t)
		b.look(t)
	case s.Kind == "sunsubscribe" && t.state == leaving:
		t.to(absent)
		b.look(t)
	case s.Kind == "sunsubscribe" && t.state == subscribed:
		b.count.moves.Add(1)
		b.where.forget("")
		t.to(absent)
		b.look(t)
	}
}
