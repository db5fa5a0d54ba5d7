package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/engine/wire"
)

// A Handler is what a session pushes into. See the package comment for what is
// promised about the order of its calls.
type Handler interface {
	// Message is called for each message of the client, in order and one at a time.
	// data is valid until it returns, and may be changed. Message must not block: while it
	// runs, nothing is read from the client, not even a pong.
	Message(data []byte, binary bool)

	// Flush is called after each batch of messages that one read brought. It may take
	// its time: once it has run for [Options.HandlerGrace], or calls [Conn.Handoff], another
	// goroutine goes on reading, and Message and Flush may be called while it runs.
	Flush()

	// Closed is called once, after the last Message has returned, from a goroutine of its
	// own. cause is always a *CloseError. A Flush may still run, or just begin, at that time.
	Closed(cause error)
}

// The states of a session, in their order.
const (
	opening uint32 = iota // the accept function runs
	open
	closing // Close was called; what is queued goes out
	closed
)

// A Conn is the session of one client, over whatever transport it uses at the
// moment. Any number of goroutines may use it at once.
type Conn struct {
	srv  *Server
	id   string
	hs   shake
	h    Handler // set once, before the state becomes open
	seat uint32  // where the watch looks for it first

	// turn is held while Message is called, so that a POST and a WebSocket that takes
	// over from it do not call it at the same time.
	turn sync.Mutex

	since atomic.Uint32 // when, in ticks of the watch, the Flush in progress began
	state atomic.Uint32 // changed with mu held

	mu      sync.Mutex
	cause   *CloseError // why the session ended
	out     *outbox     // what waits to be written; nil: nothing
	queued  int         // its bytes, and those that are being written
	corked  int         // how many batches collect what is sent
	batches uint32      // how many there were

	writing bool  // one goroutine, whoever it is, writes to ws
	blocked bool  // ws takes no more: that goroutine waits
	dirty   bool  // it is on the list of the flushers
	next    *Conn // on that list

	run *run // the Flush that can be relieved

	ws     *socket // nil: polling
	probe  *socket // a WebSocket that is about to become ws
	nudges int     // polls answered at once because of probe

	waiting   bool          // a GET waits for something to send
	signalled bool          // it was told to go on
	wakeup    chan struct{} // the signal; kept for the next GET
	farewell  wire.Type     // what a GET gets when the session is closed
	carried   *carried      // the last GET, if it was brought by a Carrier; nil: it was not
	post      *post         // the POST that is being served
	leaving   bool          // Leave was called; set before the state becomes closing
	parted    bool          // the client knows; its POST is the last of it
	apart     bool          // handlers of POSTs take long: they get a goroutine
	claims    int           // requests that have found the session, and not looked at it yet
	hold      *hold         // what is kept back for a while; nil: nothing is
	moved     bool          // the session was given away

	timer *time.Timer // the next ping, the end of waiting for a pong, or of closing
	due   time.Time   // when it should fire
	await bool        // a ping was sent that has no pong yet
}

// ID returns the session id. It is a secret between server and client.
func (c *Conn) ID() string { return c.id }

// Handshake returns the request that began the session. It is put together at each call:
// keep it rather than ask again.
func (c *Conn) Handshake() *Handshake { return c.hs.unpack() }

// Transport returns the name of the transport that is in use: Polling or WebSocket.
func (c *Conn) Transport() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ws != nil {
		return WebSocket
	}
	return Polling
}

// Queued returns how many bytes wait to be written to the client.
func (c *Conn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queued
}

// Close ends the session. What is queued still goes out, and then a polling client
// gets a close packet, a WebSocket client a close frame; one that does not take it
// within [Options.CloseGrace] is cut off. Handler.Closed is called at once, with cause
// where that is a *CloseError, else with ReasonForcedClose and cause behind it.
//
// Close does not wait, and may be called from anywhere, any number of times: the first counts.
func (c *Conn) Close(cause error) {
	e := asCloseError(cause)
	c.mu.Lock()
	st := c.state.Load()
	if st >= closing {
		c.mu.Unlock()
		return
	}
	c.state.Store(closing)
	c.cause = e
	c.dropHold()
	c.arm(c.srv.o.CloseGrace)
	var t task
	switch {
	case st == opening: // serve sees the state when accept returns
	case c.ws != nil:
		c.pushClose()
		t = c.wake(false)
	default:
		c.signal()
	}
	c.mu.Unlock()
	c.do(t)
	if st == open {
		c.notify(e)
	}
}

// pushClose queues the close frame that follows what is queued. c.mu is held.
func (c *Conn) pushClose() {
	code := wire.CloseNormal
	if c.cause.Reason == ReasonShutdown {
		code = wire.CloseAway
	}
	c.ws.sentClose = true
	c.push(wire.Packet{Type: typeWSClose, Data: []byte{byte(code >> 8), byte(code)}})
}

