package forward

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A served is a request of another node's client. It is the http.ResponseWriter and the body of its request.
type served struct {
	stream
	in    *inbound
	ctx   forwarded
	r     http.Request
	flags byte

	header http.Header
	status int
	buf    []byte // of the answer's body, not sent yet
	lent   *buffer
	sent   bool // the head was

	takeMu sync.Mutex
	taken  bool // by Hijack
	over   bool // the handler has returned
}

// forwarded is the context of a request. It lies in its served, which a context of package context would not.
type forwarded struct {
	node string
	hops int
	line *line

	mu   sync.Mutex
	done chan struct{} // made for who asks
	over bool
}

type forwardedKey struct{}

// Value implements context.Context.
func (f *forwarded) Value(key any) any {
	if _, ok := key.(forwardedKey); ok {
		return f
	}
	return nil
}

// Deadline implements context.Context.
func (f *forwarded) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (f *forwarded) Done() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil {
		f.done = make(chan struct{})
		if f.over {
			close(f.done)
		}
	}
	return f.done
}

// Err implements context.Context.
func (f *forwarded) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return context.Canceled
	}
	return nil
}

func (f *forwarded) cancel() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.over && f.done != nil {
		close(f.done)
	}
	f.over = true
}

// From returns the node that forwarded the request with the context ctx, and whether one did.
func From(ctx context.Context) (node string, ok bool) {
	node, hops := hopsOf(ctx)
	return node, hops > 0
}

// Hops returns how often the request with the context ctx was forwarded: 0, 1 or 2.
func Hops(ctx context.Context) int {
	_, hops := hopsOf(ctx)
	return hops
}

// maxHops is how often a request is forwarded: to the owner that its id names, and where its session moved to.
const maxHops = 2

func hopsOf(ctx context.Context) (string, int) {
	if f, ok := ctx.Value(forwardedKey{}).(*forwarded); ok {
		return f.node, f.hops
	}
	return "", 0
}

func newServed(in *inbound, id uint32, h *requestHead) (*served, error) {
	if !validMethod(h.method) || h.hops == 0 {
		return nil, errMalformed
	}
	u, err := parseURI(h.uri)
	if err != nil {
		return nil, errMalformed
	}
	s := &served{in: in, flags: h.flags}
	s.init(&in.line, id)
	s.ctx.node, s.ctx.hops, s.ctx.line = in.peer.id, int(h.hops), &in.line
	r := &http.Request{
		Method: h.method, URL: u, Header: h.header, Body: http.NoBody, ContentLength: h.length,
		Host: h.host, RemoteAddr: h.address, RequestURI: h.uri, ProtoMajor: int(h.proto >> 4), ProtoMinor: int(h.proto & 15),
	}
	switch h.proto {
	case 0x11:
		r.Proto = "HTTP/1.1"
	case 0x20:
		r.Proto = "HTTP/2.0"
	default:
		r.Proto = "HTTP/" + strconv.Itoa(r.ProtoMajor) + "." + strconv.Itoa(r.ProtoMinor)
	}
	if h.flags&flagTLS != 0 {
		r.TLS = encrypted
	}
	if len(h.body) > 0 || h.flags&(flagEnd|flagBroken) != flagEnd {
		if err := s.receive(h.body, h.flags); err != nil {
			return nil, err
		}
		r.Body = body{s}
	}
	s.r = *r.WithContext(&s.ctx)
	return s, nil
}

func validMethod(m string) bool {
	return m != "" && len(m) <= 32 && !strings.ContainsFunc(m, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// serve has the request answered. It is the goroutine of the request.
func (s *served) serve() {
	defer s.in.p.group.done()
	defer s.finish()
	s.in.p.o.Serve.ServeHTTP(s, &s.r)
	s.takeMu.Lock()
	s.over = true
	s.takeMu.Unlock()
}

// finish sends what is left of the answer. It is deferred, so that it runs too where the handler panics.
func (s *served) finish() {
	s.takeMu.Lock()
	sound, taken := s.over, s.taken
	s.over = true
	s.takeMu.Unlock()
	if !sound {
		if v := recover(); v != nil && v != http.ErrAbortHandler { // what net/http does
			s.in.p.log.Error("forward: a handler panicked", "method", s.r.Method, "remote", s.r.RemoteAddr, "panic", v, "stack", string(debug.Stack()))
		}
	}
	s.ctx.cancel()
	if taken {
		if !sound {
			(&conn{s: s}).Close()
		}
		return
	}
	in := s.in
	in.mu.Lock()
	here := in.served[s.id] == s // else the client or the line went
	in.remove(s)
	if here && in.await() {
		switch {
		case !sound:
			in.pending = appendEmpty(in.pending, kindAbort, s.id)
		case s.sent:
			in.pending = appendBody(in.pending, s.id, flagEnd, s.buf)
		default:
			in.pending = appendAnswerFrame(in.pending, s.id, flagEnd, s.statusOr200(), s.header, s.buf)
		}
	}
	in.release(true)
	s.drop(errEnded)
	s.stop()
	if s.lent != nil {
		buffers.Put(s.lent)
		s.lent, s.buf = nil, nil
	}
}

var errEnded = errors.New("forward: the handler has returned")

func (s *served) statusOr200() int {
	if s.status == 0 {
		return http.StatusOK
	}
	return s.status
}

// gone tells the handler that the client, or the node that it talks to, is gone.
func (s *served) gone(cause error) {
	in := s.in
	in.mu.Lock()
	in.remove(s)
	in.mu.Unlock()
	s.fail(cause)
	s.ctx.cancel()
}

// A body is that of a request.
type body struct{ s *served }

func (b body) Read(p []byte) (int, error) { return b.s.read(p) }
func (b body) Close() error               { return nil }

var _ io.ReadCloser = body{}
