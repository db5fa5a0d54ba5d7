package engine

import (
	"sync"

	"github.com/atollhq/atoll/engine/wire"
)

// What a session sends is collected in an outbox, and written by one goroutine at
// a time: the reader at the end of its batch, the sender where that is cheap, a
// flusher, or, for a client that does not take more, a goroutine of its own.

// Packets that only a WebSocket knows: control frames. Their type is the first byte of the frame.
const (
	typeWSClose wire.Type = 0x80 | wire.Type(wire.OpClose)
	typeWSPong  wire.Type = 0x80 | wire.Type(wire.OpPong)
)

// volatileMark is how many bytes may wait for a client before volatile packets are dropped.
const volatileMark = 64 << 10

// An outbox holds packets that wait, in order. It comes from a pool, so that
// a session for which nothing waits holds none.
type outbox struct {
	ps []wire.Packet
	n  int // bytes
}

var outboxes = sync.Pool{New: func() any { return &outbox{ps: make([]wire.Packet, 0, 8)} }}

// free gives o back. It forgets the packets.
func (o *outbox) free() {
	if cap(o.ps) > 256 {
		return
	}
	clear(o.ps)
	o.ps, o.n = o.ps[:0], 0
	outboxes.Put(o)
}

// size is about how many bytes p takes on the wire.
func size(p *wire.Packet) int { return len(p.Data) + 4 }

// push queues a packet. c.mu is held.
func (c *Conn) push(p wire.Packet) {
	if c.out == nil {
		c.out = outboxes.Get().(*outbox)
	}
	c.out.ps = append(c.out.ps, p)
	n := size(&p)
	c.out.n += n
	c.queued += n
}

// Send queues packets, together and behind everything that was sent before, and
// returns without waiting for the client. The packets' data must not change afterwards.
// It returns ErrClosed if the session has ended or is about to. A client for
// which more than [Options.MaxQueue] bytes would wait is cut off; the error is then a *CloseError.
func (c *Conn) Send(ps ...wire.Packet) error {
	n := 0
	for i := range ps {
		n += size(&ps[i])
	}
	c.mu.Lock()
	if c.state.Load() > open {
		c.mu.Unlock()
		return ErrClosed
	}
	if c.queued > 0 && c.queued+n > c.srv.o.MaxQueue {
		got := c.queued + n
		c.mu.Unlock()
		return c.tooSlow(got)
	}
	for i := range ps {
		c.push(ps[i])
	}
	c.letGo()
	t := c.wake(false)
	c.mu.Unlock()
	c.do(t)
	return nil
}

// SendVolatile is Send for packets that are worth nothing later: they are dropped if they
// would have to wait, because the client polls and no poll is open, or because it does not take
// what was written before. It reports whether they were sent.
func (c *Conn) SendVolatile(ps ...wire.Packet) bool {
	c.mu.Lock()
	wait := c.blocked || c.queued > volatileMark || c.ws == nil && !c.waiting
	if wait || c.state.Load() != open {
		c.mu.Unlock()
		c.srv.dropped.Add(uint64(len(ps)))
		return false
	}
	for i := range ps {
		c.push(ps[i])
	}
	c.letGo()
	t := c.wake(false)
	c.mu.Unlock()
	c.do(t)
	return true
}

// tooSlow cuts off a client that does not take what it is sent.
func (c *Conn) tooSlow(got int) error {
	e := &CloseError{Reason: ReasonTransportError, Err: &LimitError{What: LimitQueue, Limit: c.srv.o.MaxQueue, Got: got}}
	if c.state.Load() != closed {
		c.srv.slow.Add(1)
	}
	c.cut(e, nil)
	return e
}

// A task is what is left to do for a session once its lock is free.
type task uint8

const (
	nothing   task = iota
	writeHere      // c.write; the caller owns c.writing
	writeLater
	writeApart // c.writeApart, in a goroutine; it owns c.writing
)

// wake decides who writes what is queued. mine says that the caller has just ended a batch of
// the session's own. c.mu is held; call do with the result when it is not.
func (c *Conn) wake(mine bool) task {
	if st := c.state.Load(); c.out == nil || c.corked > 0 || st == opening || st == closed {
		return nothing
	}
	switch {
	case c.ws == nil:
		c.signal()
		return nothing
	case c.writing || c.dirty:
		return nothing
	case c.ws.raw == nil:
		c.writing, c.blocked = true, true
		return writeApart
	case mine || c.srv.flushers.lonely():
		c.writing = true
		return writeHere
	}
	c.dirty = true
	return writeLater
}

// do does what wake decided.
func (c *Conn) do(t task) {
	switch t {
	case writeHere:
		c.write()
	case writeLater:
		c.srv.flushers.add(c.srv, c)
	case writeApart:
		c.srv.group.Go(func() { c.writeApart(nil) })
	}
}

// rounds is how often write looks whether there is more before it leaves that to a flusher.
const rounds = 4

// write writes what is queued without waiting for the client. The caller owns c.writing.
func (c *Conn) write() {
	for i := 0; ; i++ {
		o, t := c.takeOut(i >= rounds)
		if o == nil {
			c.do(t)
			return
		}
		rest, err := c.ws.write(o)
		if err != nil {
			c.writeFailed(err)
			return
		}
		if rest != nil {
			c.mu.Lock()
			c.blocked = true
			c.mu.Unlock()
			c.srv.group.Go(func() { c.writeApart(rest) })
			return
		}
		c.written(o)
	}
}

// writeApart writes what is queued, and waits for the client where it must. It owns c.writing.
func (c *Conn) writeApart(rest *remainder) {
	for {
		if rest == nil {
			o, _ := c.takeOut(false)
			if o == nil {
				return
			}
			rest = &remainder{o: o}
		}
		if err := c.ws.writeRest(rest); err != nil {
			c.writeFailed(err)
			return
		}
		c.written(rest.o)
		rest = nil
	}
}

// takeOut takes what is queued from the session, to write it. If there is nothing to write, or
// enough was written, it returns nil, and c.writing is no longer the caller's.
func (c *Conn) takeOut(enough bool) (*outbox, task) {
	c.mu.Lock()
	o := c.out
	over := c.state.Load() == closed
	if o == nil || c.corked > 0 || enough || over {
		c.writing, c.blocked = false, false
		if over {
			bye := c.ws.bye
			c.ws.bye = nil
			c.mu.Unlock()
			c.ws.writeBye(bye)
			return nil, nothing
		}
		t := nothing
		if enough {
			t = c.wakeLater()
		}
		c.mu.Unlock()
		return nil, t
	}
	c.out = nil
	c.mu.Unlock()
	return o, nothing
}

// wakeLater leaves what is queued to a flusher. c.mu is held.
func (c *Conn) wakeLater() task {
	if c.out == nil || c.dirty || c.corked > 0 {
		return nothing
	}
	c.dirty = true
	return writeLater
}

// written accounts for what was written, and gives the outbox back.
func (c *Conn) written(o *outbox) {
	c.mu.Lock()
	if c.state.Load() != closed { // then queued is 0 already
		c.queued -= o.n
	}
	c.mu.Unlock()
	c.srv.packetsOut.Add(uint64(len(o.ps)))
	o.free()
}

// writeFailed ends a session to which nothing can be written.
func (c *Conn) writeFailed(err error) {
	c.cut(&CloseError{Reason: ReasonTransportClose, Err: err}, nil)
}
