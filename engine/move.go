package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atollhq/atoll/engine/wire"
	"github.com/atollhq/atoll/internal/sid"
)

// ErrNotOpen is wrapped by the error of an Adopt to a server that takes no sessions: it is shut down, or told to [Server.Refuse].
var ErrNotOpen = errors.New("engine: the server takes no sessions")

// A Parcel is a session on its way from one server to another: its id, the request that began it, and what its
// client has sent so far. See [Server.Release].
type Parcel struct {
	id   string
	hs   shake
	ping time.Duration // until the next ping; 0: there are none
	kept []kept
}

// ID returns the session id.
func (p *Parcel) ID() string { return p.id }

// Accepts reports whether sessions may begin here: the server is neither shut down nor told to [Server.Refuse].
func (s *Server) Accepts() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return !s.down && s.refusing.Load() == 0
}

// Has reports whether the session is here.
func (s *Server) Has(id string) bool { return s.lookup(id) != nil }

// Release gives a session away, for [Server.Adopt] of another server to make it there: it is not here any more, as if it
// had never been. Its handler is told with ReasonMoved, and has heard nothing of the session before. A poll that
// waits is answered with a noop packet, and requests that come later are for [Options].Foreign to answer.
//
// That can be done with a session that is still held (see [Options].Hold): it polls, its client has not begun to change to
// WebSocket here, and nothing was handed up or sent to it. For any other Release reports false, and changes nothing. Where a
// POST of the session is under way, Release waits for its end, at most until ctx ends.
func (s *Server) Release(ctx context.Context, id string) (*Parcel, bool) {
	c := s.lookup(id)
	if c == nil {
		return nil, false
	}
	for {
		p, wait := c.release()
		if wait == nil {
			if p == nil {
				return nil, false
			}
			s.remove(c)
			s.movedOut.Add(1)
			c.notify(c.cause)
			return p, true
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// release takes the session out of service and packs it. If that can only be done when no POST is being served, and no request
// being looked at any more, it returns a channel that is closed then. If it cannot be done, it returns nothing.
func (c *Conn) release() (*Parcel, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hold
	switch {
	case c.state.Load() != open || h == nil || h.over || c.out != nil || c.await || c.ws != nil || c.probe != nil || len(c.hs.lines) > maxLines:
		return nil, nil
	case c.post != nil || c.claims > 0:
		if h.idle == nil {
			h.idle = make(chan struct{})
		}
		return nil, h.idle
	}
	p := &Parcel{id: c.id, hs: c.hs, kept: c.dropHold()}
	if c.srv.o.PingInterval > 0 {
		p.ping = max(time.Until(c.due), time.Millisecond)
	}
	c.state.Store(closed)
	c.moved = true
	c.cause = &CloseError{Reason: ReasonMoved}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.out, c.queued = nil, 0
	c.dropAnswer()
	c.farewell = wire.Noop
	c.signal()
	return p, nil
}

// Adopt makes a session that another server has released. The accept function is called as for a new one, but Options.Allow is
// not: the session was allowed to begin. [Conn.Handshake] is the request that began it there. What the client has sent
// is handed up before Adopt returns; Flush is called behind it by another goroutine. From then on the session is as if
// it had been here always.
//
// The servers should have the same options. An error says why the session was not made: it wraps ErrNotOpen, or what
// the accept function returned, or the id is here already; its client has to begin anew.
func (s *Server) Adopt(p *Parcel) error {
	c := &Conn{srv: s, id: p.id, hs: p.hs, seat: s.seats.Add(1) * 61}
	c.turn.Lock() // a POST that comes at once waits for what was kept
	defer c.turn.Unlock()
	if !s.Accepts() {
		return ErrNotOpen
	}
	if _, ok := sid.TagIn(p.id); !ok {
		return errors.New("engine: adopt: not a session id")
	}
	if err := s.seat(c); err != nil {
		return err
	}
	if err := s.ask(c); err != nil {
		return fmt.Errorf("engine: adopt: %w", err)
	}
	s.movedIn.Add(1)
	if !c.begin(nil) {
		return ErrNotOpen
	}
	sound := false
	defer func() {
		if !sound {
			c.cut(&CloseError{Reason: ReasonTransportError, Err: errPanic}, nil)
		}
	}()
	c.mu.Lock()
	if i := s.o.PingInterval; i > 0 && p.ping > 0 && p.ping < i && c.state.Load() == open {
		c.arm(p.ping)
	}
	c.mu.Unlock()
	if c.handOver(p.kept) {
		s.group.Go(func() { c.flush(&run{}) })
	}
	sound = true
	return nil
}

// seat puts a session that comes from elsewhere among those that are here.
func (s *Server) seat(c *Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return ErrNotOpen
	}
	if s.conns[c.id] != nil {
		return errors.New("engine: adopt: the session is here already")
	}
	s.conns[c.id] = c
	return nil
}
