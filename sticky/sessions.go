package sticky

import (
	"sync"
	"time"
)

// maxSID bounds the length in bytes of an id that is remembered.
const maxSID = 128

// An entry remembers a session that was opened by long-polling.
type entry struct {
	sid   string
	b     *backend
	pins  int  // requests and WebSockets of the session that are open now
	socks int  // the WebSockets among them
	live  bool // counts in b.sessions
	gone  bool // no longer in the table

	at   time.Time // of the last use
	list [2]links  // its neighbours in a ring for each order
}

// The orders: those that nobody pins, by their last use; and those of one node.
const (
	quiet = iota
	sameNode
)

type links struct{ prev, next *entry }

// sessions is a bounded table of entries. Any number of goroutines may use it.
type sessions struct {
	max  int
	idle time.Duration

	mu      sync.Mutex
	byID    map[string]*entry
	quiet   *entry // the head of a ring; the next one was silent for longest
	evicted uint64
}

func newSessions(max int, idle time.Duration) *sessions {
	return &sessions{max: max, idle: idle, byID: make(map[string]*entry), quiet: newEntry("", nil)}
}

// pin returns the entry of sid for one request, or nil. The session is live from now on.
func (t *sessions) pin(sid string) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[sid]
	if e != nil {
		t.hold(e)
	}
	return e
}

// look returns the backend of sid, or nil. It changes nothing.
func (t *sessions) look(sid string) *backend {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byID[sid]; e != nil {
		return e.b
	}
	return nil
}

// add remembers that sid is on b, and returns its entry, pinned; or nil where there is no room.
func (t *sessions) add(sid string, b *backend) *entry {
	if len(sid) == 0 || len(sid) > maxSID {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[sid]
	if e != nil && e.b != b {
		t.drop(e)
		e = nil
	}
	if e == nil {
		if len(t.byID) >= t.max {
			oldest := t.quiet.list[quiet].next
			if oldest == t.quiet {
				return nil
			}
			t.evicted++
			t.drop(oldest)
		}
		e = newEntry(sid, b)
		t.byID[sid] = e
		if b.first == nil {
			b.first = newEntry("", b)
		}
		e.link(sameNode, b.first)
	}
	t.hold(e)
	return e
}

// hold pins e. t.mu is held.
func (t *sessions) hold(e *entry) {
	e.unlink(quiet)
	e.pins++
	e.count(true)
}

// unpin ends what pin or add began.
func (t *sessions) unpin(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.pins--
	if e.pins > 0 || e.gone {
		return
	}
	e.at = time.Now()
	e.link(quiet, t.quiet)
}

// socket counts the WebSockets of a pinned entry.
func (t *sessions) socket(e *entry, by int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.socks += by
}

// ended says that the session is over as far as can be seen, unless it has a WebSocket. It is
// not counted any more, but still found, until it is used again or forgotten.
func (t *sessions) ended(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.socks == 0 {
		e.count(false)
	}
}

// forget takes e out of the table: its session said that it is over.
func (t *sessions) forget(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(e)
}

// drop is forget with t.mu held.
func (t *sessions) drop(e *entry) {
	if e.gone {
		return
	}
	e.count(false)
	e.gone = true
	e.unlink(quiet)
	e.unlink(sameNode)
	delete(t.byID, e.sid)
}

// sweep forgets sessions that were silent for too long. It does not hold the lock for
// long, and reports whether there may be more.
func (t *sessions) sweep(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for range 1000 {
		e := t.quiet.list[quiet].next
		if e == t.quiet || now.Sub(e.at) < t.idle {
			return false
		}
		t.drop(e)
	}
	return true
}

// forgetSome takes sessions of b out of the table. It does not hold the lock for long, and
// reports whether there may be more.
func (t *sessions) forgetSome(b *backend) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for range 1000 {
		if b.first == nil || b.first.list[sameNode].next == b.first {
			return false
		}
		t.drop(b.first.list[sameNode].next)
	}
	return true
}

func (t *sessions) len() (n int, evicted uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID), t.evicted
}

// count says whether e counts as a session of its backend.
func (e *entry) count(live bool) {
	if e.live == live || e.gone {
		return
	}
	e.live = live
	if live {
		e.b.sessions.Add(1)
	} else {
		e.b.sessions.Add(-1)
	}
}

// newEntry returns an entry that is in no ring, or the head of one.
func newEntry(sid string, b *backend) *entry {
	e := &entry{sid: sid, b: b}
	e.list = [2]links{{e, e}, {e, e}}
	return e
}

// link puts e last into the ring of head.
func (e *entry) link(order int, head *entry) {
	last := head.list[order].prev
	e.list[order] = links{last, head}
	last.list[order].next, head.list[order].prev = e, e
}

func (e *entry) unlink(order int) {
	l := e.list[order]
	l.prev.list[order].next, l.next.list[order].prev = l.next, l.prev
	e.list[order] = links{e, e}
}
