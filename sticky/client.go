package sticky

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/internal/http1"
	"github.com/atollhq/atoll/internal/rawio"
)

// A client is a connection of one. Its goroutine reads the requests and carries each to a node and the answer
// back, one after the other. While the client says nothing it holds no buffer.
type client struct {
	wire
	f       *front
	conf    *tls.Config // nil without TLS, or where the listener does that
	remote  netip.AddrPort
	seated  netip.Addr // counted by front.seat
	secure  bool
	below   bool         // a guest below TLS frees it when it is closed
	given   bool         // by leave; written with deadline held
	parting bool         // says goodbye to TLS, which can take seconds; written with deadline held
	idle    atomic.Bool  // between two requests
	stop    atomic.Bool  // nobody wants to read now
	until   atomic.Int64 // when sweep ends the reading, in nanoseconds; 0 is never

	buf  []byte // nil where nothing was read that is not yet used
	r, w int    // what is not yet used

	watched watched
}

// serve is the goroutine.
func (c *client) serve() {
	defer c.f.l.running.Done()
	if c.open() {
		for c.next() {
		}
	}
	c.drop()
	if !c.given {
		c.part(c.Close)
		if !c.below {
			c.f.vacate(c.seated)
		}
	}
	c.f.forget(c)
}

// part calls end, which says goodbye. When the balancer is closed, TLS is cut without that.
func (c *client) part(end func() error) error {
	if !c.secure {
		return end()
	}
	c.deadline.Lock()
	final := c.final
	c.parting = true
	c.deadline.Unlock()
	if final {
		closeNow(c.Conn)
		return net.ErrClosed
	}
	err := end()
	c.deadline.Lock()
	c.parting = false
	c.deadline.Unlock()
	return err
}

// within sets the time until which reading must come to something. If d is 0, there is no limit.
func (c *client) within(d time.Duration) {
	if d <= 0 {
		c.until.Store(0)
	} else {
		c.until.Store(time.Now().UnixNano() + int64(d))
	}
}

// hurry is called when the balancer is closed.
func (c *client) hurry() {
	c.deadline.Lock()
	given, parting := c.given, c.parting
	if !given {
		c.finish(lastWords)
	}
	c.deadline.Unlock()
	if given {
		return
	}
	if parting {
		closeNow(c.Conn)
	} else if c.idle.Load() {
		c.expire()
	}
}

// expire ends the reading that takes too long.
func (c *client) expire() {
	c.deadline.Lock()
	defer c.deadline.Unlock()
	if !c.given {
		c.SetReadDeadline(longAgo)
	}
}

// leave says that the connection is served by somebody else now, who closes it.
func (c *client) leave() {
	c.deadline.Lock()
	c.given = true
	c.SetDeadline(time.Time{})
	c.deadline.Unlock()
	c.f.forget(c)
}

// late reports whether err says that a read took too long. Where sweep meant an earlier
// read, it makes reading possible again and reports false with a nil error.
func (c *client) late(err error) (bool, error) {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false, err
	}
	if c.stop.Load() {
		return true, err
	}
	if t := c.until.Load(); t != 0 && t <= time.Now().UnixNano() {
		return true, err
	}
	c.deadline.Lock()
	defer c.deadline.Unlock()
	if c.final {
		return true, err
	}
	c.SetReadDeadline(time.Time{})
	return false, nil
}

// get reads into b.
func (c *client) get(b []byte) (n int, late bool, err error) {
	for {
		n, err = c.read(b)
		if n > 0 || err == nil {
			return n, false, nil
		}
		if late, err = c.late(err); late || err != nil {
			return 0, late, err
		}
	}
}

// drop gives the buffer back.
func (c *client) drop() {
	if len(c.buf) == bufferSize {
		buffers.Put(c.buf)
	}
	c.buf, c.r, c.w = nil, 0, 0
}

// more reads more into the buffer, and lets it grow up to most bytes.
func (c *client) more(most int) (late bool, err error) {
	switch {
	case c.r == c.w:
		if c.buf == nil {
			for {
				buf, n, err := c.await()
				if err == nil {
					c.buf, c.r, c.w = buf, 0, n
					return false, nil
				}
				if late, err := c.late(err); late || err != nil {
					return late, err
				}
			}
		}
		c.r, c.w = 0, 0
	case c.r > 0 && c.w == len(c.buf):
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	case c.w == len(c.buf):
		if len(c.buf) >= most {
			return false, io.ErrShortBuffer
		}
		larger := make([]byte, min(4*len(c.buf), max(most, bufferSize+1)))
		n := copy(larger, c.buf[c.r:c.w])
		c.drop()
		c.buf, c.w = larger, n
	}
	n, late, err := c.get(c.buf[c.w:])
	c.w += n
	return late, err
}

