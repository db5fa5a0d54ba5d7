package engine

import (
	"sync/atomic"
	"time"
)

// A watch relieves readers whose Flush takes long. It is one goroutine for a
// server, which exists only while handlers run, and costs them no timer: a reader that enters a
// handler takes a seat, and whoever has sat through two ticks is relieved.
type watch struct {
	seats [1024]atomic.Pointer[Conn]
	tick  atomic.Uint32
	on    atomic.Bool
}

const (
	neighbours = 8 // seats that are tried
	idleTicks  = 3 // after so many with nobody there, the watch ends
)

// enter gives c a seat. It returns -1 if it finds none. c.mu is held.
func (w *watch) enter(c *Conn) int {
	c.since.Store(w.tick.Load())
	for i := range uint32(neighbours) {
		slot := (c.seat + i) % uint32(len(w.seats))
		if w.seats[slot].CompareAndSwap(nil, c) {
			return int(slot)
		}
	}
	return -1
}

// leave gives the seat back. c.mu is held.
func (w *watch) leave(c *Conn, slot int) {
	if slot >= 0 {
		w.seats[slot].CompareAndSwap(c, nil)
	}
}

// start starts the watch if it does not run.
func (w *watch) start(s *Server) {
	if !w.on.Load() && w.on.CompareAndSwap(false, true) {
		s.group.Go(func() { w.run(s.o.HandlerGrace, s.empty) })
	}
}

// run ends at the latest when the server has no sessions any more, and gets none.
func (w *watch) run(grace time.Duration, empty <-chan struct{}) {
	t := time.NewTicker(grace)
	defer t.Stop()
	for idle := 0; ; {
		select {
		case <-t.C:
		case <-empty:
			return
		}
		now := w.tick.Add(1)
		if w.relieve(now) {
			idle = 0
			continue
		}
		if idle++; idle < idleTicks {
			continue
		}
		w.on.Store(false)
		// Somebody may have sat down in between and seen the watch running.
		if !w.busy() || !w.on.CompareAndSwap(false, true) {
			return
		}
		idle = 0
	}
}

// relieve relieves those who have sat through two ticks, and reports whether there is anybody.
func (w *watch) relieve(now uint32) (any bool) {
	for i := range w.seats {
		c := w.seats[i].Load()
		if c == nil {
			continue
		}
		any = true
		if ticks := now - c.since.Load(); ticks >= 2 {
			c.slow(ticks)
		}
	}
	return any
}

func (w *watch) busy() bool {
	for i := range w.seats {
		if w.seats[i].Load() != nil {
			return true
		}
	}
	return false
}
