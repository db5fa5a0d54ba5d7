package cluster

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// A hold brings what others say into the order of their numbers, lane by lane: each number is performed
// or reported as lost, once, and none before the one before it.
type hold struct {
	limit int64                                                   // bytes that may be held
	log   bool                                                    // what is told comes from a log
	one   bool                                                    // "" is the only lane that all listen to
	put   func(w work) bool                                       // queues an operation; false if there is no room
	gap   func(from string, first, last uint64)                   // reports numbers as lost
	wake  chan struct{}                                           // holds a token when there is something to mend
	count struct{ repaired, late, forgot, dropped atomic.Uint64 } // for Stats

	mu        sync.Mutex
	lanes     map[laneID]*inlane
	named     map[string][]*inlane // the same by lane: of all senders
	open      map[*inlane]struct{} // with numbers missing or held
	contacts  map[sender]*contact
	listening map[string]time.Time // lanes whose topics we subscribe to, since when
	bytes     int64                // held
	trimmed   time.Time            // when a log last had dropped what we had yet to read
}

type sender struct {
	id   string
	life uint64
}

type laneID struct {
	from sender
	lane string
}

// A contact is what we know of a sender besides its lanes.
type contact struct {
	heard time.Time
	// whole is when it last told all its lanes: one that we do not know did not exist then. It is
	// zero where we have forgotten some.
	whole time.Time
}

// An inlane follows one sender on one lane.
type inlane struct {
	laneID
	next  uint64 // all numbers before it are done
	known uint64 // all before it were used by the sender, as far as we know
	early uint64 // numbers before it were used before we listened, as it seems: nobody misses them
	did   uint64 // the highest that was performed
	void  []run  // of those before early, what was passed over without waiting
	held  []held // behind next, in order
	lost  []run  // the last ones that were reported
	heard time.Time

	unordered bool // it comes from a log

	since    time.Time     // when next was first missing; zero where nothing is
	waited   time.Duration // how long nothing of what is missing came while the bus worked
	upTo     uint64        // known when that wait began
	patience int           // how many times more its sender may say that what is missing is on its way
	asked    time.Time     // when we last asked for what is missing; zero if we should at once
	asks     int           // how often we have asked since something came
	retry    time.Duration // between two questions, where that must be longer than for others
}

// held is one message, or a run of numbers for which there is nothing to perform.
type held struct {
	run
	what heldKind
	work work
}

type run struct{ first, last uint64 }

type heldKind uint8

const (
	message heldKind = iota
	done             // performed already
	missed           // will not come
	never            // was no message
)

const (
	maxSenders  = 1024
	maxInlanes  = 1 << 16
	maxListens  = 1 << 20
	maxHeld     = 1 << 16 // runs, of one lane
	maxLost     = 64
	maxPatience = 64
	maxNumber   = 1 << 62          // what is higher nobody has sent
	inlaneStays = 10 * time.Minute // after its last message
)

// init makes the hold of a node ready.
func (h *hold) init(n *Node) {
	h.limit, h.one, h.log = n.o.MaxQueue, n.native, n.logbook.log != nil
	h.put = func(w work) bool { return n.inbox.put(w, w.size) }
	h.gap = n.gap
	h.wake = make(chan struct{}, 1)
	h.lanes = make(map[laneID]*inlane)
	h.named = make(map[string][]*inlane)
	h.open = make(map[*inlane]struct{})
	h.contacts = make(map[sender]*contact)
	h.listening = make(map[string]time.Time)
}

