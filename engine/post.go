package engine

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/atollhq/atoll/engine/wire"
)

var (
	okBody      = []byte("ok")
	okLength    = []string{"2"} // without it an early answer would not end before the handlers do
	closeHeader = []string{"close"}
)

// A post is one POST of a session. Its handlers run on the goroutine of the request, before
// it is answered: the answer, and what the handlers sent, need no other goroutine. If they take
// long, another goroutine answers, and says that the connection cannot be used again. From then on the
// handlers of the session's POSTs get a goroutine of their own.
type post struct {
	c       *Conn
	w       http.ResponseWriter
	r       *http.Request
	run     run
	reading bool           // the body is being read; guarded by c.mu
	early   sync.WaitGroup // answerEarly
}

// abort makes the reading of the body fail. c.mu is held.
func (p *post) abort() {
	if p.reading {
		http.NewResponseController(p.w).SetReadDeadline(time.Unix(1, 0))
	}
}

// servePost serves a POST of a session.
func (s *Server) servePost(c *Conn, w http.ResponseWriter, r *http.Request) {
	p := &post{c: c, w: w, r: r, reading: true}
	p.run.post = p
	p.early.Add(1)
	c.mu.Lock()
	c.claimed()
	switch {
	case c.state.Load() == closed:
		c.mu.Unlock()
		s.refuse(w, ErrUnknownSID, "")
		return
	case c.ws != nil:
		c.mu.Unlock()
		s.refuse(w, ErrBadRequest, "")
		return
	case c.post != nil:
		c.mu.Unlock()
		c.cut(&CloseError{Reason: ReasonTransportError, Err: errPostOverlap}, nil)
		s.refuse(w, ErrBadRequest, "")
		return
	}
	c.post = p
	c.mu.Unlock()
	sound := false
	defer func() {
		if !sound { // net/http goes on after a panic; this session does not
			c.cut(&CloseError{Reason: ReasonTransportError, Err: errPanic}, nil)
			if c.abandon(&p.run) {
				p.early.Wait()
			}
		}
	}()

	b := getBuffer()
	body, err := p.body(b)
	c.mu.Lock()
	p.reading = false
	c.mu.Unlock()
	var relieved bool
	if err == nil {
		relieved, err = p.packets(body, b)
	} else {
		putBuffer(b)
	}
	p.end(err, relieved)
	sound = true
}

// end answers the POST, and ends the session if there was an error.
func (p *post) end(err error, relieved bool) {
	if relieved {
		p.early.Wait()
	} else {
		p.done()
	}
	if e, ok := errors.AsType[*CloseError](err); ok {
		if e.Err == errClosePacket {
			p.c.awaitPoll()
			p.c.mu.Lock()
			p.c.farewell = wire.Noop // the client ended the session: it needs no close packet
			p.c.mu.Unlock()
			e, err = &CloseError{Reason: ReasonTransportClose}, nil
		}
		p.c.cut(e, nil)
	}
	if relieved {
		return
	}
	if err == nil {
		p.answer()
	} else if _, ok := errors.AsType[*LimitError](err); ok {
		p.w.WriteHeader(http.StatusRequestEntityTooLarge)
	} else {
		p.c.srv.refuse(p.w, ErrBadRequest, "")
	}
}

