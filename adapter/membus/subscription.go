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
	bytes   int64
	closed  bool
}

// A parcel is a message on its way.
type parcel struct {
	msg []byte
	due time.Time
}

func (s *subscription) put(p parcel) {
	s.mu.Lock()
	ok := s.closed || s.bytes == 0 || s.bytes+int64(len(p.msg)) <= s.bus.limit
	if ok && !s.closed {
		s.parcels = append(s.parcels, p)
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
		s.mu.Lock()
		parcels := s.parcels
		s.parcels = nil
		s.mu.Unlock()
		for _, p := range parcels {
			if !s.wait(p.due) {
				return
			}
			s.deliver(s.topic, p.msg)
			s.mu.Lock()
			s.bytes -= int64(len(p.msg))
			s.mu.Unlock()
		}
		select {
		case <-s.wake:
		case <-s.ended:
			return
		}
	}
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
		s.closed, s.parcels = true, nil
		close(s.ended)
	}
	s.mu.Unlock()
	<-s.done
	return nil
}
