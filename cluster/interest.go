package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/atollhq/atoll/internal/sid"
)

// An AlwaysRouter is a Router whose nodes may have no choice: where Always is true, all
// nodes route, whatever Options.RouteRooms says and whether or not they announce themselves (the
// dynamic modes of the sharded Redis adapter). What Route names no topic for goes to all.
//
// Only an Emit that is told is routed. One for a room that this node has just told
// sockets of other nodes to join is not: it has Routed false, and goes to all.
type AlwaysRouter interface {
	Router
	Always() bool
}

// Enter says that this node has members of rooms that had none. When it returns nil, operations
// for these rooms arrive from every node. It waits for the medium where rooms are routed (see
// Options.RouteRooms and Router), and returns at once where they are not. After an error
// the node goes on trying. Each Enter of a room is ended by one Exit, after an error too.
func (n *Node) Enter(ctx context.Context, namespace string, rooms ...string) error {
	if !n.Routes() {
		return nil
	}
	topics, changed := n.topicsOf(namespace, rooms, 1)
	if changed { // others must know before we say that we are there
		if err := n.announce(ctx); err != nil {
			return fmt.Errorf("cluster: enter: %w", err)
		}
	}
	waits := n.interest.enter(n, topics)
	for _, s := range waits {
		if err := n.interest.wait(ctx, n, s); err != nil {
			return fmt.Errorf("cluster: enter: %w", err)
		}
	}
	return nil
}

// Exit says that this node has no members of rooms any more, as Enter said that it had. It does not
// wait. What is for these rooms may arrive a second longer, so that who comes right back need not wait.
func (n *Node) Exit(namespace string, rooms ...string) {
	if !n.Routes() {
		return
	}
	topics, _ := n.topicsOf(namespace, rooms, -1)
	n.interest.exit(n, topics)
}

// Routes reports whether Enter and Exit do anything, so that who has no rooms to route need not call them.
func (n *Node) Routes() bool { return n.self.Routes }

// RoutesIDs reports whether the room that is a socket's id must be entered too, like any other. Where
// it need not, the id of a socket says where it is, or what is for it alone goes to all.
func (n *Node) RoutesIDs() bool {
	return n.Routes() && !n.native && n.router.Route("/", sid.New(n.tag)) != ""
}

// topicsOf returns the topics of rooms. Those that are named like sockets it counts, and reports
// whether that changes what others must know.
func (n *Node) topicsOf(namespace string, rooms []string, delta int) (topics []string, changed bool) {
	for _, room := range rooms {
		if n.native {
			if tag, ok := sid.TagIn(room); ok {
				if tag != n.tag {
					changed = n.stranger(tag, delta) || changed
				}
				continue
			}
		}
		if topic := n.router.Route(namespace, room); topic != "" {
			topics = append(topics, topic)
		}
	}
	return topics, changed
}

const (
	linger         = time.Second // how long a topic stays subscribed to after the last has left
	maxSubscribing = 64          // how many subscriptions are made or given up at a time
	subscribeLimit = 5 * time.Second
	retryPause     = time.Second
)

// An interest is what this node subscribes to because its sockets are in rooms.
type interest struct {
	mu      sync.Mutex
	stakes  map[string]*stake // by topic
	work    []*stake          // have to be brought in order
	workers int
	idle    map[*stake]time.Time // when to look at them again
	keeping bool                 // keep runs
	closed  bool
}

// A stake is the subscription to one topic. One worker at a time has it.
type stake struct {
	topic   string
	members int // Enter less Exit
	sub     Subscription
	busy    bool          // a worker has it, or will
	left    time.Time     // when members became 0
	tried   chan struct{} // closed when the next attempt to subscribe has ended; nil where nobody waits
	err     error         // of the last attempt
}

