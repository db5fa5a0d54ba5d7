package sticky

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestSessionsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(backend)
		s := newSessions(1000, time.Minute)
		silent, busy := s.add("silent", b), s.add("busy", b)
		s.unpin(silent)
		time.Sleep(59 * time.Second)
		s.sweep(time.Now())
		if n, _ := s.len(); n != 2 || b.sessions.Load() != 2 {
			t.Errorf("after 59 s: got %d entries, %d sessions, want 2", n, b.sessions.Load())
		}
		time.Sleep(time.Hour)
		s.sweep(time.Now())
		if n, _ := s.len(); n != 1 || b.sessions.Load() != 1 {
			t.Errorf("after an hour: got %d entries, %d sessions, want the pinned one", n, b.sessions.Load())
		}
		s.unpin(busy)
		if e := s.pin("busy"); e != busy {
			t.Errorf("got %v, want the entry", e)
		}
		s.forget(busy)
		s.forget(busy)
		s.ended(busy)
		s.unpin(busy)
		if n, _ := s.len(); n != 0 || b.sessions.Load() != 0 || s.quiet.list[quiet].next != s.quiet || b.first.list[sameNode].next != b.first {
			t.Errorf("got %d entries, %d sessions, want none", n, b.sessions.Load())
		}
	})
}

func TestSessionsBounded(t *testing.T) {
	b, other := new(backend), new(backend)
	s := newSessions(10, time.Minute)
	for i := range 25 {
		s.unpin(s.add(fmt.Sprint(i), b))
		s.unpin(s.add("0", b)) // used all the time: stays
	}
	n, evicted := s.len()
	if n != 10 || evicted != 15 || b.sessions.Load() != 10 {
		t.Errorf("got %d entries, %d evicted, %d sessions; want 10, 15, 10", n, evicted, b.sessions.Load())
	}
	e := s.pin("0")
	if e == nil || s.pin("1") != nil {
		t.Fatal("the wrong ones were evicted")
	}
	// Over, then used again; a WebSocket keeps it from being over.
	s.ended(e)
	if got := b.sessions.Load(); got != 9 {
		t.Errorf("got %d sessions, want 9", got)
	}
	s.unpin(e)
	s.pin("0")
	s.socket(e, 1)
	s.ended(e)
	if got := b.sessions.Load(); got != 10 {
		t.Errorf("got %d sessions, want 10", got)
	}
	// On another node since.
	moved := s.add("0", other)
	s.unpin(e)
	if b.sessions.Load() != 9 || other.sessions.Load() != 1 || moved == e {
		t.Errorf("got %d and %d sessions, want 9 and 1", b.sessions.Load(), other.sessions.Load())
	}
	for i := range 10 { // all pinned: no room
		s.add(fmt.Sprint("p", i), b)
	}
	if e := s.add("too many", b); e != nil {
		t.Error("got an entry beyond the bound")
	}
	if s.add("", b) != nil || s.add(string(make([]byte, maxSID+1)), b) != nil {
		t.Error("got an entry for an id that is none")
	}
	s.forgetSome(b)
	if n, _ := s.len(); n != 1 || b.sessions.Load() != 0 {
		t.Errorf("got %d entries, %d sessions; want 1, 0", n, b.sessions.Load())
	}
}
