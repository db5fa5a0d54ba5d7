package engine

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/atollhq/atoll/engine/wire"
)

// Long-polling: a GET waits until there is something to send, a POST brings
// something. No goroutine but that of the request is involved.
//
// See https://socket.io/docs/v4/engine-io-protocol/#http-long-polling

var (
	errPollOverlap = errors.New("a second poll while one was open")
	errPostOverlap = errors.New("a second POST while one was being sent")
	errPollGone    = errors.New("the connection of a poll was closed")
	errPostLate    = errors.New("a POST after the change to WebSocket")
	errPostGone    = errors.New("the connection of a POST was closed")
	errContentType = errors.New("a POST of type application/octet-stream")
	errNotUTF8     = errors.New("text is not UTF-8")
	errPanic       = errors.New("a handler panicked")
	errDirection   = errors.New("a ping from the client")
)

const (
	// nudgePause is how long a poll may wait while the client changes to WebSocket.
	nudgePause = 100 * time.Millisecond

	// slack is how long is waited for what a client has sent before, over another
	// connection, and what was overtaken.
	slack = 5 * time.Millisecond
)

// openPolling answers the handshake of a polling session.
func (s *Server) openPolling(c *Conn, w http.ResponseWriter, r *http.Request) {
	if s.o.Cookie != nil {
		w.Header().Add("Set-Cookie", s.cookie.header(c.id))
	}
	if !c.begin(nil) {
		writeError(w, http.StatusServiceUnavailable, ErrBadRequest, "Session was closed")
		return
	}
	c.mu.Lock()
	c.answer(w, r)
}

// signal tells the GET that waits, if one does, to look again. c.mu is held.
func (c *Conn) signal() {
	if c.waiting && !c.signalled {
		c.signalled = true
		c.wakeup <- struct{}{} // has room: each signal is taken before the next
	}
}

// servePoll serves a GET of a session.
func (s *Server) servePoll(c *Conn, w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.claimed()
	if c.carried != nil && c.repeated(w, r) {
		return
	}
	c.overdue()
	switch {
	case c.state.Load() == closed:
		c.mu.Unlock()
		s.refuse(w, ErrUnknownSID, "")
		return
	case c.ws != nil:
		c.mu.Unlock()
		s.refuse(w, ErrBadRequest, "")
		return
	case c.waiting:
		c.mu.Unlock()
		c.cut(&CloseError{Reason: ReasonTransportError, Err: errPollOverlap}, nil)
		s.refuse(w, ErrBadRequest, "")
		return
	}
	c.carry(r)
	if ready := c.out != nil && c.corked == 0 || c.state.Load() != open; !ready {
		// A poll that comes while the client changes to WebSocket is answered soon, with nothing,
		// so that the client can go on. But it may have changed already.
		pause, first := nudgePause, c.probe != nil && c.probe.probed && c.nudges == 0
		if first {
			c.nudges++
			pause = slack
		}
		here := c.awaitSend(r, pause)
		if c.brokenOff() {
			c.mu.Unlock()
			s.refuse(w, ErrBadRequest, "") // nobody hears it
			return
		}
		if !here {
			c.mu.Unlock()
			c.cut(&CloseError{Reason: ReasonTransportError, Err: errPollGone}, nil)
			return
		}
		if first && c.ws != nil {
			c.wakeup = nil
			c.mu.Unlock()
			s.refuse(w, ErrBadRequest, "")
			return
		}
	}
	c.answer(w, r)
}

// awaitSend lets a GET wait for something to send, for pause at most while the client changes
// to WebSocket. It reports false if its client went. c.mu is held before and after, not while it waits.
func (c *Conn) awaitSend(r *http.Request, pause time.Duration) bool {
	c.waiting, c.signalled = true, false
	if c.wakeup == nil {
		c.wakeup = make(chan struct{}, 1)
	}
	wakeup := c.wakeup
	var leaving <-chan struct{}
	if c.carried != nil {
		leaving = c.carried.by.Leaving()
	}
	var over <-chan time.Time
	if c.probe != nil {
		t := time.NewTimer(pause)
		defer t.Stop()
		over = t.C
	}
	c.mu.Unlock()
	here := true
	select {
	case <-wakeup:
	case <-over:
	case <-leaving:
	case <-r.Context().Done():
		here = false
	}
	c.mu.Lock()
	c.waiting = false
	if c.signalled {
		select {
		case <-wakeup:
		default: // it was what ended the select
		}
	}
	return here
}