// enter adds a member to each topic. It returns those that are not subscribed to yet.
func (x *interest) enter(n *Node, topics []string) (waits []*stake) {
	if len(topics) == 0 {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stakes == nil {
		x.stakes = make(map[string]*stake)
		x.idle = make(map[*stake]time.Time)
	}
	for _, topic := range topics {
		s := x.stakes[topic]
		if s == nil {
			s = &stake{topic: topic}
			x.stakes[topic] = s
		}
		s.members++
		if s.sub == nil {
			if s.tried == nil {
				s.tried = make(chan struct{})
			}
			waits = append(waits, s)
			x.hand(n, s)
		}
	}
	return waits
}

// exit takes a member from each topic.
func (x *interest) exit(n *Node, topics []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	for _, topic := range topics {
		s := x.stakes[topic]
		if s == nil || s.members == 0 {
			continue
		}
		if s.members--; s.members == 0 {
			s.left = now
			x.later(n, s, now.Add(linger))
		}
	}
}

// wait waits until the attempt to subscribe that is under way has ended.
func (x *interest) wait(ctx context.Context, n *Node, s *stake) error {
	x.mu.Lock()
	tried := s.tried
	if s.sub != nil {
		tried = nil
	}
	x.mu.Unlock()
	if tried != nil {
		select {
		case <-tried:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-n.ctx.Done():
			return ErrClosed
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if s.sub != nil {
		return nil
	}
	if x.closed {
		return ErrClosed
	}
	return s.err
}

// hand gives s to a worker, unless one has it. x.mu is held.
func (x *interest) hand(n *Node, s *stake) {
	if s.busy || x.closed {
		return
	}
	s.busy = true
	delete(x.idle, s)
	x.work = append(x.work, s)
	if x.workers < maxSubscribing {
		x.workers++
		n.tasks.Go(func() { x.run(n) })
	}
}

// later has s looked at again. x.mu is held.
func (x *interest) later(n *Node, s *stake, at time.Time) {
	if s.busy || x.closed {
		return
	}
	x.idle[s] = at
	if !x.keeping {
		x.keeping = true
		n.tasks.Go(func() { x.keep(n) })
	}
}

// run is a worker: it brings stakes in order while there are some.
func (x *interest) run(n *Node) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.work) > 0 && !x.closed {
		s := x.work[0]
		x.work[0] = nil
		x.work = x.work[1:]
		x.settle(n, s)
	}
	x.workers--
	if len(x.work) == 0 {
		x.work = nil
	}
}

// settle subscribes or gives up the subscription, as there are members or not. x.mu is held, but
// not meanwhile.
func (x *interest) settle(n *Node, s *stake) {
	for !x.closed {
		wanted := s.members > 0
		switch {
		case wanted && s.sub == nil:
			s.err = nil
			x.mu.Unlock()
			ctx, cancel := context.WithTimeout(n.ctx, subscribeLimit)
			sub, err := n.listen(ctx, s.topic)
			cancel()
			if err == nil {
				n.hold.listen(s.topic)
			}
			x.mu.Lock()
			s.sub, s.err = sub, err
			if s.tried != nil {
				close(s.tried)
				s.tried = nil
			}
			if err != nil {
				n.warn("enter", "cluster: a room cannot be subscribed to; its members miss what is for it until it can", "topic", s.topic, "err", err)
				s.busy = false
				x.later(n, s, time.Now().Add(retryPause))
				return
			}
		case !wanted && s.sub != nil && time.Since(s.left) < linger:
			s.busy = false
			x.later(n, s, s.left.Add(linger))
			return
		case !wanted && s.sub != nil:
			sub := s.sub
			s.sub = nil
			x.mu.Unlock()
			if err := sub.Close(); err != nil && n.ctx.Err() == nil {
				n.warn("exit", "cluster: a room's subscription did not end well", "topic", s.topic, "err", err)
			}
			n.unlistened(s.topic)
			x.mu.Lock()
		case !wanted:
			s.busy = false
			delete(x.stakes, s.topic)
			delete(x.idle, s)
			return
		default:
			s.busy = false
			return
		}
	}
	s.busy = false
}

// keep hands out the stakes whose time has come, while there are some that wait for theirs.
func (x *interest) keep(n *Node) {
	tick := time.NewTicker(linger / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
		now := time.Now()
		x.mu.Lock()
		for s, at := range x.idle {
			if !now.Before(at) {
				delete(x.idle, s)
				if s.members == 0 || s.sub == nil {
					x.hand(n, s)
				}
			}
		}
		if len(x.idle) == 0 || x.closed {
			x.keeping = false
			x.mu.Unlock()
			return
		}
		x.mu.Unlock()
	}
}

// close has the workers end.
func (x *interest) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed, x.work = true, nil
}

// closeSubscriptions ends what the workers, which have ended, have left.
func (x *interest) closeSubscriptions() {
	x.mu.Lock()
	var subs []Subscription
	for _, s := range x.stakes {
		if s.sub != nil {
			subs = append(subs, s.sub)
		}
		if s.tried != nil {
			close(s.tried)
			s.tried = nil
		}
	}
	x.stakes = nil
	x.mu.Unlock()

	var wg sync.WaitGroup
	slots := make(chan struct{}, maxSubscribing)
	for _, s := range subs {
		slots <- struct{}{}
		wg.Go(func() {
			s.Close()
			<-slots
		})
	}
	wg.Wait()
}