// accept takes in a message of a lane. The work is performed in its turn, or at once where ordered is
// false: then what comes from a log, in an order that is not ours to change. It reports
// false for what was there before, or comes too late.
func (h *hold) accept(id laneID, k uint64, w work, ordered, again bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lanes[id]
	if l != nil && l.lane != "" {
		now := wall(time.Now())
		if l.known == l.next && now.Sub(l.heard) > inlaneStays {
			h.forget(l) // the sender may have forgotten it too, and begin anew
			l = nil
		} else {
			l.heard = now
		}
	}
	if l == nil {
		if _, ok := h.listening[id.lane]; !ok && h.one && id.lane != "" && id.lane != directLane {
			if !h.put(w) { // a room's, that we are just entering or have just left
				h.count.dropped.Add(1)
			}
			return true
		}
		l = h.meet(id, k, w.age)
	}
	l.unordered = !ordered
	if k < l.next {
		if l.did < k && k < l.early && ordered && h.put(w) {
			l.did = k // the lane's mark came by another way, long before it
			return true
		}
		if w.ask != "" && ordered && l.revive(k) && h.put(w) {
			return true // somebody waits for an answer, and has no order with what was faster
		}
		if l.wasLost(k) {
			h.count.late.Add(1)
		}
		return false
	}
	i := l.find(k)
	if i < len(l.held) && l.held[i].first <= k {
		return false
	}
	if k == l.next {
		if !h.put(w) {
			h.count.dropped.Add(1)
			h.miss(l, k+1)
			return true
		}
		l.did = k
		l.next++
		if again {
			h.count.repaired.Add(1)
		}
		if l.since.IsZero() {
			l.known = l.next
			return true
		}
		h.progress(l)
		l.came()
		l.since, l.patience = time.Now(), maxPatience
		h.drain(l)
		return true
	}
	if k < l.known {
		h.progress(l)
		l.came()
	}
	h.miss(l, k+1)
	if len(l.held) >= maxHeld {
		return true // it is missing, like those before it
	}
	x := held{run: run{k, k}, work: w}
	if !ordered {
		if !h.put(w) {
			h.count.dropped.Add(1)
			return true
		}
		x.work, x.what = work{}, done
	} else if h.bytes+w.size > h.limit {
		h.count.dropped.Add(1)
		return true
	}
	h.insert(l, i, x)
	h.drain(l)
	if again {
		h.count.repaired.Add(1)
	}
	return true
}

// insert puts x at place i of what is held. h.mu is held.
func (h *hold) insert(l *inlane, i int, x held) {
	l.held = append(l.held, held{})
	copy(l.held[i+1:], l.held[i:])
	l.held[i] = x
	h.bytes += x.work.size
}

// find returns the place of number k in what is held: of the run that has it, or of the first behind it.
func (l *inlane) find(k uint64) int {
	if n := len(l.held); n == 0 || l.held[n-1].last < k {
		return n
	}
	return sort.Search(len(l.held), func(i int) bool { return l.held[i].last >= k })
}

func (l *inlane) wasLost(k uint64) bool {
	for _, r := range l.lost {
		if r.first <= k && k <= r.last {
			return true
		}
	}
	return false
}

// miss notes that the numbers before known were used. h.mu is held.
func (h *hold) miss(l *inlane, known uint64) {
	l.known = max(l.known, known)
	if l.next >= l.known {
		return
	}
	if l.since.IsZero() {
		l.since, l.waited, l.upTo, l.asked = time.Now(), 0, l.known, time.Time{}
		l.patience = maxPatience
		h.open[l] = struct{}{}
		signal(h.wake)
	}
}

// came notes that something that was missing is there: at the first asking, if answers are fast enough. h.mu is held.
func (l *inlane) came() {
	if l.asks == 1 {
		l.retry = 0
	}
	l.asks = 0
}

// progress notes that something came of what is missing. h.mu is held.
func (h *hold) progress(l *inlane) { l.waited, l.upTo = 0, l.known }

// drain performs what is held, as far as nothing before it is missing. h.mu is held.
func (h *hold) drain(l *inlane) {
	i := 0
	for ; i < len(l.held) && l.held[i].first == l.next; i++ {
		x := &l.held[i]
		if x.what == message && !h.put(x.work) {
			break
		}
		switch x.what {
		case missed:
			h.lose(l, x.run)
		case message:
			l.did = x.last
		}
		h.bytes -= x.work.size
		l.next = x.last + 1
		*x = held{}
	}
	if i > 0 {
		l.since, l.patience = time.Now(), maxPatience
		l.held = l.held[i:]
	}
	l.known = max(l.known, l.next)
	if l.next == l.known {
		h.settle(l)
	}
}

