package forward

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// Forward answers r as the given node does: it sends r there, once, and w gets the answer. A request for a change
// of protocol (a WebSocket) is passed through: where the node takes the connection, Forward takes that of w, and returns
// when that is done; the bytes then go both ways until one end closes.
//
// Where the node is away, or goes before it has answered, Options.Gone answers. Where that happens in the middle of the answer,
// and where the handler there panics, Forward panics with http.ErrAbortHandler, as a handler does that
// cannot finish, so that the client notices. If r's context ends, so does that of the request at the node.
//
// A request that was forwarded twice already is answered by Gone. The body is read first, up to one byte more
// than Options.MaxBody.
func (p *Peers) Forward(w http.ResponseWriter, r *http.Request, node string) {
	_, hops := hopsOf(r.Context())
	if hops >= maxHops { // it may go back to where it came from: the session may have moved there meanwhile
		p.gone(w, r)
		return
	}
	body, buf, flags := p.readBody(w, r)
	o, c, err := p.begin(r.Context(), node)
	if err != nil {
		putBody(buf)
		p.refuse(w, r, err)
		return
	}
	p.count.out.Add(1)
	rest, ok := o.request(c, r, flags, byte(hops+1), body)
	if !ok {
		putBody(buf)
		http.Error(w, "the headers are too large", http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	if len(rest) > 0 {
		if !p.sendRest(c, r, rest, flags&flagBroken) {
			putBody(buf)
			o.cancel(c, true)
			return
		}
	}
	putBody(buf)
	select {
	case <-c.ready:
	case <-r.Context().Done():
		o.cancel(c, true)
		p.count.cancelled.Add(1)
		c.drop(context.Canceled)
		if len(rest) == 0 {
			o.recycle(c)
		}
		return
	}
	if c.err == errAbort {
		panic(http.ErrAbortHandler)
	} else if c.err != nil {
		p.refuse(w, r, c.err)
		return
	}
	p.answer(o, c, w, r, len(rest) == 0)
}

// begin makes a call to a node, on whose line it holds mu.
func (p *Peers) begin(ctx context.Context, node string) (o *outbound, c *call, err error) {
	for range 3 {
		if o, err = p.reach(ctx, node); err != nil {
			return nil, nil, err
		}
		if c, err = o.begin(); err == nil || err == errBusy {
			return o, c, err
		}
		o.peer.lost(o) // it has just ended; nothing was sent
	}
	return nil, nil, err
}

// gone answers a request whose owner is away.
func (p *Peers) gone(w http.ResponseWriter, r *http.Request) {
	p.count.gone.Add(1)
	p.o.Gone(w, r)
}

// refuse answers a request that could not be forwarded.
func (p *Peers) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errBusy) {
		p.count.busy.Add(1)
		http.Error(w, "too many requests", http.StatusServiceUnavailable)
		return
	}
	if r.Context().Err() != nil {
		return // nobody waits for the answer
	}
	p.gone(w, r)
}

// request appends the frame of a request, and as much of the body as fits. o.mu is held; request releases it. It reports
// false, and the call is over, where the head is too large for a frame: http.Server.MaxHeaderBytes may allow any size.
func (o *outbound) request(c *call, r *http.Request, flags, hops byte, body []byte) (rest []byte, ok bool) {
	first := body
	if len(first) > chunk {
		first, rest = body[:chunk], body[chunk:]
		flags &^= flagEnd | flagBroken
	}
	c.credit -= len(first)
	scratch := buffers.Get().(*buffer)
	b := o.pending
	start := len(b)
	b = appendFrame(b, kindHead, c.id)
	b = appendRequest(b, r, flags, hops, scratch[:0])
	if ok = len(b)-start <= maxHead; ok {
		o.pending = endFrame(append(b, first...), start)
	} else {
		o.remove(c)
	}
	buffers.Put(scratch)
	o.release(true)
	return rest, ok
}

