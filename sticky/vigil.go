package sticky

import (
	"sync"
	"time"
)

// watchAfter is how long an answer may take, and half as long again to twice as long, before somebody looks whether its
// client is still there: that has its price, which quick answers should not pay.
const watchAfter = 20 * time.Millisecond

// A vigil notices that clients whose answers take long have gone.
type vigil struct {
	f     *front
	mu    sync.Mutex
	first watched // the head of a ring, in the order of begin
	round uint32
	timer *time.Timer
	armed bool
	over  bool
}

// watched is what the vigil knows of a client.
type watched struct {
	prev, next *watched // nil while no answer is awaited
	t          *turn
	round      uint32
	slot       int // in loop; -1 where it is not looked at
	loop       *loop
}

func (v *vigil) init(f *front) {
	v.f = f
	v.first.prev, v.first.next = &v.first, &v.first
	v.timer = time.AfterFunc(time.Hour, v.tick)
	v.timer.Stop()
}

// begin says that t waits for its node.
func (v *vigil) begin(t *turn) {
	w := &t.c.watched
	v.mu.Lock()
	w.t, w.round, w.slot = t, v.round, -1
	w.prev, w.next = v.first.prev, &v.first
	w.prev.next, w.next.prev = w, w
	if !v.armed && !v.over {
		v.armed = true
		v.timer.Reset(watchAfter)
	}
	v.mu.Unlock()
}

// end says that the waiting is over. Then t is not told any more that its client has gone.
func (v *vigil) end(t *turn) {
	w := &t.c.watched
	v.mu.Lock()
	if w.next != nil {
		w.unlink()
	}
	if w.slot >= 0 {
		v.f.loops.unwatch(w.slot, t.c)
		w.slot = -1
	}
	w.t = nil
	v.mu.Unlock()
}

func (w *watched) unlink() {
	w.prev.next, w.next.prev = w.next, w.prev
	w.prev, w.next = nil, nil
}

// tick looks after those that wait since before the last tick.
func (v *vigil) tick() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for w := v.first.next; w != &v.first && w.round != v.round; w = v.first.next {
		w.unlink()
		w.slot = v.f.loops.watch(w.t.c, w)
		w.t.nudge()
	}
	v.round++
	v.armed = v.first.next != &v.first && !v.over
	if v.armed {
		v.timer.Reset(watchAfter)
	}
}

// gone is told by a loop that the other end of w's connection, which has that slot, has closed it.
func (v *vigil) gone(w *watched, slot int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if w.slot == slot && w.t != nil {
		w.t.leaves()
	}
}

// close ends the vigil.
func (v *vigil) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.over = true
	v.timer.Stop()
}
