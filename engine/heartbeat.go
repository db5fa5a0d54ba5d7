package engine

import (
	"time"

	"github.com/atollhq/atoll/engine/wire"
)

// The heartbeat of a session is one timer, and no goroutine.
//
// See https://socket.io/docs/v4/engine-io-protocol/#heartbeat

// arm lets the timer fire after d, and no earlier. c.mu is held.
func (c *Conn) arm(d time.Duration) {
	c.due = time.Now().Add(d)
	if c.timer == nil {
		c.timer = time.AfterFunc(d, c.beat)
	} else {
		c.timer.Reset(d)
	}
}

// beat runs when the timer fires.
func (c *Conn) beat() {
	c.mu.Lock()
	st := c.state.Load()
	if st == closed || time.Now().Before(c.due) { // armed anew while it was firing
		c.mu.Unlock()
		return
	}
	if st == closing {
		e := c.cause
		c.mu.Unlock()
		c.cut(e, nil)
		return
	}
	if c.await {
		c.mu.Unlock()
		c.cut(&CloseError{Reason: ReasonPingTimeout}, nil)
		return
	}
	c.await = true
	// The time for the pong counts from when the ping was due, unless it is very late.
	timeout := c.srv.o.PingTimeout
	c.arm(max(timeout-time.Since(c.due), timeout/2))
	c.push(wire.Packet{Type: wire.Ping})
	t := c.wake(false)
	c.mu.Unlock()
	c.do(t)
}

// overdue beats if the timer is late to find the client gone. c.mu is held, and not while it beats.
func (c *Conn) overdue() {
	if c.await && !time.Now().Before(c.due) {
		c.mu.Unlock()
		c.beat()
		c.mu.Lock()
	}
}

// pong is called when the client has answered a ping. A pong that nobody asked for means nothing.
func (c *Conn) pong() {
	c.mu.Lock()
	if c.await && c.state.Load() == open {
		c.await = false
		c.arm(c.srv.o.PingInterval)
	}
	c.mu.Unlock()
}
