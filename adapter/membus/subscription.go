package membus

import (
	"sync"
	"time"
)

// A subscription has a queue, and a goroutine that delivers from it.
type subscription struct {
	bus     *Bus
	topic   string
	deliver func(topic string, msg []byte)
	wake    chan struct{} // holds a token when something was put
	ended   chan struct{} // closed by Close
	done    chan struct{} // closed when run has returned

	mu      sync.Mutex
	parcels []parcel
	aside   []parcel // which others may overtake
	bytes   int64
	closed  bool
}

// A parcel is a message on its way.
type parcel struct {
	msg []byte
	due time.Time
}

func (s *subscription) put(p parcel, aside bool) {
	s.mu.Lock()
	ok := s.closed || s.bytes == 0 || s.bytes+int64(len(p.msg)) <= s.bus.limit
	if ok && !s.closed {
		if aside {
			s.aside = append(s.aside, p)
		} else {
			s.parcels = append(s.parcels, p)
		}
		s.bytes += int64(len(p.msg))
	}
	s.mu.Unlock()
	if !ok {
		s.bus.dropped.Add(1)
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscription) run() {
	defer close(s.done)
	for {
		parcels, next := s.take(time.Now())
		for _, p := range parcels {
			if !s.wait(p.due) {
				return
			}
			s.deliver(s.topic, p.msg)
			s.mu.Lock()
			s.bytes -= int64(len(p.msg))
			s.mu.Unlock()
		}
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-s.wake:
		case <-timer:
		case <-s.ended:
			return
		}
	}
}

// take returns what is to be delivered, and when something that was put aside will be.
func (s *subscription) take(now time.Time) (parcels []parcel, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parcels, s.parcels = s.parcels, nil
	rest := s.aside[:0]
	for _, p := range s.aside {
		switch {
		case !p.due.After(now):
			parcels = append(parcels, p)
		default:
			rest = append(rest, p)
			if next.IsZero() || p.due.Before(next) {
				next = p.due
			}
		}
	}
	clear(s.aside[len(rest):])
	s.aside = rest
	return parcels, next
}

// wait waits until a message is due and the bus is not frozen. It reports false when
// the subscription has ended.
func (s *subscription) wait(due time.Time) bool {
	for {
		select {
		case <-s.ended:
			return false
		default:
		}
		if d := time.Until(due); !due.IsZero() && d > 0 {
			t := time.NewTimer(d)
			select {
			case <-t.C:
			case <-s.ended:
			}
			t.Stop()
			continue
		}
		s.bus.mu.Lock()
		thaw := s.bus.thaw
		s.bus.mu.Unlock()
		if thaw == nil {
			return true
		}
		select {
		case <-thaw:
		case <-s.ended:
		}
	}
}

// Close implements cluster.Subscription.
func (s *subscription) Close() error {
	b := s.bus
	b.mu.Lock()
	var rest []*subscription
	for _, x := range b.subs[s.topic] {
		if x != s {
			rest = append(rest, x)
		}
	}
	if rest == nil {
		delete(b.subs, s.topic)
	} else {
		b.subs[s.topic] = rest
	}
	b.mu.Unlock()

	s.mu.Lock()
	if !s.closed {
		s.closed, s.parcels, s.aside = true, nil, nil
		close(s.ended)
	}
	s.mu.Unlock()
	<-s.done
	return nil
}
