package forward

import (
	"errors"
	"sync"
)

var (
	errBusy  = errors.New("forward: too many requests are under way to that node")
	errAbort = errors.New("forward: the handler broke off")
)

// An outbound is the end of a line that asks.
type outbound struct {
	line
	carrier bool // over the cluster's carrier, not a link

	calls map[uint32]*call // guarded by line.mu
	last  uint32           // the id used last
	spent sync.Pool        // calls; not for all lines in common, since channels stay in their bubble of simulated time
}

// A call is a request or a question that is under way.
type call struct {
	stream
	ready  chan struct{} // holds a token when there is an answer's head, or an error
	head   []byte        // of the answer
	buf    *buffer       // that head lies in, if it is one of the pool's
	err    error         // there will be no answer
	asks   bool          // it is a question
	passed bool          // the handler took the connection
	raw    func()        // not nil: called when something came for a client whose connection was taken
}

// A buffer is memory for a head with a small body.
type buffer [4 << 10]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func newOutbound(p *Peers, peer *peer, out pipe, carrier bool) *outbound {
	o := &outbound{carrier: carrier, calls: make(map[uint32]*call)}
	o.spent.New = func() any { return &call{ready: make(chan struct{}, 1)} }
	o.init(p, peer, out, o.ended)
	if p.leaving.Load() {
		o.pending = appendEmpty(o.pending, kindLeave, 0) // it goes with the first request
	}
	return o
}

// begin makes a call. If it returns one, o.mu is held, and the caller appends the frame and releases it.
func (o *outbound) begin() (*call, error) {
	c := o.spent.Get().(*call)
	o.mu.Lock()
	var err error
	switch {
	case !o.await():
		err = o.cause
	case len(o.calls) >= maxCalls:
		err = errBusy
	}
	if err != nil {
		o.mu.Unlock()
		o.spent.Put(c)
		return nil, err
	}
	for o.last++; o.calls[o.last] != nil; o.last++ {
	}
	c.init(&o.line, o.last)
	o.calls[o.last] = c
	return c, nil
}

// cancel ends a call whose asker went. If tell is true the other node is told.
func (o *outbound) cancel(c *call, tell bool) {
	o.mu.Lock()
	if o.calls[c.id] == c {
		o.remove(c)
		if tell && !o.dead {
			o.pending = appendEmpty(o.pending, kindAbort, c.id)
		}
	}
	o.release(true)
}

// remove takes c off the table. o.mu is held.
func (o *outbound) remove(c *call) {
	delete(o.calls, c.id)
	if len(o.calls) == 0 {
		o.idle = o.p.tick.Load()
	}
}

// recycle takes back a call that is off the table and was answered by one frame, or cancelled.
func (o *outbound) recycle(c *call) {
	if c.buf != nil {
		buffers.Put(c.buf)
	}
	select {
	case <-c.ready:
	default:
	}
	*c = call{ready: c.ready}
	o.spent.Put(c)
}

// settle gives c its answer, or the error that is instead. o.mu is held.
func (c *call) settle(head []byte, err error) {
	if c.head != nil || c.err != nil {
		return
	}
	if err != nil {
		c.err = err
		c.stream.fail(err) // the rest of the body may wait
	} else {
		if len(head) <= len(buffer{}) {
			c.buf = buffers.Get().(*buffer)
			c.head = append(c.buf[:0], head...)
		} else {
			c.head = append([]byte(nil), head...)
		}
	}
	c.ready <- struct{}{} // has room: there is one token for each call; and now c may be recycled
}

// ended is what fail calls.
func (o *outbound) ended(cause error) {
	o.peer.lost(o)
	o.mu.Lock()
	left := make([]*call, 0, len(o.calls))
	for _, c := range o.calls {
		c.settle(nil, cause)
		left = append(left, c)
	}
	if len(left) > 0 {
		o.p.count.breaks.Add(1)
	}
	clear(o.calls)
	var raws []func()
	for _, c := range left { // o.mu is held, so none of them is recycled yet
		if c.head != nil {
			c.stream.fail(cause)
			if c.raw != nil {
				raws = append(raws, c.raw)
			}
		}
	}
	o.mu.Unlock()
	for _, f := range raws {
		f()
	}
}

// frame takes in what the other node says.
func (o *outbound) frame(f frame) error {
	if f.kind == kindPing {
		o.pinged.Store(0)
		return nil
	}
	o.mu.Lock()
	c := o.calls[f.id]
	if c == nil { // it was cancelled
		o.mu.Unlock()
		return nil
	}
	var err error
	switch f.kind {
	case kindHead:
		err = o.head(c, f.payload)
		o.mu.Unlock()
		return err
	case kindAsk:
		if !c.asks {
			err = errMalformed
			break
		}
		o.remove(c)
		c.settle(f.payload, nil)
		o.mu.Unlock()
		return nil
	case kindBody:
		if len(f.payload) == 0 || c.head == nil {
			err = errMalformed
			break
		}
		if err = c.receive(f.payload[1:], f.payload[0]); err == nil && f.payload[0]&flagEnd != 0 {
			o.remove(c)
			c.deafen()
		}
	case kindAbort:
		c.settle(nil, errAbort)
		if c.head != nil {
			c.stream.fail(errAbort)
		}
		o.remove(c)
	case kindCredit:
		err = readCredit(&c.stream, f.payload)
	default:
		err = errMalformed
	}
	var raw func()
	if c.head != nil {
		raw = c.raw
	}
	o.mu.Unlock()
	if err == nil && raw != nil && (f.kind == kindBody || f.kind == kindAbort) {
		raw()
	}
	return err
}

// head takes in the head of an answer. o.mu is held.
func (o *outbound) head(c *call, payload []byte) error {
	if c.head != nil || c.asks {
		return errMalformed
	}
	a, err := readAnswer(payload, nil)
	if err != nil {
		return err
	}
	if len(a.body) > window {
		return errWindow
	}
	c.passed = a.flags&flagRaw != 0
	if a.flags&flagEnd != 0 {
		o.remove(c)
		c.deafen()
	} else {
		c.mu.Lock()
		c.open -= len(a.body)
		c.taken = len(a.body) // it is read with the head
		c.mu.Unlock()
	}
	c.settle(payload, nil)
	return nil
}

// deafen ends what we say: the answer is complete, so nobody wants the rest of the request's body.
func (c *call) deafen() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outEnd = true
	c.cond.Broadcast()
}

func readCredit(s *stream, payload []byte) error {
	r := reader{b: payload}
	hi, lo := r.uint16(), r.uint16()
	n := hi<<16 | lo
	if r.err != nil || n > window {
		return errMalformed
	}
	return s.allow(n)
}