// answer answers a GET with what there is to send. c.mu is held; answer releases it.
func (c *Conn) answer(w http.ResponseWriter, r *http.Request) {
	st := c.state.Load()
	var o *outbox
	var one [1]wire.Packet
	ps := one[:]
	switch {
	case st == closed:
		one[0].Type = c.farewell
	case c.ws != nil:
		one[0].Type = wire.Noop
		c.wakeup = nil
		c.uncarry()
	case st == closing:
		c.push(wire.Packet{Type: wire.Close})
		o, c.out = c.out, nil
	case c.out != nil:
		o, c.out = c.out, nil
	default:
		one[0].Type = wire.Noop
	}
	if o != nil {
		ps = o.ps
	}
	var body []byte
	if c.carried != nil && st != closed {
		body = c.keepAnswer(ps) // now, since a copy of the GET may come while the answer is being written
	}
	again := c.again()
	c.mu.Unlock()

	err := c.srv.writePayload(w, r, ps, body)
	if o != nil {
		c.written(o)
	}
	switch {
	case err != nil:
		if !isBroken(again) {
			c.cut(&CloseError{Reason: ReasonTransportError, Err: err}, nil)
		}
	case st == closing:
		c.mu.Lock()
		e, later := c.cause, c.parting()
		c.mu.Unlock()
		if !later {
			c.cut(e, nil)
		}
	}
}

// bigBody is from how many bytes on a body is more than a connection swallows without its client reading.
const bigBody = 64 << 10

// writePayload writes packets as the answer to a GET. body is what they look like, where that is there already.
func (s *Server) writePayload(w http.ResponseWriter, r *http.Request, ps []wire.Packet, body []byte) error {
	n := wire.PayloadLen(ps)
	switch {
	case body != nil:
	case n <= bufferSize:
		b := getBuffer()
		defer putBuffer(b)
		body = wire.AppendPayload(b[:0], ps)
	default:
		body = wire.AppendPayload(make([]byte, 0, n), ps)
	}
	h := w.Header()
	if s.o.CompressAbove > 0 && n >= s.o.CompressAbove && worthCompressing(ps) && acceptsGzip(r) {
		z := zippers.Get().(*zipper)
		defer zippers.Put(z)
		body = z.zip(body)
		h["Content-Encoding"] = gzipped
		h.Add("Vary", "Accept-Encoding")
	}
	_, err := s.writeBody(w, body)
	return err
}

// writeBody writes the body of the answer to a GET.
func (s *Server) writeBody(w http.ResponseWriter, body []byte) (int, error) {
	h := w.Header()
	h["Content-Type"] = typeText
	h["Cache-Control"] = noStore
	if len(body) > 2000 { // net/http counts shorter ones itself
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	if len(body) > bigBody {
		rc := http.NewResponseController(w)
		if d := s.o.PingInterval + s.o.PingTimeout; s.o.PingInterval > 0 && rc.SetWriteDeadline(time.Now().Add(d)) == nil {
			defer rc.SetWriteDeadline(time.Time{})
		}
	}
	n, err := w.Write(body)
	s.bytesOut.Add(uint64(len(body)))
	return n, err
}

func worthCompressing(ps []wire.Packet) bool {
	for i := range ps {
		if !ps[i].Plain {
			return true
		}
	}
	return false
}

// acceptsGzip reports whether the client takes gzip.
func acceptsGzip(r *http.Request) bool {
	for _, v := range r.Header["Accept-Encoding"] {
		for one := range strings.SplitSeq(v, ",") {
			name, q, _ := strings.Cut(one, ";")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") {
				q = strings.ReplaceAll(q, " ", "")
				return strings.Trim(strings.TrimPrefix(q, "q="), "0.") != "" || q == ""
			}
		}
	}
	return false
}

// A zipper compresses bodies. It keeps no window between them.
type zipper struct {
	b bytes.Buffer
	w *gzip.Writer
}

var zippers = sync.Pool{New: func() any {
	z := &zipper{}
	z.w, _ = gzip.NewWriterLevel(&z.b, gzip.StatelessCompression)
	return z
}}

// zip returns body compressed; the result is valid until the next call.
func (z *zipper) zip(body []byte) []byte {
	if z.b.Cap() > 1<<20 {
		z.b = bytes.Buffer{}
	}
	z.b.Reset()
	z.w.Reset(&z.b)
	z.w.Write(body) // a bytes.Buffer takes everything
	z.w.Close()
	return z.b.Bytes()
}
