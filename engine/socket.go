package engine

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/atollhq/atoll/engine/wire"
)

// A socket is a WebSocket connection. One goroutine reads from it, and while
// nothing comes that holds neither a buffer nor much of a stack; whoever owns Conn.writing writes to it.
//
// See https://www.rfc-editor.org/rfc/rfc6455
type socket struct {
	c    *Conn
	conn net.Conn
	raw  syscall.RawConn // conn, for reads and writes that do not wait; nil: those of conn do
	io   rawIO           // what they need

	// The reader's.
	frames  wire.Frames
	early   []byte // what came with the request
	small   []byte // what a read without raw reads into
	probing bool   // the session does not use the socket yet
	deep    bool   // handlers ran on the reader since it began
	settled bool   // handlers have run, and the reader was changed once for that
	rest    bool   // it is time to change the reader
	err     error  // why reading ended

	within atomic.Bool // the client has sent part of a message

	// Guarded by c.mu.
	probed    bool   // the client's probe was answered
	sentClose bool   // a close frame was queued
	bye       []byte // a close frame that whoever is writing writes when done
}

// An ended is why a WebSocket ends in order: the client sent a close frame or a close packet.
type ended struct{ code int }

func (e *ended) Error() string { return "engine: closed by the client" }

// lingerFor is how long a client that broke the rules may take to read why it is closed.
const lingerFor = 2 * time.Second

// byeTimeout is how long a close frame may take on a connection without raw.
const byeTimeout = time.Second

// serve reads until the connection ends, or a handler that it runs takes long and r is relieved.
func (k *socket) serve(r *run) {
	if b := k.early; b != nil {
		k.early = nil
		if k.batch(b, nil, r) {
			return
		}
	}
	for k.err == nil {
		data, b, err := k.read()
		if err != nil {
			k.err = err
			break
		}
		if k.batch(data, b, r) {
			return
		}
		if k.rest && k.err == nil {
			k.rest, k.deep = false, false
			k.c.srv.group.Go(func() { k.serve(r) })
			return
		}
	}
	k.finish()
}

// settle decides whether to change the reader for a new one, which has a small stack again: the
// runtime never shrinks a stack from 4 KB to 2. The time for that is after the first messages of a session,
// with which most of them stay idle for long, and after a pong.
func (k *socket) settle(pong bool) {
	if k.raw == nil || !k.deep {
		return // without raw, waiting for input takes a deep stack anyway
	}
	if pong || !k.settled {
		k.settled, k.rest = true, true
	}
}

// read waits for the client to send something and returns it, with the buffer that it lies in, if
// it lies in one: the caller gives it back. Part of a large message is not returned but taken up by k.frames.
func (k *socket) read() (data []byte, b *buffer, err error) {
	if k.raw != nil {
		return k.readRaw()
	}
	if space := k.frames.Space(); space != nil {
		n, err := k.conn.Read(space)
		if n > 0 {
			k.frames.Filled(n)
			k.c.srv.bytesIn.Add(uint64(n))
			return nil, nil, nil
		}
		return nil, nil, err
	}
	if k.small == nil {
		k.small = make([]byte, 1024)
	}
	n, err := k.conn.Read(k.small)
	if n > 0 {
		k.c.srv.bytesIn.Add(uint64(n))
		return k.small[:n], nil, nil
	}
	return nil, nil, err
}

// batch handles what one read brought: it hands the messages up, runs the handlers, and
// writes what they sent. It sets k.err if the connection should end, and reports whether r was relieved.
func (k *socket) batch(data []byte, b *buffer, r *run) (relieved bool) {
	c := k.c
	packets, corked, pong := 0, false, false
	for k.err == nil {
		f, rest, ok, err := k.frames.Next(data)
		data = rest
		if err != nil {
			k.err = err
			break
		}
		if !ok {
			break
		}
		packets++
		if f.Op >= wire.OpClose {
			k.control(f)
			continue
		}
		if k.probing {
			k.probePacket(f)
			continue
		}
		p := wire.Packet{Type: wire.Message, Binary: true, Data: f.Data}
		if f.Op == wire.OpText {
			if p, err = wire.ParsePacket(f.Data); err != nil {
				k.err = &CloseError{Reason: ReasonParseError, Err: err}
				break
			}
		}
		switch p.Type {
		case wire.Message:
			if !corked {
				corked = true
				c.cork()
				c.turn.Lock()
			}
			c.message(p.Data, p.Binary)
		case wire.Pong:
			pong = true
			c.pong()
		case wire.Ping:
			k.err = &CloseError{Reason: ReasonTransportError, Err: errDirection}
		case wire.Close:
			k.err = &ended{}
		}
	}
	putBuffer(b)
	if within := !k.frames.Idle(); within != k.within.Load() {
		k.within.Store(within)
	}
	c.srv.packetsIn.Add(uint64(packets))
	if !corked {
		k.settle(pong)
		return false
	}
	c.turn.Unlock()
	if c.flush(r) {
		return true // and the new reader is not deep
	}
	k.deep = true
	k.settle(pong)
	return false
}

// control handles a control frame.
func (k *socket) control(f wire.Frame) {
	switch f.Op {
	case wire.OpClose:
		code, err := wire.CloseCode(f.Data)
		if err == nil {
			err = &ended{code: code}
		}
		k.err = err
	case wire.OpPing:
		k.c.sendPong(k, f.Data)
	}
}

