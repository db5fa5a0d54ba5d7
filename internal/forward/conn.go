package forward

import (
	"bufio"
	"errors"
	"io"
	"net"
	"time"
)

var (
	errNotHijackable = errors.New("forward: the client's connection cannot be taken")
	errHijacked      = errors.New("forward: the connection was taken, or the answer has begun, already")
)

// A conn is the connection of another node's client.
type conn struct {
	s       *served
	greeted bool // the other node knows that the connection was taken; guarded by s.takeMu
}

// Hijack implements http.Hijacker. What is written first is the answer, as on a connection of net/http's.
func (s *served) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	s.takeMu.Lock()
	defer s.takeMu.Unlock()
	switch {
	case s.flags&flagHijack == 0:
		return nil, nil, errNotHijackable
	case s.taken || s.over || s.sent:
		return nil, nil, errHijacked
	}
	s.taken = true
	c := &conn{s: s}
	s.in.p.count.streamsIn.Add(1)
	return c, bufio.NewReadWriter(bufio.NewReaderSize(c, 16), bufio.NewWriterSize(c, 16)), nil
}

// greet tells the other node that the connection was taken, with as much of b as it takes, and returns how much that was.
func (c *conn) greet(b []byte) (int, error) {
	s := c.s
	s.takeMu.Lock()
	defer s.takeMu.Unlock()
	if c.greeted {
		return 0, nil
	}
	c.greeted = true
	n := 0
	if len(b) > 0 {
		var err error
		if n, err = s.reserve(len(b)); err != nil {
			return 0, err
		}
	}
	in := s.in
	in.mu.Lock()
	if !in.await() {
		err := in.cause
		in.mu.Unlock()
		return 0, err
	}
	in.pending = appendAnswerFrame(in.pending, s.id, flagRaw, 0, nil, b[:n])
	in.release(true)
	return n, nil
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) { return c.s.read(b) }

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.greet(b)
	if err != nil || n == len(b) {
		return n, err
	}
	m, err := c.s.stream.write(b[n:], 0)
	return n + m, err
}

// Close implements net.Conn. What was written before still reaches the client, if it takes it.
func (c *conn) Close() error {
	s := c.s
	c.greet(nil)
	s.finishStream(flagEnd)
	in := s.in
	in.mu.Lock()
	in.remove(s)
	in.mu.Unlock()
	s.drop(net.ErrClosed)
	s.stop()
	s.ctx.cancel()
	return nil
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return addr("node:" + c.s.in.p.self) }

// RemoteAddr implements net.Conn: it is that of the client.
func (c *conn) RemoteAddr() net.Addr { return addr(c.s.r.RemoteAddr) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.s.set(&c.s.readBy, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.s.set(&c.s.writeBy, t)
	return nil
}

// An addr is the address of a client as another node sees it.
type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }

var (
	_ net.Conn      = (*conn)(nil)
	_ io.ReadWriter = (*conn)(nil)
)
