package engine

import (
	"time"

	"github.com/atollhq/atoll/engine/wire"
)

// A session whose client may be about to come over a WebSocket somewhere else is held: what the client POSTs first
// is answered, but not handed up yet. So nobody has seen anything of the session, and it can be
// given away; see Release.

// maxHeld is how many bytes are kept back for a session, each message counted with heldOverhead more.
const (
	maxHeld      = 8 << 10
	heldOverhead = 64
)

// A hold is what is kept back of a session. It is guarded by c.mu; while c.turn is held and a POST is being served, only the end of the
// session takes it away.
type hold struct {
	length time.Duration // how long, from the first message on
	timer  *time.Timer   // nil: there was none so far
	kept   []kept
	size   int
	over   bool          // it ends now: the session is not given away any more
	idle   chan struct{} // closed when no POST is being served and no request looked at; nil: nobody waits
}

// A kept message was POSTed and not handed up yet.
type kept struct {
	data   []byte
	binary bool
}

// mayHold has what the client of a session that begins sends kept back at first, if that is wanted.
func (s *Server) mayHold(c *Conn) {
	if s.o.Hold == nil || !s.offersUpgrade() {
		return
	}
	d := s.o.Hold()
	if d <= 0 {
		return
	}
	c.mu.Lock()
	if c.out != nil && len(c.out.ps) == 1 { // nothing was sent but the open packet
		c.hold = &hold{length: d}
	}
	c.mu.Unlock()
}

// keep keeps a message back. If it reports false, that is not possible, and what was kept is to be handed up before the
// message. c.turn is held, and a POST is being served.
func (c *Conn) keep(h *hold, p *wire.Packet) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(p.Data) + heldOverhead
	if c.hold != h || h.over || h.size+n > maxHeld { // not h: the session has ended
		return false
	}
	h.size += n
	h.kept = append(h.kept, kept{append([]byte(nil), p.Data...), p.Binary})
	if h.timer == nil {
		h.timer = time.AfterFunc(h.length, func() { c.srv.group.Go(c.unhold) })
	}
	return true
}

// dropHold ends the hold, if there is one, and returns what was kept. c.mu is held.
func (c *Conn) dropHold() []kept {
	h := c.hold
	if h == nil {
		return nil
	}
	c.hold = nil
	if h.timer != nil {
		h.timer.Stop()
	}
	if h.idle != nil {
		close(h.idle)
	}
	return h.kept
}

// letGo ends the hold because something was sent to the client. c.mu is held.
func (c *Conn) letGo() {
	if h := c.hold; h != nil && !h.over {
		h.over = true
		c.srv.group.Go(c.unhold) // the sender may hold c.turn
	}
}

// unhold hands up what was kept, and runs the handlers.
func (c *Conn) unhold() {
	if c.handUp() {
		c.flush(&run{})
	}
}

// settleHold hands up what was kept, before it returns, and has the handlers run.
func (c *Conn) settleHold() {
	if c.handUp() {
		c.srv.group.Go(func() { c.flush(&run{}) })
	}
}

// handUp hands up what was kept. If it reports true, the handlers are to be run, with c.flush.
func (c *Conn) handUp() bool {
	c.mu.Lock()
	held := c.hold != nil
	c.mu.Unlock()
	if !held {
		return false
	}
	c.turn.Lock() // nobody holds it in Message, which is not called while there is a hold
	defer c.turn.Unlock()
	c.mu.Lock()
	ms := c.dropHold()
	c.mu.Unlock()
	return c.handOver(ms)
}

// handOver hands up messages that were kept, and begins a batch for what their handlers send, if there are any. c.turn is held.
func (c *Conn) handOver(ms []kept) bool {
	if len(ms) == 0 {
		return false
	}
	c.cork()
	for _, m := range ms {
		c.message(m.data, m.binary)
	}
	return true
}

// handUpNow ends the hold and hands up what was kept, in a batch that has begun. It returns how many messages there were. c.turn is held.
func (c *Conn) handUpNow() int {
	c.mu.Lock()
	ms := c.dropHold()
	c.mu.Unlock()
	for _, m := range ms {
		c.message(m.data, m.binary)
	}
	return len(ms)
}
