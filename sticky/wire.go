package sticky

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/atollhq/atoll/internal/rawio"
)

// A wire is a connection of which one goroutine reads and one writes. Where it is a plain socket, it is read
// and written without waiting as long as that is possible, and holds no buffer while it waits.
type wire struct {
	net.Conn
	raw syscall.RawConn // nil where it is not a plain socket

	readable func(fd uintptr) bool // is step; made once
	op       wireOp
	out      []byte // of send
	sent     int
	buf      []byte // what was read, or where to
	n        int
	err      error
	probe    [1]byte

	writable func(fd uintptr) bool // is push; made once
	wout     []byte
	wn       int
	werr     error

	deadline sync.Mutex // guards that of writes, and final
	final    bool       // and that it must not be moved any more
}

// A wireOp is what step does.
type wireOp uint8

const (
	take     wireOp = iota // read into a buffer that is taken when there is something
	fill                   // read into buf
	send                   // see that nothing is there, write out, and take
	sendOnly               // write out, and take
)

// errStale says that a kept connection was of no use any more before anything was sent.
var errStale = errors.New("the kept connection had ended")

func (w *wire) init(c net.Conn) {
	w.Conn = c
	w.raw = rawOf(c)
	if w.raw != nil {
		w.readable, w.writable = w.step, w.push
	}
}

// rawOf returns the socket of c where that is one of the system's. A type that wraps one, even if it
// embeds it, has reads and writes of its own.
func rawOf(c net.Conn) syscall.RawConn {
	if !rawio.Can {
		return nil
	}
	var s syscall.Conn
	switch c := c.(type) {
	case *net.TCPConn:
		s = c
	case *net.UnixConn:
		s = c
	default:
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// bottomOf returns the socket below c, for looking at it only.
func bottomOf(c net.Conn) syscall.RawConn {
	switch t := c.(type) {
	case *tls.Conn:
		return bottomOf(t.NetConn())
	case *guest:
		return bottomOf(t.Conn)
	}
	return rawOf(c)
}

// step is the callback of reads. It reports false to wait.
func (w *wire) step(fd uintptr) bool {
	switch w.op {
	case send:
		if _, err := rawio.Read(int(fd), w.probe[:]); err != syscall.EAGAIN {
			w.err = errStale
			return true
		}
		fallthrough
	case sendOnly:
		n, err := rawio.Write(int(fd), w.out)
		w.sent = n
		if err != nil && err != syscall.EAGAIN {
			w.err = &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", err)}
			return true
		}
		w.op = take
		// An answer that comes from now on will be told, so there is no need to try. What did not go out has to first.
		return n < len(w.out)
	case take:
		buf := buffers.Get()
		if n, done := w.tryRead(fd, buf); done {
			w.buf, w.n = buf, n
			return true
		}
		buffers.Put(buf)
		return false
	}
	n, done := w.tryRead(fd, w.buf)
	w.n = n
	return done
}

func (w *wire) tryRead(fd uintptr, buf []byte) (n int, done bool) {
	n, err := rawio.Read(int(fd), buf)
	switch {
	case err == syscall.EAGAIN:
		return 0, false
	case err != nil:
		w.err = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
	case n == 0:
		w.err = io.EOF
	}
	return n, true
}

// await waits for bytes and returns them in a buffer, which the caller puts back. On an error there is none.
func (w *wire) await() (buf []byte, n int, err error) {
	if w.raw == nil {
		return w.awaitPlain()
	}
	w.op = take
	return w.run()
}

// run performs w.op, which ends in take.
func (w *wire) run() (buf []byte, n int, err error) {
	w.buf, w.n, w.err = nil, 0, nil
	err = w.raw.Read(w.readable)
	buf, n = w.buf, w.n
	w.buf, w.out = nil, nil
	if err == nil {
		err = w.err
	}
	if err != nil && buf != nil {
		buffers.Put(buf)
		buf = nil
	}
	return buf, n, err
}

// awaitPlain is await for connections that must be read to see whether there is something. The first byte
// is read for itself, so that no buffer is held meanwhile.
func (w *wire) awaitPlain() (buf []byte, n int, err error) {
	n, err = w.Conn.Read(w.probe[:])
	if n == 0 {
		return nil, 0, err
	}
	buf = buffers.Get()
	buf[0] = w.probe[0]
	return buf, 1, nil
}

// ask sends out and waits for the first bytes of the answer. With probe, it gives errStale, and has sent
// nothing, where the other end has closed the connection meanwhile or said something unasked.
func (w *wire) ask(out []byte, probe bool, stall time.Duration) (buf []byte, n int, err error) {
	if w.raw == nil {
		if probe && !w.quiet() {
			return nil, 0, errStale
		}
		if err := w.write(out, stall); err != nil {
			return nil, 0, err
		}
		return w.awaitPlain()
	}
	w.op, w.out, w.sent = sendOnly, out, 0
	if probe {
		w.op = send
	}
	buf, n, err = w.run()
	if err != nil || buf != nil {
		return buf, n, err
	}
	// It went out in part.
	if err := w.write(out[w.sent:], stall); err != nil {
		return nil, 0, err
	}
	return w.await()
}

// unsent reports whether ask, which has ended with an error, has not got as far as to send anything.
func (w *wire) unsent() bool { return w.raw != nil && (w.op == send || w.op == sendOnly) }

// quiet reports whether nothing came on the socket below.
func (w *wire) quiet() bool {
	raw := bottomOf(w.Conn)
	if raw == nil {
		return true
	}
	quiet := false
	err := raw.Read(func(fd uintptr) bool {
		quiet = nothingThere(fd)
		return true
	})
	return err == nil && quiet
}

// read reads into b, and waits for that.
func (w *wire) read(b []byte) (int, error) {
	if w.raw == nil {
		return w.Conn.Read(b)
	}
	w.op, w.buf, w.n, w.err = fill, b, 0, nil
	err := w.raw.Read(w.readable)
	w.buf = nil
	if err == nil {
		err = w.err
	}
	return w.n, err
}

func (w *wire) push(fd uintptr) bool {
	n, err := rawio.Write(int(fd), w.wout)
	if err == syscall.EAGAIN {
		err = nil
	}
	w.wn, w.werr = n, err
	return true
}

// try writes as much of b as can be without waiting.
func (w *wire) try(b []byte) (int, error) {
	if w.raw == nil {
		return 0, nil
	}
	w.wout, w.wn, w.werr = b, 0, nil
	err := w.raw.Write(w.writable)
	w.wout = nil
	if err == nil && w.werr != nil {
		err = &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", w.werr)}
	}
	return w.wn, err
}

// write writes all of b. An end that takes nothing for stall is an error; 0 and less are no limit.
func (w *wire) write(b []byte, stall time.Duration) error {
	n, err := w.try(b)
	for b = b[n:]; err == nil && len(b) > 0; b = b[n:] {
		w.bound(stall)
		n, err = w.Conn.Write(b[:min(len(b), bufferSize)])
		w.bound(0)
	}
	return err
}

// bound sets the deadline of writes, or takes it away.
func (w *wire) bound(d time.Duration) {
	var t time.Time
	if d > 0 {
		t = time.Now().Add(d)
	}
	w.deadline.Lock()
	defer w.deadline.Unlock()
	if !w.final {
		w.SetWriteDeadline(t)
	}
}

// finish bounds all that is still to be read and written. w.deadline is held.
func (w *wire) finish(d time.Duration) {
	w.final = true
	w.SetDeadline(time.Now().Add(d))
}
