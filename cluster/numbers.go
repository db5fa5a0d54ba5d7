package cluster

import (
	"sync"
	"time"
)

// A span is a run of numbers that have not come.
type span struct {
	first, last uint64
	since       time.Time
	given       bool // given up: reported, or sent before we listened; one that comes is still taken
}

// numbers follows the numbers of one sequence: which were seen, which are missing.
// Numbers may come in any order; the zero value starts with whatever comes first.
type numbers struct {
	begun bool
	high  uint64 // the highest seen
	holes []span // below high, in order
}

const (
	maxHoles  = 1024
	holesStay = time.Minute // how late a number may come
)

// first reports whether k comes for the first time.
func (s *numbers) first(k uint64, now time.Time) bool {
	switch {
	case s.begun && k == s.high+1:
		s.high = k
		return true
	case !s.begun, k > s.high:
		s.upTo(k-1, now)
		s.high = k
		return true
	}
	for i := len(s.holes) - 1; i >= 0; i-- {
		h := &s.holes[i]
		switch {
		case k > h.last:
			return false
		case k < h.first:
			continue
		case h.first == h.last:
			s.holes = append(s.holes[:i], s.holes[i+1:]...)
		case k == h.first:
			h.first++
		case k == h.last:
			h.last--
		default:
			rest := span{k + 1, h.last, h.since, h.given}
			h.last = k - 1
			s.holes = append(s.holes, span{})
			copy(s.holes[i+2:], s.holes[i+1:])
			s.holes[i+1] = rest
		}
		return true
	}
	return false
}

// upTo says that the numbers up to k were sent.
func (s *numbers) upTo(k uint64, now time.Time) {
	if k > s.high { // what began before we listened may still be on its way, and nobody misses it
		s.holes = append(s.holes, span{s.high + 1, k, now, !s.begun})
		s.high = k
	}
	s.begun = true
}

// settle gives up on the holes that are older than age, and on the oldest where there
// are too many, and returns them. What is older than holesStay it forgets.
func (s *numbers) settle(now time.Time, age time.Duration) (lost []span) {
	keep := s.holes[:0]
	excess := len(s.holes) - maxHoles
	for i, h := range s.holes {
		late := now.Sub(h.since)
		if !h.given && (i < excess || late >= age) {
			h.given = true
			lost = append(lost, h)
		}
		if i >= excess && (!h.given || late < holesStay) {
			keep = append(keep, h)
		}
	}
	s.holes = keep
	return lost
}

// senders follows the numbers of all who send.
type senders struct {
	mu  sync.Mutex
	all map[sender]*sending
}

type sender struct {
	id   string
	life uint64
}

type sending struct {
	numbers
	heard time.Time
}

const (
	maxSenders  = 1024
	senderStays = 10 * time.Minute // after its last message
)

// first reports whether message k of a sender comes for the first time.
func (s *senders) first(id string, life, k uint64, gap func(string, uint64, uint64)) bool {
	s.mu.Lock()
	now := time.Now()
	x := s.of(id, life, now)
	ok := x.first(k, now)
	lost := x.overflow(now)
	s.mu.Unlock()
	report(id, lost, gap)
	return ok
}

// upTo says that a sender has sent k messages.
func (s *senders) upTo(id string, life, k uint64, gap func(string, uint64, uint64)) {
	s.mu.Lock()
	now := time.Now()
	x := s.of(id, life, now)
	x.upTo(k, now)
	lost := x.overflow(now)
	s.mu.Unlock()
	report(id, lost, gap)
}

// settle reports what was missing for the given time and is taken to be lost.
func (s *senders) settle(now time.Time, age time.Duration, gap func(string, uint64, uint64)) {
	type loss struct {
		id    string
		spans []span
	}
	var losses []loss
	s.mu.Lock()
	for k, x := range s.all {
		if len(x.holes) > 0 {
			if lost := x.settle(now, age); lost != nil {
				losses = append(losses, loss{k.id, lost})
			}
		} else if now.Sub(x.heard) > senderStays {
			delete(s.all, k)
		}
	}
	s.mu.Unlock()
	for _, l := range losses {
		report(l.id, l.spans, gap)
	}
}

// of returns the sending of a sender, and forgets the one silent for longest where
// there are too many. s.mu is held.
func (s *senders) of(id string, life uint64, now time.Time) *sending {
	k := sender{id, life}
	x := s.all[k]
	if x == nil {
		if s.all == nil {
			s.all = make(map[sender]*sending)
		}
		if len(s.all) >= maxSenders {
			var oldest sender
			at := now
			for k, x := range s.all {
				if !x.heard.After(at) {
					oldest, at = k, x.heard
				}
			}
			delete(s.all, oldest)
		}
		x = &sending{}
		s.all[k] = x
	}
	x.heard = now
	return x
}

// overflow gives up on the oldest holes where there are too many.
func (x *sending) overflow(now time.Time) []span {
	if len(x.holes) <= maxHoles {
		return nil
	}
	return x.settle(now, 1<<62)
}

func report(id string, lost []span, gap func(string, uint64, uint64)) {
	for _, l := range lost {
		gap(id, l.first, l.last)
	}
}
