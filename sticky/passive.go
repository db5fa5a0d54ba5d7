package sticky

import (
	"errors"
	"time"
)

// Passive says when requests that fail put a node under suspicion: connections that are not made or break off, and answers
// of status 502 to 504 from under Options.Path. Such a node gets no new sessions for a while, unless there is
// no other, and is checked at once. Its sessions go on.
type Passive struct {
	// Errors is how many in a Window do. If zero, 5. If negative, requests put no node under suspicion.
	Errors int
	// Share is the least share of the node's requests in the Window that they must be. If zero, 0.1.
	Share float64
	// Window is the time in which they are counted. If zero, 10 seconds.
	Window time.Duration
	// Pause is how long suspicion lasts. If it follows upon another, twice as long, up to 8 times. If zero, 2 seconds.
	Pause time.Duration
}

func (p *Passive) fill() error {
	p.Errors = orElse(p.Errors, 5)
	p.Share = orElse(p.Share, 0.1)
	p.Window = orElse(p.Window, 10*time.Second)
	p.Pause = orElse(p.Pause, 2*time.Second)
	if !(p.Share >= 0 && p.Share <= 1) || p.Window < 0 || p.Pause < 0 {
		return errors.New("sticky: Passive: a field is out of range")
	}
	return nil
}

// A blotter counts the errors of a node in a window. The backend's mu guards it.
type blotter struct {
	since  time.Time
	errors int
	base   uint64 // the node's requests when it began
	pauses int    // one after the other
	last   time.Time
}

// misses counts an error of b, and puts it under suspicion if there were too many.
func (b *backend) misses(now time.Time) {
	p := &b.l.rules().Passive
	if p.Errors < 0 {
		return
	}
	requests := b.requests.Load()
	b.mu.Lock()
	t := &b.blotter
	if now.Sub(t.since) > p.Window {
		t.since, t.errors, t.base = now, 0, requests-1
	}
	t.errors++
	guilty := t.errors >= p.Errors && float64(t.errors) >= p.Share*float64(requests-t.base) && b.suspected.Load() <= now.UnixNano() && b.alive == Up
	if guilty {
		if now.Sub(t.last) > 4*p.Pause<<t.pauses {
			t.pauses = 0
		}
		pause := p.Pause << t.pauses
		t.pauses = min(t.pauses+1, 3)
		t.last, t.since, t.errors, t.base = now.Add(pause), now, 0, requests
		b.suspected.Store(now.Add(pause).UnixNano())
		b.suspicions.Add(1)
	}
	name := b.name
	b.mu.Unlock()
	if guilty {
		b.l.o.Logger.Warn("sticky: node fails requests; it gets no new sessions for a moment", "node", name)
		b.suspect()
	}
}
