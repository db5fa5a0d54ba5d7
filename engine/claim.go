package engine

import "net/http"

// A request claims the session that it has found, until it has looked at its state. So long the session is not released: whose the
// request is stands before the user's hook for headers is called, and no other server calls its own for it.

// claim reports false, and claims nothing, where the session has ended.
func (c *Conn) claim() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Load() == closed {
		return false
	}
	c.claims++
	return true
}

// claimed ends a claim. c.mu is held.
func (c *Conn) claimed() {
	if c.claims--; c.claims == 0 && c.post == nil {
		c.idle()
	}
}

// unclaim ends the claim of a request that has no need of the session.
func (c *Conn) unclaim() {
	c.mu.Lock()
	c.claimed()
	c.mu.Unlock()
}

// ownHeaders has the headers set of the answer to a request with a claim.
func (s *Server) ownHeaders(c *Conn, w http.ResponseWriter, r *http.Request) {
	sound := false
	defer func() {
		if !sound {
			c.unclaim()
		}
	}()
	s.headers(w, r, false)
	sound = true
}

// idle tells Release, if it waits, that no request is being looked at. c.mu is held.
func (c *Conn) idle() {
	if h := c.hold; h != nil && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
}

// gone answers a request that has found a session which has ended.
func (s *Server) gone(c *Conn, w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	moved := c.moved
	c.mu.Unlock()
	if moved {
		s.unknown(w, r, c.id)
		return
	}
	s.RefuseUnknown(w, r)
}
