package sticky

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// A bufferPool holds buffers of one size.
type bufferPool struct{ p sync.Pool }

const bufferSize = 16 << 10

// buffers is shared by the bodies of requests and the WebSockets.
var buffers bufferPool

// Get returns a buffer of bufferSize bytes.
func (b *bufferPool) Get() []byte {
	if p, ok := b.p.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return new([bufferSize]byte)[:]
}

// Put takes back what Get returned.
func (b *bufferPool) Put(buf []byte) { b.p.Put((*[bufferSize]byte)(buf)) }

// pump copies from src to dst until src ends (it then returns nil) or either fails.
// It holds no buffer while it waits for src, where the connection allows that. A dst that takes
// nothing for stall, or for half of it, is a failure.
func pump(dst, src net.Conn, stall time.Duration) error {
	r := newIdleReader(src)
	var deadline time.Time
	for {
		data, err := r.read()
		if len(data) > 0 && stall > 0 {
			// Moving a deadline costs more than looking at the clock.
			if now := time.Now(); deadline.Sub(now) < stall/2 {
				deadline = now.Add(stall)
				dst.SetWriteDeadline(deadline)
			}
		}
		if len(data) > 0 {
			if _, werr := dst.Write(data); werr != nil && (err == nil || err == io.EOF) {
				err = werr
			}
		}
		r.free()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// An idleReader reads from a connection with a buffer that it takes when there is something to read.
type idleReader struct {
	c     net.Conn
	raw   syscall.RawConn // nil where it is not a plain socket
	small []byte          // the buffer in that case

	buf []byte // taken by try
	n   int
	err error
	try func(fd uintptr) bool
}

func newIdleReader(c net.Conn) *idleReader {
	r := &idleReader{c: c}
	if s, ok := c.(syscall.Conn); ok && canTry {
		if raw, err := s.SyscallConn(); err == nil {
			r.raw = raw
			r.try = r.tryRead
			return r
		}
	}
	r.small = make([]byte, 2<<10)
	return r
}

// read waits for bytes and returns them. They are valid until free.
func (r *idleReader) read() ([]byte, error) {
	if r.raw == nil {
		n, err := r.c.Read(r.small)
		return r.small[:n], err
	}
	r.n, r.err = 0, nil
	if err := r.raw.Read(r.try); err != nil {
		return nil, err
	}
	return r.buf[:r.n], r.err
}

// free gives the buffer back.
func (r *idleReader) free() {
	if r.buf != nil {
		buffers.Put(r.buf)
		r.buf = nil
	}
}
