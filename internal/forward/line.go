package forward

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	maxPending = 1 << 20   // bytes that wait to be written; who has more to say waits
	maxBacklog = 16 << 20  // where so much waits, nobody reads at the other end
	maxUnread  = 64 << 20  // bytes of bodies of one line that may be unread
	keepBuffer = 256 << 10 // larger buffers are not kept
	maxCalls   = 16 << 10  // requests and questions under way on one line
)

var (
	errBroken = errors.New("forward: the way to the other node broke")
	errLeft   = errors.New("forward: the other node left the cluster, or is dead")
	errIdle   = errors.New("forward: idle")
	errSilent = errors.New("forward: the other node is silent")
	errStuck  = errors.New("forward: the other node does not read")
)

// A pipe is what frames go through: a connection, or messages of the cluster.
type pipe interface {
	write(b []byte) error // one call at a time
	close(cause error)
}

// A line carries frames between two nodes, over a link or over the cluster's carrier. One end asks (an outbound), the other
// answers (an inbound).
//
// Whoever finds it idle writes for himself and all who come meanwhile; what comes while he writes is written by a
// goroutine that lives while there is something to write. So under load many frames leave in one write.
type line struct {
	p    *Peers
	peer *peer
	out  pipe
	end  func(cause error) // tells all that is under way; called once, without mu

	heard  atomic.Int64 // the tick in which something came
	pinged atomic.Int64 // the tick in which the other end was asked whether it is there; 0: it has answered
	begun  atomic.Int64 // the tick in which the write began that is going on; 0: none
	unread atomic.Int64 // bytes of bodies that nobody has taken yet

	leaving chan struct{} // of an inbound: closed when who asks is about to go

	mu      sync.Mutex
	room    sync.Cond // there is room in pending, or the line is dead
	pending []byte
	spare   []byte
	busy    bool // somebody writes
	dead    bool
	cause   error
	idle    int64 // the tick since which nothing is under way
}

func (l *line) init(p *Peers, peer *peer, out pipe, end func(error)) {
	l.p, l.peer, l.out, l.end = p, peer, out, end
	l.room.L = &l.mu
	l.heard.Store(p.tick.Load())
	l.idle = p.tick.Load()
}

// await waits until there is room for a large frame. l.mu is held. It reports false if the line is dead.
func (l *line) await() bool {
	for len(l.pending) > maxPending && !l.dead {
		l.room.Wait()
	}
	return !l.dead
}

// release writes what is pending and releases l.mu. Only who may wait for the network writes itself; a reader
// must not, since two that both wait for the other's reader would wait for ever.
func (l *line) release(mayWait bool) {
	if l.busy || l.dead || len(l.pending) == 0 {
		stuck := !l.dead && len(l.pending) > maxBacklog
		l.mu.Unlock()
		if stuck {
			l.fail(errStuck)
		}
		return
	}
	l.busy = true
	if !mayWait {
		l.mu.Unlock()
		if !l.p.group.Go(l.drain) {
			l.fail(ErrClosed)
		}
		return
	}
	l.mu.Unlock()
	runtime.Gosched() // others who are about to say something join
	l.mu.Lock()
	l.write()
	if len(l.pending) > 0 && !l.dead {
		l.mu.Unlock()
		if !l.p.group.Go(l.drain) {
			l.fail(ErrClosed)
		}
		return
	}
	l.busy = false
	l.mu.Unlock()
}

// drain writes until nothing is pending.
func (l *line) drain() {
	l.mu.Lock()
	for len(l.pending) > 0 && !l.dead {
		l.write()
	}
	l.busy = false
	l.mu.Unlock()
}

// write writes what is pending. l.mu is held before and after, not while it writes; l.busy is set.
func (l *line) write() {
	if l.dead || len(l.pending) == 0 {
		return
	}
	b := l.pending
	l.pending, l.spare = l.spare[:0], nil
	l.room.Broadcast()
	l.mu.Unlock()
	l.begun.Store(l.p.tick.Load())
	err := l.out.write(b)
	l.begun.Store(0)
	if err != nil {
		l.fail(err)
	}
	l.mu.Lock()
	if cap(b) <= keepBuffer {
		l.spare = b[:0]
	}
}

// say sends a small frame from a reader.
func (l *line) say(kind byte, id uint32) {
	l.mu.Lock()
	if !l.dead {
		l.pending = appendEmpty(l.pending, kind, id)
	}
	l.release(false)
}

// fail ends the line.
func (l *line) fail(cause error) {
	l.mu.Lock()
	l.failLocked(cause)
}

// failLocked ends the line and releases l.mu, which is held.
func (l *line) failLocked(cause error) {
	if l.dead {
		l.mu.Unlock()
		return
	}
	l.dead, l.cause = true, cause
	l.room.Broadcast()
	l.mu.Unlock()
	l.out.close(cause)
	l.end(cause)
}

// isDead reports whether the line has ended.
func (l *line) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}
