package sticky

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
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