// sendPong answers the ping of a WebSocket. Of several that wait, the last counts.
//
// See https://www.rfc-editor.org/rfc/rfc6455#section-5.5.3
func (c *Conn) sendPong(k *socket, data []byte) {
	if k.probing {
		k.writeBye(wire.AppendControl(nil, wire.OpPong, data))
		return
	}
	p := wire.Packet{Type: typeWSPong, Data: append([]byte(nil), data...)}
	c.mu.Lock()
	if c.state.Load() != open {
		c.mu.Unlock()
		return
	}
	if o := c.out; o != nil && len(o.ps) > 0 && o.ps[len(o.ps)-1].Type == typeWSPong {
		o.ps[len(o.ps)-1] = p // of about the same size
		c.mu.Unlock()
		return
	}
	c.push(p)
	t := c.wake(false)
	c.mu.Unlock()
	c.do(t)
}

// probePacket handles a packet before the session uses the socket: a probe, then
// the word that it does from now on.
func (k *socket) probePacket(f wire.Frame) {
	c := k.c
	if f.Op == wire.OpText && string(f.Data) == "2probe" {
		if k.err = k.writeBye(wire.AppendFrame(nil, &wire.Packet{Type: wire.Pong, Data: []byte("probe")})); k.err != nil {
			return
		}
		c.mu.Lock()
		k.probed = true
		if c.waiting { // the client waits for its poll to end
			c.nudges++
			c.signal()
		}
		c.mu.Unlock()
		return
	}
	if f.Op != wire.OpText || string(f.Data) != "5" || !c.takeover(k) {
		k.err = &ended{code: wire.ClosePolicy}
		return
	}
	k.probing = false
	k.err = k.conn.SetReadDeadline(time.Time{})
}

// takeover makes k the transport of the session.
func (c *Conn) takeover(k *socket) bool {
	c.mu.Lock()
	if c.state.Load() == closed || c.probe != k || !k.probed {
		c.mu.Unlock()
		return false
	}
	c.ws, c.probe = k, nil
	if !c.waiting { // else the GET that waits still looks at it
		c.uncarry()
	}
	c.signal()
	if c.state.Load() == closing {
		c.pushClose()
	}
	t := c.wake(false)
	c.mu.Unlock()
	c.srv.upgrades.Add(1)
	c.srv.websockets.Add(1)
	c.do(t)
	return true
}

// finish ends the connection, and with it the session that uses it, for the reason in k.err.
func (k *socket) finish() {
	e, code, linger := k.verdict()
	c := k.c
	if k.probing {
		c.mu.Lock()
		if c.probe == k {
			c.probe = nil
			c.nudges = 0
		}
		c.mu.Unlock()
	} else {
		c.cut(e, k)
	}
	sent, pending := k.farewell(code)
	if linger && sent || pending {
		k.linger()
	} else {
		k.conn.Close()
	}
}

// verdict says what k.err means for the session, with which code the connection is closed
// (0: without a close frame), and whether its client should get time to read that.
func (k *socket) verdict() (e *CloseError, code int, linger bool) {
	var fe *wire.FrameError
	var end *ended
	switch {
	case errors.As(k.err, &end):
		if end.code == wire.ClosePolicy && k.probing {
			return nil, wire.ClosePolicy, true
		}
		return &CloseError{Reason: ReasonTransportClose, Code: end.code}, max(end.code, wire.CloseNormal), false
	case errors.As(k.err, &fe):
		e = &CloseError{Reason: ReasonTransportError, Err: fe}
		if limit := k.c.srv.o.MaxPayload; fe.Code == wire.CloseTooBig {
			e.Err = &LimitError{What: LimitPayload, Limit: limit, Got: fe.Got}
		} else if fe.Code == wire.ClosePolicy {
			e.Err = &LimitError{What: LimitFragments, Limit: fe.Got - 1, Got: fe.Got}
		}
		return e, fe.Code, true
	case errors.As(k.err, &e):
		return e, wire.CloseProtocol, true
	case k.err == io.EOF:
		return &CloseError{Reason: ReasonTransportClose}, 0, false
	}
	return &CloseError{Reason: ReasonTransportClose, Err: k.err}, 0, false
}

// farewell sends a close frame, unless one was sent, and reports whether the client has one coming. If
// somebody is writing, it is he who sends it, when done: then it is pending.
func (k *socket) farewell(code int) (sent, pending bool) {
	if code == 0 {
		return false, false
	}
	bye := wire.AppendClose(nil, code, "")
	c := k.c
	c.mu.Lock()
	if k.sentClose {
		c.mu.Unlock()
		return true, false
	}
	k.sentClose = true
	if c.ws == k && c.writing {
		k.bye = bye
		c.mu.Unlock()
		return true, true
	}
	c.mu.Unlock()
	return k.writeBye(bye) == nil, false
}

// linger reads on for a moment, so that what was written last arrives: a connection that is
// closed with something unread is reset.
func (k *socket) linger() {
	defer k.conn.Close()
	if !k.c.srv.linger(k) {
		return
	}
	defer k.c.srv.lingered(k)
	k.conn.SetReadDeadline(time.Now().Add(lingerFor))
	b := getBuffer()
	defer putBuffer(b)
	for {
		if _, err := k.conn.Read(b[:]); err != nil {
			return
		}
	}
}

// cut closes the connection from outside of its reader, which notices.
func (k *socket) cut(e *CloseError) {
	var limit *LimitError
	if errors.As(e.Err, &limit) && limit.What == LimitQueue {
		if t, ok := k.conn.(*net.TCPConn); ok {
			t.SetLinger(0) // the client does not take what the system still has for it
		}
	}
	k.conn.Close()
}
