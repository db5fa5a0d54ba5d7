package cluster

import (
	"slices"
	"time"
)

// meet begins to follow a lane, of which number k was used or will be used next. Its first was used as long ago as age
// says, where it does. h.mu is held.
func (h *hold) meet(id laneID, k uint64, age time.Duration) *inlane {
	now := time.Now()
	if len(h.lanes) >= maxInlanes {
		h.evict()
	}
	l := &inlane{laneID: id, next: 1, known: 1, heard: wall(now)}
	h.lanes[id] = l
	h.named[id.lane] = append(h.named[id.lane], l)
	c := h.contact(id.from, now)
	if k > 1 && !h.began(id.lane, c, now, age) {
		l.early, l.next = k, 1
		h.miss(l, k)
	}
	return l
}

// flight is how long a message of a room may be on its way so that its lane is not taken to be younger than it is.
const flight = 500 * time.Millisecond

// began reports whether we listen to a lane that we have not met since before its first message. h.mu is held.
func (h *hold) began(lane string, c *contact, now time.Time, age time.Duration) bool {
	switch {
	case lane == directLane: // it is for this life of ours
		return true
	case lane == "": // known by the first announcement
		return false
	}
	since, ok := h.listening[lane]
	if h.one { // a room's
		return ok && age > 0 && now.Sub(since)-age > flight
	}
	return ok && !c.whole.IsZero() && !since.After(c.whole)
}

// maxVoid is how many runs of early numbers are remembered as passed over.
const maxVoid = 16

// pass notes that numbers from before we listened, as it seemed, were not waited for.
func (l *inlane) pass(r run) {
	if l.void = append(l.void, r); len(l.void) > maxVoid {
		l.void = append(l.void[:0], l.void[1:]...)
	}
}

// revive reports whether k was passed over, once.
func (l *inlane) revive(k uint64) bool {
	for i, r := range l.void {
		if k < r.first || r.last < k {
			continue
		}
		l.void = slices.Delete(l.void, i, i+1)
		if r.first < k {
			l.pass(run{r.first, k - 1})
		}
		if k < r.last {
			l.pass(run{k + 1, r.last})
		}
		return true
	}
	return false
}

// contact returns what we know of a sender. h.mu is held.
func (h *hold) contact(s sender, now time.Time) *contact {
	c := h.contacts[s]
	if c == nil {
		if len(h.contacts) >= maxSenders {
			var oldest sender
			tries, at := 0, now
			for k, x := range h.contacts {
				if !x.heard.After(at) {
					oldest, at = k, x.heard
				}
				if tries++; tries == 16 {
					break
				}
			}
			delete(h.contacts, oldest)
			h.count.forgot.Add(1)
		}
		c = &contact{}
		h.contacts[s] = c
	}
	c.heard = now
	return c
}

// evict forgets one of the lanes that were silent for longest, where it can one without a gap. h.mu is held.
func (h *hold) evict() {
	var old *inlane
	tries := 0
	for _, l := range h.lanes {
		if old == nil || len(old.held) > 0 && len(l.held) == 0 || len(old.held) == len(l.held) && l.heard.Before(old.heard) {
			old = l
		}
		if tries++; tries == 16 {
			break
		}
	}
	h.count.forgot.Add(1)
	h.abandon(old)
	h.forget(old)
}

// abandon gives up all that is missing on a lane. h.mu is held.
func (h *hold) abandon(l *inlane) {
	h.fill(l, l.next, l.known-1, missed)
}

// forget ends following a lane. What is still held is not performed. h.mu is held.
func (h *hold) forget(l *inlane) {
	for i := range l.held {
		h.bytes -= l.held[i].work.size
	}
	delete(h.open, l)
	delete(h.lanes, l.laneID)
	ls := h.named[l.lane]
	if i := slices.Index(ls, l); i >= 0 {
		ls = slices.Delete(ls, i, i+1)
	}
	if h.named[l.lane] = ls; len(ls) == 0 {
		delete(h.named, l.lane)
	}
	if c := h.contacts[l.from]; c != nil {
		c.whole = time.Time{}
	}
}

// performed reports whether number k of a lane was performed, as far as we remember.
func (h *hold) performed(id laneID, k uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lanes[id]
	if l == nil || k < l.early || l.wasLost(k) {
		return false
	}
	if i := l.find(k); i < len(l.held) && l.held[i].first <= k {
		return l.held[i].what == done
	}
	return k < l.next
}

// trim says that a log no longer kept what we had yet to read.
func (h *hold) trim(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trimmed = now
}

// trims reports whether what is missing of a log may have been dropped there. h.mu is held.
func (h *hold) trims(now time.Time) bool {
	return !h.trimmed.IsZero() && now.Sub(h.trimmed) < time.Minute
}