// settle notes that nothing is missing. h.mu is held.
func (h *hold) settle(l *inlane) {
	l.since, l.waited, l.asked, l.asks, l.retry = time.Time{}, 0, time.Time{}, 0, 0
	delete(h.open, l)
	if l.held = l.held[:0]; cap(l.held) < 16 || cap(l.held) > 1024 {
		l.held = nil
	}
}

// lose reports numbers as lost, except those from before we listened. h.mu is held.
func (h *hold) lose(l *inlane, r run) {
	if r.first < l.early {
		l.pass(run{r.first, min(r.last, l.early-1)})
	}
	if r.first = max(r.first, l.early); r.first > r.last {
		return
	}
	if l.lost = append(l.lost, r); len(l.lost) > maxLost {
		l.lost = append(l.lost[:0], l.lost[1:]...)
	}
	h.gap(l.from.id, r.first, r.last)
}

// fill says of the numbers first to last that those that are missing will not come. It reports whether any were. h.mu is
// held.
func (h *hold) fill(l *inlane, first, last uint64, what heldKind) (some bool) {
	if first = max(first, l.next); l.known == 0 {
		return false
	}
	last = min(last, l.known-1)
	for i := l.find(first); first <= last && len(l.held) < maxHeld; i++ {
		end := last
		if i < len(l.held) {
			if l.held[i].first <= first {
				first = l.held[i].last + 1
				continue
			}
			end = min(last, l.held[i].first-1)
		}
		h.insert(l, i, held{run: run{first, end}, what: what})
		first, some = end+1, true
	}
	h.progress(l)
	h.drain(l)
	return some
}

// mark takes in how far a sender is on a lane.
func (h *hold) mark(id laneID, next uint64, age time.Duration) {
	if next == 0 || next > maxNumber {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lanes[id]
	if l == nil {
		if next == 1 && id.lane != "" {
			return
		}
		l = h.meet(id, next, age)
	}
	l.heard = wall(time.Now())
	h.miss(l, next)
}

// marks takes in an announcement.
func (h *hold) marks(m *Message) {
	from := sender{m.From, m.Life}
	if m.Number > 0 {
		h.mark(laneID{from, ""}, m.Number, 0)
	}
	for _, x := range m.Marks {
		switch {
		case x.Lane == directLane, m.Kind == Progress:
		case !h.listens(x.Lane):
			continue
		}
		h.mark(laneID{from, x.Lane}, x.Next, m.Age)
	}
	if m.Kind != Heartbeat {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.contact(from, time.Now()); m.AllMarks {
		c.whole = c.heard
	}
}

func (h *hold) listens(lane string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.listening[lane]
	return ok
}

// listen says that we subscribe to the topics of a lane, from now on.
func (h *hold) listen(lane string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.listening) < maxListens {
		h.listening[lane] = time.Now()
	}
}

// ignore says that we do no longer. What was missing is not missed any more.
func (h *hold) ignore(lane string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.listening, lane)
	for _, l := range slices.Clone(h.named[lane]) {
		for i := range l.held { // it came, and is performed
			if x := &l.held[i]; x.what == message {
				h.put(x.work)
			}
		}
		h.forget(l)
	}
}

// sweep forgets lanes and senders that were silent for long.
func (h *hold) sweep(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.lanes {
		if !l.since.IsZero() {
			continue
		}
		if len(l.held) == 0 {
			l.held = nil // the room of an outage
		}
		if wall(now).Sub(l.heard) > inlaneStays {
			h.forget(l)
		}
	}
	for s, c := range h.contacts {
		if now.Sub(c.heard) > inlaneStays {
			delete(h.contacts, s)
		}
	}
}

// size returns how many bytes are held.
func (h *hold) size() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bytes
}

// wall returns t without its monotonic part, which stands still while a machine sleeps.
func wall(t time.Time) time.Time { return t.Round(0) }