// awaitPoll waits a moment for the poll of a client that ends its session: it was
// sent before, and is to be answered.
func (c *Conn) awaitPoll() {
	for range slack / time.Millisecond {
		c.mu.Lock()
		here := c.waiting || c.ws != nil || c.state.Load() != open
		c.mu.Unlock()
		if here {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// done lets the next POST come.
func (p *post) done() {
	p.c.mu.Lock()
	if p.c.post == p {
		p.c.post = nil
		p.c.idle()
	}
	e, over := p.c.cause, p.c.parted
	p.c.mu.Unlock()
	if over {
		p.c.cut(e, nil)
	}
}

func (p *post) answer() {
	h := p.w.Header()
	h["Content-Type"] = typeHTML // as the official server: some browsers offer text/plain as a download
	h["Content-Length"] = okLength
	h["Cache-Control"] = noStore
	p.w.Write(okBody)
}

// answerEarly answers while the handlers still run. The goroutine of the request waits for it.
func (p *post) answerEarly() {
	defer p.early.Done()
	p.c.mu.Lock()
	p.c.apart = true
	p.c.mu.Unlock()
	p.done()
	if p.r.ProtoMajor == 1 {
		p.w.Header()["Connection"] = closeHeader // the next request would have to wait for the handlers
	}
	p.answer()
	http.NewResponseController(p.w).Flush()
}

// body reads the body, into b where it fits.
func (p *post) body(b *buffer) ([]byte, error) {
	limit := p.c.srv.o.MaxPayload
	tooLarge := func(n int64) error {
		return &CloseError{Reason: ReasonTransportError, Err: &LimitError{What: LimitPayload, Limit: limit, Got: int(n)}}
	}
	if ct := p.r.Header["Content-Type"]; len(ct) > 0 && ct[0] == "application/octet-stream" {
		return nil, &CloseError{Reason: ReasonTransportError, Err: errContentType}
	}
	if n := p.r.ContentLength; n > int64(limit) {
		return nil, tooLarge(n)
	}
	body := b[:0]
	for {
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
		n, err := p.r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if len(body) > limit {
			return nil, tooLarge(int64(len(body)))
		}
		if err == io.EOF {
			p.c.srv.bytesIn.Add(uint64(len(body)))
			return body, nil
		}
		if err != nil {
			return nil, &CloseError{Reason: ReasonTransportError, Err: errPostGone}
		}
	}
}

// errClosePacket says that the client sent a close packet.
var errClosePacket = errors.New("engine: close packet")

// packets hands the packets of a body up and runs the handlers. It gives b back, which body may lie in.
func (p *post) packets(body []byte, b *buffer) (relieved bool, err error) {
	c := p.c
	if !utf8.Valid(body) {
		putBuffer(b)
		return false, &CloseError{Reason: ReasonParseError, Err: errNotUTF8}
	}
	c.cork()
	n, messages, err := c.deliver(body)
	putBuffer(b)
	c.srv.packetsIn.Add(uint64(n))
	if messages == 0 {
		c.uncork()
		return false, err
	}
	c.mu.Lock()
	apart := c.apart || p.r.ProtoMajor > 1 // over HTTP/2 an answer ends only when its goroutine does
	c.mu.Unlock()
	if apart && err == nil {
		c.srv.group.Go(func() { c.flush(&run{}) })
		return false, nil
	}
	return c.flush(&p.run), err
}

// deliver hands the packets of a body up, and counts them and the messages among them.
func (c *Conn) deliver(body []byte) (n, messages int, err error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.mu.Lock()
	late, h := c.ws != nil || c.state.Load() == closed, c.hold
	c.mu.Unlock()
	if late { // taken over by a WebSocket while the body came in, or ended: then there may be no handler
		return 0, 0, errPostLate
	}
	for more := true; more && err == nil; n++ {
		var pk wire.Packet
		var perr error
		pk, body, more, perr = wire.NextPacket(body)
		switch {
		case perr != nil:
			err = &CloseError{Reason: ReasonParseError, Err: perr}
		case pk.Type == wire.Message:
			if h != nil {
				if c.keep(h, &pk) {
					break
				}
				messages += c.handUpNow()
				h = nil
			}
			messages++
			c.message(pk.Data, pk.Binary)
		case pk.Type == wire.Pong:
			c.pong()
		case pk.Type == wire.Ping:
			err = &CloseError{Reason: ReasonTransportError, Err: errDirection}
		case pk.Type == wire.Close:
			if h != nil {
				messages += c.handUpNow()
			}
			err = &CloseError{Reason: ReasonTransportClose, Err: errClosePacket}
		}
	}
	return n, messages, err
}
