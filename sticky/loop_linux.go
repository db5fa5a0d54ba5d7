package sticky

import (
	"math/bits"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/atollhq/atoll/internal/rawio"
)

// A tunnel of two plain sockets costs no goroutine and no buffer: a loop, of which there is one for each
// processor, asks the kernel which of its many sockets are ready, and carries what came at once. The
// descriptors are the loop's own, and nobody else closes them.

// loops share the tunnels.
type loops struct {
	vigil *vigil
	mu    sync.Mutex // guards what follows, and pipe.loop and pipe.broken
	made  bool
	list  []*loop
	turn  uint32
	over  bool
}

func (ls *loops) init(v *vigil) { ls.vigil = v }

// A loop serves its sockets in one goroutine.
type loop struct {
	fd   int      // of the epoll instance
	file *os.File // the same, known to the runtime
	raw  syscall.RawConn
	done chan struct{} // closed when the goroutine has ended

	events []syscall.EpollEvent // of the goroutine
	buf    []byte
	again  []*tunnel // that have more to do, but let others come first
	vigil  *vigil

	mu    sync.Mutex
	slots []slot
	free  []int32
	wakes []*tunnel // that are to be cut
	swept bool      // and that sweep wishes a look at all
}

// A slot is what an event is about.
type slot struct {
	gen int32 // of those that were in this slot before, too
	t   *tunnel
	w   *watched // a client whose end is awaited
}

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

const (
	readEvents = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
	hupEvents  = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
	edge       = 1 << 31 // EPOLLET, which package syscall has with a sign
	turnReads  = 8       // so many reads of one side, then the others are looked after
	loopBuffer = 64 << 10
)

// start makes the loops, or none where that fails.
func (ls *loops) start() {
	for range runtime.GOMAXPROCS(0) {
		l, err := newLoop(ls.vigil)
		if err != nil {
			return
		}
		ls.list = append(ls.list, l)
	}
}

func newLoop(v *vigil) (*loop, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	l := &loop{
		fd: fd, file: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{}), vigil: v,
		events: make([]syscall.EpollEvent, 256), buf: make([]byte, loopBuffer),
	}
	if l.raw, err = l.file.SyscallConn(); err == nil {
		err = l.file.SetDeadline(time.Time{}) // an error says that the runtime does not wait for it
	}
	if err != nil {
		l.file.Close()
		return nil, err
	}
	go l.run()
	return l, nil
}

// get returns a loop, or nil.
func (ls *loops) get() *loop {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.over {
		return nil
	}
	if !ls.made {
		ls.made = true
		ls.start()
	}
	if len(ls.list) == 0 {
		return nil
	}
	ls.turn++
	return ls.list[ls.turn%uint32(len(ls.list))]
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

// take returns a free slot. l.mu is held.
func (l *loop) take() int32 {
	if n := len(l.free); n > 0 {
		i := l.free[n-1]
		l.free = l.free[:n-1]
		return i
	}
	l.slots = append(l.slots, slot{})
	return int32(len(l.slots) - 1)
}

// release frees a slot. l.mu is held.
func (l *loop) release(i int32) {
	s := &l.slots[i]
	s.gen++
	s.t, s.w = nil, nil
	l.free = append(l.free, i)
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

// wake makes the goroutine look.
func (l *loop) wake() { l.file.SetReadDeadline(longAgo) }

// run is the goroutine.
func (l *loop) run() {
	defer close(l.done)
	step := l.step
	for {
		err := l.raw.Read(step)
		if err == nil {
			return
		}
		if !os.IsTimeout(err) {
			return // closed
		}
		l.file.SetReadDeadline(time.Time{})
		l.answer()
	}
}

// step handles all that is ready, and waits (it reports false) when nothing is.
func (l *loop) step(uintptr) bool {
	for {
		n := epollWait(l.fd, l.events)
		for i := range n {
			l.event(&l.events[i])
		}
		if len(l.again) > 0 {
			list := l.again
			l.again = nil
			for _, t := range list {
				t.pipe.queued = false
				l.carry(t)
			}
			continue
		}
		if n < len(l.events) {
			return false
		}
	}
}

// answer does what wake was for.
func (l *loop) answer() {
	l.mu.Lock()
	list := l.wakes
	l.wakes = nil
	var all []*tunnel
	if l.swept {
		l.swept = false
		for i := range l.slots {
			if t := l.slots[i].t; t != nil {
				all = append(all, t)
			}
		}
	}
	l.mu.Unlock()
	for _, t := range list {
		l.end(t)
	}
	now := time.Now().UnixNano()
	for _, t := range all {
		if t.late(now) {
			l.end(t)
		}
	}
	l.step(0)
}

func (l *loop) event(e *syscall.EpollEvent) {
	i := e.Fd >> 1
	l.mu.Lock()
	s := l.slots[i]
	l.mu.Unlock()
	if s.gen != e.Pad {
		return
	}
	if s.w != nil {
		l.vigil.gone(s.w, int(i))
		return
	}
	t := s.t
	if t == nil || t.pipe.closed {
		return
	}
	if end := &t.pipe.ends[e.Fd&1]; e.Events&readEvents != 0 {
		end.readable = true
		end.hup = end.hup || e.Events&hupEvents != 0
	}
	l.carry(t)
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

// sweep makes the loops end what takes too long.
func (ls *loops) sweep() {
	ls.mu.Lock()
	list := ls.list
	ls.mu.Unlock()
	for _, l := range list {
		l.mu.Lock()
		l.swept = len(l.free) < len(l.slots)
		due := l.swept
		l.mu.Unlock()
		if due {
			l.wake()
		}
	}
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

// watch says when the other end of c goes away. It returns the slot for unwatch, or -1.
func (ls *loops) watch(c *client, w *watched) int {
	raw := bottomOf(c.Conn)
	l := ls.get()
	if raw == nil || l == nil {
		return -1
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.take()
	l.slots[i].w = w
	e := syscall.EpollEvent{Events: syscall.EPOLLRDHUP | edge, Fd: i << 1, Pad: l.slots[i].gen}
	var err error
	cerr := raw.Control(func(fd uintptr) { err = syscall.EpollCtl(l.fd, syscall.EPOLL_CTL_ADD, int(fd), &e) })
	if err != nil || cerr != nil {
		l.release(i)
		return -1
	}
	w.loop = l
	return int(i)
}

// unwatch ends what watch began.
func (ls *loops) unwatch(slot int, c *client) {
	l := c.watched.loop
	c.watched.loop = nil
	if raw := bottomOf(c.Conn); raw != nil {
		var e syscall.EpollEvent
		raw.Control(func(fd uintptr) { syscall.EpollCtl(l.fd, syscall.EPOLL_CTL_DEL, int(fd), &e) })
	}
	l.mu.Lock()
	l.release(int32(slot))
	l.mu.Unlock()
}

// close ends the loops. There are no tunnels any more.
func (ls *loops) close() {
	ls.mu.Lock()
	ls.over = true
	list := ls.list
	ls.mu.Unlock()
	for _, l := range list {
		l.file.Close()
		<-l.done
	}
}

// epollWait returns how many events are there now.
func epollWait(fd int, events []syscall.EpollEvent) int {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return 0
		}
		return int(n)
	}
}
