// Package membus joins the nodes of a cluster that live in one process, in memory. It
// is for tests and for examples, and it can do on demand what networks do on their
// own: lose, delay and repeat messages, fall apart, freeze, and go away.
package membus

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/cluster"
)

var (
	// ErrDown is what Publish and Subscribe return while the hub or the bus is down.
	ErrDown = errors.New("membus: the bus is down")
	// ErrClosed is what Publish and Subscribe return after Close.
	ErrClosed = errors.New("membus: the bus is closed")
)

// A Hub is the medium: what is published on one of its buses reaches all of them. The
// zero value is ready. Any number of goroutines may use it.
type Hub struct {
	mu    sync.Mutex
	buses []*Bus // never changed in place
	down  bool
	fault func(from, to, topic string) Fault
	side  map[string]int // of each bus in a partition
	tapes map[string]*tape
}

// A Fault is what happens to one message on its way to one bus.
type Fault struct {
	Drop   bool          // it does not arrive
	Repeat int           // it arrives so many times more
	Delay  time.Duration // it arrives so much later, and what comes behind it too
	Aside  bool          // with Delay: what comes behind it does not wait, and overtakes it
}

// SetFault has f decide what happens to each message between buses from and to (which
// may be the same one). f must not call the hub. nil ends all faults.
func (h *Hub) SetFault(f func(from, to, topic string) Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = f
}

// Partition splits the hub: buses named in different sides do not hear each other, and
// nobody notices but by the silence. A bus that is named in none hears all and is heard by all.
// With no sides the hub is whole again.
func (h *Hub) Partition(sides ...[]string) {
	side := make(map[string]int)
	for i, names := range sides {
		for _, name := range names {
			side[name] = i + 1
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.side = side
}

// SetDown takes the whole medium away, or brings it back. Subscriptions survive.
func (h *Hub) SetDown(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// Options are a bus's settings. A nil *Options means all defaults.
type Options struct {
	// Name tells the bus from others, for faults and partitions. It may be empty.
	Name string

	// MaxQueue is how many bytes may wait for one subscription; what comes beyond is
	// dropped and counted. If zero, 64 MiB.
	MaxQueue int64
}

// A Bus is one node's end of a hub. It implements cluster.Bus.
type Bus struct {
	hub     *Hub
	name    string
	limit   int64
	dropped atomic.Uint64
	closing chan struct{}

	mu     sync.Mutex
	subs   map[string][]*subscription // never changed in place
	down   bool
	closed bool
	thaw   chan struct{} // while the bus is frozen: closed when it is not any more
}

var _ cluster.Bus = (*Bus)(nil)

// New returns a bus on hub.
func New(hub *Hub, o *Options) *Bus {
	if o == nil {
		o = &Options{}
	}
	b := &Bus{hub: hub, name: o.Name, limit: o.MaxQueue, closing: make(chan struct{}), subs: make(map[string][]*subscription)}
	if b.limit <= 0 {
		b.limit = 64 << 20
	}
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.buses = append(hub.buses[:len(hub.buses):len(hub.buses)], b)
	return b
}

// Freeze stops the bus like the process of a node that is stopped: what is sent to it waits,
// and its own Publish waits, until Thaw.
func (b *Bus) Freeze() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.thaw == nil {
		b.thaw = make(chan struct{})
	}
}

// Thaw ends Freeze: what waited goes on its way.
func (b *Bus) Thaw() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.thaw != nil {
		close(b.thaw)
		b.thaw = nil
	}
}

// SetDown cuts this bus off, or joins it again: while it is down nothing arrives, and
// Publish returns ErrDown.
func (b *Bus) SetDown(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

// Dropped returns how many messages found a full queue.
func (b *Bus) Dropped() uint64 { return b.dropped.Load() }

// Publish implements cluster.Bus.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	h := b.hub
	h.mu.Lock()
	down, buses, fault, side := h.down, h.buses, h.fault, h.side
	h.mu.Unlock()
	if down {
		return ErrDown
	}
	msg = append([]byte(nil), msg...)
	for _, to := range buses {
		if s, t := side[b.name], side[to.name]; s != t && s != 0 && t != 0 {
			continue
		}
		to.mu.Lock()
		subs := to.subs[topic]
		if to.down {
			subs = nil
		}
		to.mu.Unlock()
		if len(subs) == 0 {
			continue
		}
		var f Fault
		if fault != nil {
			f = fault(b.name, to.name, topic)
		}
		if f.Drop {
			continue
		}
		var due time.Time
		if f.Delay > 0 {
			due = time.Now().Add(f.Delay)
		}
		for range f.Repeat + 1 {
			for _, s := range subs {
				s.put(parcel{msg, due}, f.Aside && f.Delay > 0)
			}
		}
	}
	return nil
}

// ready waits while the bus is frozen.
func (b *Bus) ready(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		b.mu.Lock()
		thaw, down, closed := b.thaw, b.down, b.closed
		b.mu.Unlock()
		switch {
		case closed:
			return ErrClosed
		case thaw != nil:
			select {
			case <-thaw:
			case <-b.closing:
			case <-ctx.Done():
			}
		case down:
			return ErrDown
		default:
			return nil
		}
	}
}

// Subscribe implements cluster.Bus.
func (b *Bus) Subscribe(ctx context.Context, topic string, deliver func(topic string, msg []byte)) (cluster.Subscription, error) {
	if err := b.ready(ctx); err != nil {
		return nil, err
	}
	b.hub.mu.Lock()
	down := b.hub.down
	b.hub.mu.Unlock()
	if down {
		return nil, ErrDown
	}
	s := &subscription{bus: b, topic: topic, deliver: deliver, wake: make(chan struct{}, 1), ended: make(chan struct{}), done: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	old := b.subs[topic]
	b.subs[topic] = append(old[:len(old):len(old)], s)
	go s.run()
	return s, nil
}

// Close implements cluster.Bus. The bus leaves the hub.
func (b *Bus) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.closing)
	}
	var subs []*subscription
	for _, ss := range b.subs {
		subs = append(subs, ss...)
	}
	b.mu.Unlock()
	for _, s := range subs {
		s.Close()
	}
	h := b.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	rest := make([]*Bus, 0, len(h.buses))
	for _, x := range h.buses {
		if x != b {
			rest = append(rest, x)
		}
	}
	h.buses = rest
	return nil
}