// sendRest sends what did not fit into the first frame. It reports false where the client went.
func (p *Peers) sendRest(c *call, r *http.Request, rest []byte, broken byte) bool {
	stop := context.AfterFunc(r.Context(), func() { c.fail(context.Canceled) })
	defer stop()
	_, err := c.write(rest, 0)
	if r.Context().Err() != nil {
		return false
	}
	if err == nil {
		c.finishStream(flagEnd | broken)
	}
	return true // after another error there is an answer, or none will come
}

// readBody reads the body of r. The buffer, where there is one, is to be given back.
func (p *Peers) readBody(w http.ResponseWriter, r *http.Request) (body []byte, buf *buffer, flags byte) {
	flags = flagEnd
	if canHijack(w, r) {
		flags |= flagHijack
	}
	switch {
	case r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0:
		return nil, nil, flags
	case r.ContentLength > int64(p.o.MaxBody): // the owner refuses it without looking at it
		return nil, nil, flags | flagBroken
	}
	buf = buffers.Get().(*buffer)
	body = buf[:0]
	if n := r.ContentLength; n > int64(len(buf)) {
		body = make([]byte, 0, min(n+1, chunk)) // more when it is there
	}
	for len(body) <= p.o.MaxBody {
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
		n, err := r.Body.Read(body[len(body):min(cap(body), p.o.MaxBody+1)])
		body = body[:len(body)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			flags |= flagBroken
			break
		}
	}
	return body, buf, flags
}

func putBody(buf *buffer) {
	if buf != nil {
		buffers.Put(buf)
	}
}

// canHijack reports whether the connection of r can be taken, without taking it.
func canHijack(w http.ResponseWriter, r *http.Request) bool {
	if r.ProtoMajor != 1 || len(r.Header["Upgrade"]) == 0 || r.ContentLength != 0 {
		return false
	}
	for {
		switch x := w.(type) {
		case http.Hijacker:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = x.Unwrap()
		default:
			return false
		}
	}
}

// answer answers r with what the other node answered.
func (p *Peers) answer(o *outbound, c *call, w http.ResponseWriter, r *http.Request, pooled bool) {
	a, err := readAnswer(c.head, w.Header())
	switch {
	case err != nil: // o.head has looked at it, but not at the headers
		o.fail(err)
		p.refuse(w, r, err)
		return
	case a.flags&flagRaw != 0:
		p.passThrough(o, c, w, r, a.body)
		return
	}
	w.WriteHeader(a.status)
	if a.flags&flagEnd != 0 {
		if len(a.body) > 0 {
			w.Write(a.body)
		}
		if pooled {
			o.recycle(c)
		}
		return
	}
	stop := context.AfterFunc(r.Context(), func() { c.fail(context.Canceled) })
	defer stop()
	rc := http.NewResponseController(w)
	_, werr := w.Write(a.body)
	if a.flags&flagFlush != 0 && werr == nil {
		rc.Flush()
	}
	for werr == nil {
		data, flush, err := c.next()
		if err == io.EOF {
			return
		}
		if err != nil {
			o.cancel(c, true)
			c.drop(err)
			if r.Context().Err() != nil {
				return
			}
			p.count.broken.Add(1)
			panic(http.ErrAbortHandler)
		}
		if _, werr = w.Write(data); werr == nil && flush {
			rc.Flush()
		}
		c.consumed(len(data))
	}
	o.cancel(c, true) // the client went
	c.drop(werr)
}

// next waits for more of a body, and returns all there is. The caller alone reads, and calls consumed.
func (s *stream) next() (data []byte, flush bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.in) == 0 && !s.flush {
		switch {
		case s.err != nil:
			return nil, false, s.err
		case s.inEnd:
			return nil, false, io.EOF
		}
		s.cond.Wait()
	}
	data, flush = s.in, s.flush
	s.in, s.base, s.flush = nil, nil, false
	return data, flush, nil
}

// consumed allows the other end as much anew as was read.
func (s *stream) consumed(n int) {
	s.mu.Lock()
	more := s.took(n)
	s.mu.Unlock()
	s.grant(more)
}
