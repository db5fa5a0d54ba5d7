package sticky

import (
	"math/bits"
	"syscall"
	"time"

	"github.com/atollhq/atoll/internal/rawio"
)

// A pipe is the part of a tunnel that its loop uses. What has no lock is for the loop's goroutine only.
type pipe struct {
	loop    *loop // guarded by loops.mu
	broken  bool  // was cut before it had a loop; guarded by loops.mu
	slot    int32
	cutting bool // guarded by loop.mu
	queued  bool
	closed  bool
	ends    [2]end // of the client and of the node
	until   int64  // nanoseconds; when a half-closed tunnel ends; 0 where it is whole
}

// An end is one of the two sockets.
type end struct {
	fd       int
	readable bool
	hup      bool   // its end may be reached: then a short read does not say that all was read
	eof      bool   // its end was reached
	shut     bool   // it was told that nothing more comes
	pending  []byte // for it, in a buffer of the pool
	whole    []byte // that buffer
	stalled  int64  // nanoseconds; since when it takes nothing of that
}

// add lets a loop serve t, and reports whether one does. The connections of t are closed then: the loop
// has descriptors of its own for the same sockets.
func (ls *loops) add(t *tunnel) bool {
	client, node := rawOf(t.client), rawOf(t.node)
	if client == nil || node == nil {
		return false
	}
	l := ls.get()
	if l == nil {
		return false
	}
	a, err := dup(client)
	if err != nil {
		return false
	}
	b, err := dup(node)
	if err != nil {
		syscall.Close(a)
		return false
	}
	p := &t.pipe
	ls.mu.Lock()
	broken := p.broken
	if !broken {
		p.loop = l
	}
	ls.mu.Unlock()
	if broken {
		syscall.Close(a)
		syscall.Close(b)
		return false
	}
	t.close() // from now on nobody else does, see cut
	t.client, t.node = nil, nil
	t.used.Store(time.Now().UnixNano())

	l.mu.Lock() // so that nothing happens before all is there
	p.ends[0].fd, p.ends[1].fd = a, b
	p.slot = l.take()
	s := &l.slots[p.slot]
	s.t = t
	for side := range p.ends {
		e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edge, Fd: p.slot<<1 | int32(side), Pad: s.gen}
		if syscall.EpollCtl(l.fd, syscall.EPOLL_CTL_ADD, p.ends[side].fd, &e) != nil {
			p.cutting = true // out of memory or of watches
		}
	}
	cutting := p.cutting
	if cutting {
		l.wakes = append(l.wakes, t)
	}
	l.mu.Unlock()
	if cutting {
		l.wake()
	}
	return true
}

// dup returns a descriptor of our own for a socket.
func dup(c syscall.RawConn) (fd int, err error) {
	cerr := c.Control(func(s uintptr) {
		n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, s, syscall.F_DUPFD_CLOEXEC, 0)
		if fd = int(n); errno != 0 {
			err = errno
		}
	})
	if cerr != nil {
		return -1, cerr
	}
	return fd, err
}

// cut ends t, which a loop serves or will serve. It does not wait.
func (ls *loops) cut(t *tunnel) {
	p := &t.pipe
	ls.mu.Lock()
	l := p.loop
	if l == nil {
		p.broken = true
		t.close()
	}
	ls.mu.Unlock()
	if l == nil {
		return
	}
	l.mu.Lock()
	first := !p.cutting
	p.cutting = true
	if first && p.ends[0].fd > 0 { // else add is not through yet, and will see
		l.wakes = append(l.wakes, t)
	}
	l.mu.Unlock()
	l.wake()
}

// carry moves what can be moved in t.
func (l *loop) carry(t *tunnel) {
	p := &t.pipe
	if p.closed {
		return
	}
	for from := range p.ends {
		if !l.move(t, &p.ends[from], &p.ends[1-from]) {
			l.end(t)
			return
		}
	}
	if p.ends[0].shut && p.ends[1].shut {
		l.end(t)
	}
}

// move carries from one end to the other. It reports false when the tunnel is broken.
func (l *loop) move(t *tunnel, from, to *end) bool {
	if len(to.pending) > 0 {
		n, err := rawio.Write(to.fd, to.pending)
		if err != nil && err != syscall.EAGAIN {
			return false
		}
		if n > 0 {
			to.pending, to.stalled = to.pending[n:], 0
		}
		if len(to.pending) > 0 {
			return true
		}
		to.drop()
	}
	for range turnReads {
		if !from.readable || from.eof {
			break
		}
		n, err := rawio.Read(from.fd, l.buf)
		switch {
		case err == syscall.EAGAIN:
			from.readable = false
		case err != nil:
			return false
		case n == 0:
			from.eof = true
		default:
			if n < len(l.buf) && !from.hup {
				from.readable = false // all was read
			}
			if t.l.o.Front.WebSocketIdle > 0 {
				t.used.Store(time.Now().UnixNano())
			}
			sent, err := rawio.Write(to.fd, l.buf[:n])
			if err != nil && err != syscall.EAGAIN {
				return false
			}
			if sent < n {
				to.hold(l.buf[sent:n])
				return true
			}
		}
	}
	switch {
	case from.eof && !to.shut:
		to.shut = true
		syscall.Shutdown(to.fd, syscall.SHUT_WR)
		t.pipe.until = time.Now().Add(linger).UnixNano()
	case from.readable && !from.eof && !t.pipe.queued:
		t.pipe.queued = true
		l.again = append(l.again, t)
	}
	return true
}

// hold keeps what e does not take now.
func (e *end) hold(data []byte) {
	if len(data) <= bufferSize {
		e.whole = buffers.Get()
	} else {
		e.whole = make([]byte, 1<<bits.Len(uint(len(data)-1)))
	}
	e.pending = e.whole[:copy(e.whole, data)]
}

func (e *end) drop() {
	if len(e.whole) == bufferSize {
		buffers.Put(e.whole)
	}
	e.whole, e.pending, e.stalled = nil, nil, 0
}

// end closes t and gives back what it holds.
func (l *loop) end(t *tunnel) {
	p := &t.pipe
	if p.closed {
		return
	}
	p.closed = true
	l.mu.Lock()
	l.release(p.slot)
	p.cutting = true // there is nothing left to cut
	l.mu.Unlock()
	for i := range p.ends {
		p.ends[i].drop()
		syscall.Close(p.ends[i].fd)
	}
	t.end()
	t.l.running.Done()
}

// late reports whether t, at this time in nanoseconds, takes too long for something. It is called in the loop.
func (t *tunnel) late(now int64) bool {
	p, o := &t.pipe, &t.l.o
	if p.until != 0 && now > p.until {
		return true
	}
	if d := o.Front.WebSocketIdle; d > 0 && now-t.used.Load() > int64(d) {
		return true
	}
	for i := range p.ends {
		e := &p.ends[i]
		if len(e.pending) == 0 {
			continue
		}
		if e.stalled == 0 {
			e.stalled = now
		} else if o.StallTimeout > 0 && now-e.stalled > int64(o.StallTimeout) {
			return true
		}
	}
	return false
}
