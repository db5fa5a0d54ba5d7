package atoll

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/atollhq/atoll/engine"
)

// How a server is emptied.

const (
	drainLook = 20 * time.Millisecond // between two looks at who is left
	retryIn   = time.Second           // what clients that come to a draining node are told
	mostLate  = 50 * time.Millisecond // that a pace which was held up makes good for
)

// drainOut is the life of a drain.
func (srv *Server) drainOut(d *drain) {
	defer close(d.done)
	before := make(map[*engine.Conn]uint32) // how much each had said when the drain began
	for _, c := range srv.eng.Sessions() {
		before[c] = c.Activity().Batches
	}
	x := &srv.drain
	for {
		x.mu.Lock()
		wait, over := time.Until(d.lead), d.over(time.Now())
		x.mu.Unlock()
		if over || wait <= 0 {
			break
		}
		d.sleep(wait)
	}

	begun, n, cut := time.Now(), len(srv.eng.Sessions()), 0
	x.mu.Lock()
	open := d.gaveUp == nil
	if open {
		x.state = Draining
		srv.eng.Refuse(retryIn)
		window := d.window
		if window == 0 {
			window = usualWindow
			if !d.even {
				need := 1.5 * float64(n) / d.rate * float64(time.Second)
				window = max(window, time.Duration(min(need, float64(mostWindow))))
			}
		}
		d.begin(window, begun)
	}
	x.mu.Unlock()
	if open {
		srv.log.Info("draining: clients are asked to go", "sessions", n)
		for srv.askRound(d, before) {
		}
		cut = srv.cutRest(d)
	}

	x.mu.Lock()
	x.cut += int64(cut)
	if cut > 0 {
		d.result = &DrainError{Cut: cut, Err: d.hasty}
	}
	gaveUp := d.gaveUp
	if gaveUp == ErrUndrained { // the state says so already
		d.result = ErrUndrained
	} else {
		x.state, x.run = Drained, nil
	}
	x.mu.Unlock()
	if gaveUp == nil {
		srv.log.Info("drained", "sessions", n, "cut", cut, "took", time.Since(begun).Round(time.Millisecond))
	}
}

// begin begins the window, or shortens it, at now. The drainage's mu is held.
func (d *drain) begin(window time.Duration, now time.Time) {
	d.window = window
	if window < 0 {
		d.end, d.calm = now.Add(d.grace), now
		return
	}
	d.end, d.calm = now.Add(window), now.Add(window/4*3)
}

// over reports whether nobody is waited for any more. The drainage's mu is held.
func (d *drain) over(now time.Time) bool {
	return d.hasty != nil || d.gaveUp != nil || !d.end.IsZero() && !now.Before(d.end)
}

// sleep waits for so long, or until something has changed.
func (d *drain) sleep(t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-d.kick:
	}
}

// askRound asks those that are there to go, each at its time. It reports false when nobody is left, or nobody
// is waited for any more.
func (srv *Server) askRound(d *drain, before map[*engine.Conn]uint32) bool {
	all := srv.eng.Sessions()
	if len(all) == 0 {
		return false
	}
	queue, asked := inOrder(all, before), false
	next := time.Now()
	for i, c := range queue {
		calm, pause, ok := srv.turn(d, len(queue)-i, &next)
		switch {
		case !ok:
			return false
		case srv.busy(c) && time.Now().Before(calm):
		case c.Leave(&engine.CloseError{Reason: ReasonShutdown, Err: ErrDrain}):
			asked = true
			srv.drain.mu.Lock()
			srv.drain.asked++
			srv.drain.mu.Unlock()
			continue
		}
		next = next.Add(-pause) // another has its turn
	}
	if !asked {
		d.sleep(drainLook)
	}
	srv.drain.mu.Lock()
	defer srv.drain.mu.Unlock()
	return !d.over(time.Now())
}

// turn waits until it is time to ask the first of n, which is a pause behind next, and moves next on. It
// reports false where nobody is waited for any more.
func (srv *Server) turn(d *drain, n int, next *time.Time) (calm time.Time, pause time.Duration, ok bool) {
	jitter := 0.5 + rand.Float64()
	for {
		now := time.Now()
		srv.drain.mu.Lock()
		calm, ok = d.calm, !d.over(now)
		pause = time.Duration(jitter / d.pace(n, now) * float64(time.Second)) // anew: it may have been sped up
		srv.drain.mu.Unlock()
		if !ok {
			return calm, pause, false
		}
		at := next.Add(pause)
		if late := now.Add(-mostLate); at.Before(late) {
			at = late
		}
		wait := at.Sub(now)
		if wait < time.Millisecond { // timers are not finer
			*next = at
			return calm, pause, true
		}
		d.sleep(min(wait, drainLook))
	}
}

// pace is how many in a second to ask, of n. The drainage's mu is held.
func (d *drain) pace(n int, now time.Time) float64 {
	if d.window < 0 {
		return 1e9
	}
	if !d.even {
		return d.rate
	}
	until := d.calm.Sub(now)
	if until <= 0 {
		until = d.end.Sub(now) / 2
	}
	return max(d.rate, leastRate, float64(n)/max(until.Seconds(), 0.05))
}

// inOrder returns the sessions that can be asked, in the order in which to ask: first those that have said nothing
// since the drain began.
func inOrder(all []*engine.Conn, before map[*engine.Conn]uint32) []*engine.Conn {
	var idle, others []*engine.Conn
	for _, c := range all {
		a := c.Activity()
		was, known := before[c]
		switch {
		case !a.Open: // it was asked already, or is being opened
		case known && was == a.Batches && a.Queued == 0 && !a.Busy:
			idle = append(idle, c)
		default:
			others = append(others, c)
		}
	}
	for _, list := range [...][]*engine.Conn{idle, others} {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	return slices.Concat(idle, others)
}

// busy reports whether a session has something under way that would better be finished.
func (srv *Server) busy(ec *engine.Conn) bool {
	if a := ec.Activity(); a.Busy || a.Queued > 0 {
		return true
	}
	c, ok := ec.Handler().(*conn)
	return ok && c.busy()
}

// young is for how long a session that has entered no namespace is thought to be about to.
const young = 3 * time.Second

// busy reports whether a client of c is being connected, is served, or owes an answer.
func (c *conn) busy() bool {
	if !c.wasConnected() {
		return time.Since(c.eng.Handshake().Time) < young
	}
	for _, s := range c.sockets() {
		s.mu.Lock()
		busy := s.state == connecting || s.running || s.inbox != nil || len(s.acks) > 0
		s.mu.Unlock()
		if busy {
			return true
		}
	}
	return false
}

// cutRest cuts off those that are left, and returns how many they were.
func (srv *Server) cutRest(d *drain) (cut int) {
	for {
		srv.drain.mu.Lock()
		gaveUp := d.gaveUp != nil
		srv.drain.mu.Unlock()
		all := srv.eng.Sessions()
		if gaveUp || len(all) == 0 {
			return cut
		}
		for _, c := range all {
			c.Cut(&engine.CloseError{Reason: ReasonShutdown, Err: ErrDrain})
		}
		cut += len(all)
	}
}