// cut ends the session at once. What is queued is lost. keep, where not nil, is a socket
// that its reader itself closes.
func (c *Conn) cut(e *CloseError, keep *socket) {
	c.mu.Lock()
	st := c.state.Load()
	if st == closed {
		c.mu.Unlock()
		return
	}
	c.state.Store(closed)
	if st < closing {
		c.cause = e
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.out, c.queued = nil, 0
	c.dropHold()
	c.dropAnswer()
	ws, probe := c.ws, c.probe
	if c.farewell == 0 {
		c.farewell = wire.Close
	}
	c.signal()
	if c.post != nil {
		c.post.abort()
	}
	c.mu.Unlock()

	c.srv.remove(c)
	if ws != nil {
		c.srv.websockets.Add(-1)
	}
	if ws != nil && ws != keep {
		ws.cut(e)
	}
	if probe != nil && probe != keep {
		probe.cut(e)
	}
	if st == open {
		c.notify(e)
	} else if st == closing && c.leaving {
		c.notify(c.cause)
	}
}

// notify tells the handler that the session has ended. It has a goroutine of its own,
// since the caller may be the handler, or hold its locks.
func (c *Conn) notify(e *CloseError) {
	if e.Reason != ReasonMoved {
		c.srv.count(e)
	}
	c.srv.group.Go(func() {
		c.turn.Lock()
		//lint:ignore SA2001 only waits until the last Message has returned
		c.turn.Unlock()
		c.h.Closed(e)
	})
}

// Handoff gives the reading of the client to another goroutine if a Flush is running, so that
// pings, answers and the end of the session are noticed while that Flush waits for
// something; what was sent so far leaves. If no Flush runs, or Handoff was
// called for it before, it does nothing. Any goroutine may call it.
func (c *Conn) Handoff() {
	c.mu.Lock()
	r := c.run
	if r == nil {
		c.mu.Unlock()
		return
	}
	c.stand(r)
	t := c.wake(false)
	c.mu.Unlock()
	c.srv.handoffs.Add(1)
	r.relieve(c)
	c.do(t)
}

// slow relieves a Flush that has run for so many ticks of the watch. An HTTP connection costs
// more than a goroutine: a POST is answered early only after a while, but what was sent so far leaves.
func (c *Conn) slow(ticks uint32) {
	c.mu.Lock()
	r := c.run
	if r == nil || r.post == nil || ticks >= postTicks {
		c.mu.Unlock()
		c.Handoff()
		return
	}
	t := nothing
	if !r.loose {
		r.loose = true
		c.corked--
		t = c.wake(false)
	}
	c.mu.Unlock()
	c.do(t)
}

// postTicks is after how many ticks a POST is answered while its handlers run.
const postTicks = 40

// A run is a goroutine that runs the handlers for one source of messages.
type run struct {
	ws    *socket // the reader of a WebSocket, or
	post  *post   // the goroutine of a POST, or neither: one that does nothing else
	slot  int     // in the watch
	loose bool    // its batch has ended, though its handlers run
	runs  bool    // a Flush, which has not returned; guarded by c.mu
}

// relieve lets another goroutine do what r cannot do while it runs a handler.
func (r *run) relieve(c *Conn) {
	switch {
	case r.ws != nil:
		c.srv.group.Go(func() { r.ws.serve(&run{ws: r.ws}) })
	case r.post != nil:
		c.srv.group.Go(r.post.answerEarly)
	}
}

// cork begins a batch: what is sent from here on is collected.
func (c *Conn) cork() {
	c.mu.Lock()
	c.corked++
	c.batches++
	c.mu.Unlock()
}

// uncork ends a batch without calling the handler.
func (c *Conn) uncork() {
	c.mu.Lock()
	c.corked--
	t := c.wake(true)
	c.mu.Unlock()
	c.do(t)
}

// flush ends a batch that cork began: it calls Handler.Flush, writes what was collected, and
// reports whether r was relieved meanwhile, so that it may go on with nothing.
func (c *Conn) flush(r *run) (relieved bool) {
	c.mu.Lock()
	other := c.run
	var t task
	if other != nil {
		c.stand(other)
		t = c.wake(false)
	}
	c.run, r.runs = r, true
	r.slot = c.srv.watch.enter(c)
	c.mu.Unlock()
	if other != nil {
		other.relieve(c)
		c.do(t)
	}
	if r.slot < 0 {
		c.Handoff() // the watch has no room: do not wait for it
	} else {
		c.srv.watch.start(c.srv)
	}

	c.h.Flush()

	c.mu.Lock()
	r.runs = false
	if c.run != r {
		c.mu.Unlock()
		return true
	}
	c.stand(r)
	t = c.wake(true)
	c.mu.Unlock()
	c.do(t)
	return false
}

// abandon takes back a run whose Flush may have panicked, and reports whether it had been relieved.
func (c *Conn) abandon(r *run) (relieved bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == r {
		c.stand(r)
		return false
	}
	return r.runs
}

// stand takes r, which is c.run, out of the watch and ends its batch. c.mu is held.
func (c *Conn) stand(r *run) {
	c.run = nil
	c.srv.watch.leave(c, r.slot)
	if !r.loose {
		c.corked--
	}
}

// message hands one message up. c.turn is held.
func (c *Conn) message(data []byte, binary bool) {
	if c.hears() {
		c.h.Message(data, binary)
	}
}
