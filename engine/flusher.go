package engine

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// flushers write for sessions that something was sent to from outside of their own
// handlers, as broadcasts are. A session stands on their list once, however much is sent to
// it before its turn: what a burst of broadcasts sends to a session leaves in one
// write. There are at most as many as processors, and none while there is nothing to write.
type flushers struct {
	mu         sync.Mutex
	head, tail *Conn
	n          int // on the list
	running    int
	limit      int

	start time.Time
	last  atomic.Int64 // when a sender last wrote by itself, since start
}

const (
	perFlusher = 64 // so many sessions on the list are worth another flusher
	atOnce     = 16 // so many a flusher takes from the list

	// alone is how long nobody must have sent anything for a send to be taken as one of its
	// own rather than part of a broadcast.
	alone = 100 * time.Microsecond
)

func (f *flushers) init() {
	f.limit = runtime.GOMAXPROCS(0)
	f.start = time.Now()
	f.last.Store(-int64(alone))
}

// lonely reports whether a sender should write by itself.
func (f *flushers) lonely() bool {
	now, last := int64(time.Since(f.start)), f.last.Load()
	if now-last < int64(alone) {
		return false
	}
	return f.last.CompareAndSwap(last, now)
}

// add puts c, whose dirty flag the caller has set, on the list.
func (f *flushers) add(s *Server, c *Conn) {
	f.mu.Lock()
	if f.tail == nil {
		f.head = c
	} else {
		f.tail.next = c
	}
	f.tail = c
	f.n++
	more := f.running < f.limit && f.n > f.running*perFlusher
	if more {
		f.running++
	}
	f.mu.Unlock()
	if more {
		s.group.Go(f.run)
	}
}

func (f *flushers) run() {
	var some [atOnce]*Conn
	for {
		f.mu.Lock()
		n := 0
		for ; n < len(some) && f.head != nil; n++ {
			c := f.head
			f.head, c.next = c.next, nil
			some[n] = c
		}
		if f.head == nil {
			f.tail = nil
		}
		f.n -= n
		if n == 0 {
			f.running--
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
		for i := range n {
			some[i].flushDirty()
			some[i] = nil
		}
	}
}

// flushDirty writes what is queued, unless somebody else does or will.
func (c *Conn) flushDirty() {
	c.mu.Lock()
	c.dirty = false
	if c.out == nil || c.corked > 0 || c.writing || c.ws == nil {
		c.mu.Unlock()
		return
	}
	c.writing = true
	c.mu.Unlock()
	c.write()
}
