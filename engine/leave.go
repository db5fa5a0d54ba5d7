package engine

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// What a server offers to whoever wants to empty it little by little.

// Refuse has handshakes answered with status 503 from now on, and a Retry-After header of so long,
// in whole seconds and at least one. If it is zero, sessions may begin again. Sessions that are
// there go on either way.
func (s *Server) Refuse(retryAfter time.Duration) {
	if retryAfter > 0 {
		retryAfter = max(retryAfter, time.Second)
	}
	s.refusing.Store(int64((retryAfter + time.Second - 1) / time.Second))
}

// refuseBusy answers a handshake that comes to the wrong time.
func (s *Server) refuseBusy(w http.ResponseWriter) {
	w.Header().Set("Retry-After", strconv.FormatInt(max(s.refusing.Load(), 1), 10))
	writeError(w, http.StatusServiceUnavailable, ErrBadRequest, "Server is shutting down")
}

// Sessions returns the sessions of the moment, in no order.
func (s *Server) Sessions() []*Conn {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.AppendSeq(make([]*Conn, 0, len(s.conns)), maps.Values(s.conns))
}

// Handler returns what the accept function returned for the session, nil while that runs.
func (c *Conn) Handler() Handler {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.h
}

// An Activity says what goes on in a session.
type Activity struct {
	Open    bool   // false while it is being opened, and when it was told to end
	Batches uint32 // reads and requests with messages of the client, from any number on; it wraps
	Queued  int    // bytes that wait to be written, or are being written
	Busy    bool   // a message of the client has begun to arrive, or is being handled
}

// Activity returns what goes on at the moment.
func (c *Conn) Activity() Activity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Activity{
		Open: c.state.Load() == open, Batches: c.batches, Queued: c.queued,
		Busy: c.post != nil || c.run != nil || c.probe != nil || c.ws != nil && c.ws.within.Load(),
	}
}

// Leave asks the client to go, and to connect anew, which the official client does by itself. What is
// queued still goes out, and then a close packet over polling, a close frame over WebSocket; Send returns ErrClosed. Unlike
// with [Conn.Close], what the client has sent before it heard of that is still handed up, and Handler.Closed is
// called when its connection has ended, or after [Options.CloseGrace], when it is cut off. The cause is that of Close.
//
// Leave does not wait. It reports false, and does nothing, where the session is not open.
func (c *Conn) Leave(cause error) bool {
	c.settleHold()
	c.mu.Lock()
	if c.state.Load() != open {
		c.mu.Unlock()
		return false
	}
	c.cause = asCloseError(cause)
	c.leaving = true // before the state: message reads it without the lock
	c.state.Store(closing)
	c.arm(c.srv.o.CloseGrace)
	t := nothing
	if c.ws != nil {
		c.pushClose()
		t = c.wake(false)
	} else {
		c.signal()
	}
	c.mu.Unlock()
	c.do(t)
	return true
}

// Cut ends the session at once, with the cause that Close would have: what is queued is lost.
func (c *Conn) Cut(cause error) { c.cut(asCloseError(cause), nil) }

// hears reports whether messages of the client are still handed up.
func (c *Conn) hears() bool {
	switch c.state.Load() {
	case open:
		return true
	case closing:
		return c.leaving
	}
	return false
}

// parting reports whether a POST is under way in a session whose client was just told to leave: then the
// end of that is the end of the session. c.mu is held.
func (c *Conn) parting() bool {
	c.parted = c.leaving && c.post != nil
	return c.parted
}
