//go:build unix

package engine

import (
	"io"
	"net"
	"syscall"
)

// rawIO holds what the callbacks of a syscall.RawConn need and return. Reader
// and writer have each their own half. The callbacks are made once: a read or write allocates nothing.
type rawIO struct {
	readable func(fd uintptr) bool
	buf      *buffer
	n        int
	err      error

	writable func(fd uintptr) bool
	out      []byte
	written  int
	outErr   error
}

// setRaw lets k read without holding a buffer, and write without waiting, if its connection is
// one of the system's. A type that wraps one, even if it embeds it, has reads and writes of its own.
func (k *socket) setRaw() {
	var c syscall.Conn
	switch conn := k.conn.(type) {
	case *net.TCPConn:
		c = conn
	case *net.UnixConn:
		c = conn
	default:
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	k.raw = raw
	k.io.readable = k.tryRead
	k.io.writable = k.tryWrite
}

// readRaw is read over raw: it waits until the socket is readable, and only then takes a buffer.
func (k *socket) readRaw() (data []byte, b *buffer, err error) {
	if err := k.raw.Read(k.io.readable); err != nil {
		return nil, nil, err
	}
	b, n := k.io.buf, k.io.n
	k.io.buf = nil
	if k.io.err != nil || n == 0 {
		putBuffer(b)
		if k.io.err == nil {
			return nil, nil, io.EOF
		}
		return nil, nil, k.io.err
	}
	k.c.srv.bytesIn.Add(uint64(n))
	if b == nil {
		k.frames.Filled(n)
		return nil, nil, nil
	}
	return b[:n], b, nil
}

func (k *socket) tryRead(fd uintptr) (done bool) {
	into := k.frames.Space()
	var b *buffer
	if into == nil {
		b = getBuffer()
		into = b[:]
	}
	for {
		n, err := sysRead(int(fd), into)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			putBuffer(b)
			return false
		}
		k.io.buf, k.io.n, k.io.err = b, max(n, 0), err
		return true
	}
}

// try writes as much of b as the socket takes without waiting.
func (k *socket) try(b []byte) (int, error) {
	k.io.out, k.io.written, k.io.outErr = b, 0, nil
	err := k.raw.Write(k.io.writable)
	k.io.out = nil
	if err == nil {
		err = k.io.outErr
	}
	return k.io.written, err
}

func (k *socket) tryWrite(fd uintptr) (done bool) {
	for {
		n, err := sysWrite(int(fd), k.io.out)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			n, err = 0, nil
		}
		k.io.written, k.io.outErr = max(n, 0), err
		return true
	}
}