const preface = "PRI * HTTP/2.0\r\n\r\n"

// next serves one request. It reports false when the connection is over, or given away.
func (c *client) next() bool {
	o := &c.f.l.o.Front
	if c.r == c.w {
		c.drop()
		c.idle.Store(true)
		if c.f.ctx.Err() != nil {
			return false
		}
		late, err := c.more(bufferSize)
		c.idle.Store(false)
		if late || err != nil {
			return false
		}
	}
	c.within(o.HeaderTimeout)
	var size, seen int
	for blank := false; ; {
		if !blank && bytes.HasPrefix(c.buf[c.r:c.w], []byte("\r\n")) {
			c.r += 2 // some clients end a body with one line too many
			blank, seen = true, 0
		}
		b := c.buf[c.r:c.w]
		size = http1.End(b, seen)
		if size < 0 {
			c.reject(http1.ErrLine)
			return false
		}
		if line := bytes.IndexByte(b[:min(len(b), o.MaxRequestLine+1)], '\n'); line < 0 && len(b) > o.MaxRequestLine {
			c.reject(errLongLine)
			return false
		}
		if size > o.MaxHeaderBytes || size == 0 && len(b) >= o.MaxHeaderBytes {
			c.reject(errLongHead)
			return false
		}
		if size > 0 {
			break
		}
		seen = len(b)
		if late, err := c.more(o.MaxHeaderBytes); late {
			if c.w > c.r {
				c.reject(errSlowHead)
			}
			return false
		} else if err != nil {
			return false
		}
	}
	if o.H2C && bytes.HasPrefix(c.buf[c.r:c.w], []byte(preface)) {
		c.give()
		return false
	}
	return c.take(size)
}

var (
	errLongLine = &http1.Error{Status: http.StatusRequestURITooLong, Text: "the request line is too long"}
	errLongHead = &http1.Error{Status: http.StatusRequestHeaderFieldsTooLarge, Text: "the header is too long"}
	errSlowHead = &http1.Error{Status: http.StatusRequestTimeout, Text: "the request did not arrive in time"}
	errLongBody = &http1.Error{Status: http.StatusRequestEntityTooLarge, Text: "the body is too long"}
)

// take serves the request whose head is the next size bytes. It reports whether another may follow.
func (c *client) take(size int) bool {
	t := turns.Get().(*turn)
	defer t.free()
	t.begin(c)
	if err := t.req.Parse(c.buf[c.r:c.r+size], c.f.l.o.Front.MaxHeaders); err != nil {
		c.reject(err)
		return false
	}
	if !t.read() {
		return false
	}
	if t.l.local(t.kind, &t.head) {
		t.trail = trail{} // what that does is not ours to count
		c.give()
		return false
	}
	c.r += size
	again := t.serve()
	c.within(c.f.l.o.Front.IdleTimeout)
	return again && !c.given
}

// reject answers a request that cannot be understood, and is the end of the connection.
func (c *client) reject(err *http1.Error) {
	b := outs.Get()
	defer outs.Put(b)
	b.b = appendRefusal(b.b, &refusal{err.Status, plainText, err.Text + "\n"}, "", false, true, false)
	c.write(b.b, lastWords)
	c.linger()
}

// tooMany refuses the connection before anything was read.
func (c *client) tooMany() {
	const text = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n" +
		"Connection: close\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
	if _, tls := c.Conn.(*tls.Conn); tls || c.conf != nil {
		return
	}
	c.try([]byte(text))
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	if c.raw != nil { // what was not read would cut the answer off
		c.raw.Read(func(fd uintptr) bool {
			rawio.Read(int(fd), make([]byte, 4<<10))
			return true
		})
	}
}

// linger ends the connection so that an answer arrives though there may be unread input, which would
// make the system cut it off.
func (c *client) linger() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || c.part(half.CloseWrite) != nil {
		return
	}
	c.within(lastWords)
	if c.buf == nil {
		c.buf = buffers.Get()
	}
	for total := 0; total < 256<<10; {
		n, late, err := c.get(c.buf)
		if late || err != nil {
			return
		}
		total += n
	}
}

// addrOf returns what a connection says of its other end.
func addrOf(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
