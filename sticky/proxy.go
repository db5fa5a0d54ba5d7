package sticky

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"
)

// maxHead bounds the header of an answer of a node, in bytes.
const maxHead = 64 << 10

// A call is one request on its way.
type call struct {
	l      *Balancer
	head   head
	kind   kind
	id     string // of the session
	cookie string // a Set-Cookie for the answer, or empty; whoever chooses the node sets it
	trail  trail

	away atomic.Bool // the client has gone, where ctx does not say so
	bad  *refusal    // what the client did wrong with the body of its request

	ctx  context.Context // of the client
	body *sentBody       // nil where the request has none
	w    http.ResponseWriter

	b      *backend
	e      *entry // pinned
	tried  []*backend
	opened bool    // counts in b.opening
	closes bool    // the request says that its session is over
	f      *flight // fl, or nil
	fl     flight

	mu      sync.Mutex // guards what follows; the deadlines of w are set with it held
	over    bool       // w must not be used any more
	hurried bool
}

// lastWords is how long a client has to take what is left for it when the balancer is closed.
const lastWords = time.Second

// hurry bounds how long the client can hold c up.
func (c *call) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hurried = true
	if !c.over {
		until, w := time.Now().Add(lastWords), http.NewResponseController(c.w)
		w.SetReadDeadline(until)
		w.SetWriteDeadline(until)
	}
}

// limit calls set, a method of c.w, with a deadline, unless hurry has set one. If d is 0, there is none any more.
func (c *call) limit(set func(*http.ResponseController, time.Time) error, d time.Duration) {
	var t time.Time
	if d > 0 {
		t = time.Now().Add(d)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.hurried && !c.over {
		set(http.NewResponseController(c.w), t)
	}
}

type callKey struct{}

// ServeHTTP sends r to the node where it belongs. While that is away, the answer is status 400
// with code 1 for a request of a session, and 503 for any other.
func (l *Balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{l: l, head: headOf(r), ctx: r.Context(), w: w}
	if !l.begin(c) {
		refuse(w, r, l.none())
		return
	}
	defer l.finish(c)
	l.enters(c)

	k, id, ok := l.classify(&c.head)
	if !ok {
		c.turnAway(w, r, badSession)
		return
	}
	if l.local(k, &c.head) {
		c.trail = trail{} // what that does is not ours to count
		if c.head.path == l.o.StatusPath {
			l.serveStatus(w)
			return
		}
		l.o.Fallback.ServeHTTP(w, r)
		return
	}
	c.kind, c.id = k, id
	defer c.unpin()
	if !c.route() {
		c.turnAway(w, r, c.unrouted())
		return
	}
	if isWebSocket(r) {
		c.tunnel(w, r)
		return
	}
	if k != plain && l.o.BodyTimeout > 0 && r.ContentLength != 0 {
		c.limit((*http.ResponseController).SetReadDeadline, l.o.BodyTimeout)
	}
	if r.ContentLength != 0 && r.Body != nil {
		c.body = &sentBody{ReadCloser: r.Body, c: c, one: k == session && r.ContentLength == 1}
	}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	if c.body != nil {
		r.Body = c.body
	}
	l.proxy.ServeHTTP(w, r)
}

// route chooses the node of a request. It reports false where there is none.
func (c *call) route() bool {
	for {
		if c.kind == session {
			c.b, c.e = c.l.find(c.id)
			if c.b == nil {
				c.b = c.l.guess(c)
			}
			if c.b != nil && c.b.serves() {
				return true
			}
			c.b = nil
		}
		// A preflight belongs to no session; what stands behind it should get its own answer.
		if c.kind != session || c.head.method == http.MethodOptions {
			if c.next() {
				return true
			}
		}
		c.unpin()
		if !c.l.settled(c.ctx) || c.ctx.Err() != nil {
			return false
		}
	}
}

// next takes the next node for a request that may go to any.
func (c *call) next() bool {
	c.unpin()
	share := c.l.rules().RetryShare
	if c.b == nil {
		if !c.l.admit(c) {
			return false
		}
		c.l.retry.earn(max(0, share))
	} else {
		c.tried = append(c.tried, c.b)
		if share < 0 || !c.l.retry.take(time.Now()) {
			c.l.refused[noRetry].Add(1)
			return false
		}
		c.b.retries.Add(1)
	}
	b := c.l.pick(c)
	if b == nil {
		return false
	}
	c.b = b
	if c.kind == handshake {
		c.opened = true
		c.setCookie()
	} else {
		b.opening.Add(-1)
	}
	return true
}

// board says that the request is under way to its node; cut ends it.
func (c *call) board(cut func(ticket uint64, cause error), ticket uint64) bool {
	c.leave()
	c.fl.cut, c.fl.ticket = cut, ticket
	if !c.b.enter(&c.fl) {
		return false
	}
	c.b.requests.Add(1)
	c.f = &c.fl
	return true
}

func (c *call) leave() {
	if c.f != nil {
		c.b.leave(c.f)
		c.f = nil
	}
}

// unpin gives back what the call holds of its node and its session.
func (c *call) unpin() {
	c.leave()
	c.openedNow()
	if c.e != nil {
		c.l.table.unpin(c.e)
		c.e = nil
	}
}

// openedNow ends the counting as a session that is being opened.
func (c *call) openedNow() {
	if c.opened {
		c.b.opening.Add(-1)
		c.opened = false
	}
}

// newProxy makes the proxy of all ordinary requests.
func (l *Balancer) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:      tripper{},
		BufferPool:     &buffers,
		ErrorLog:       slog.NewLogLogger(l.o.Logger.Handler(), slog.LevelDebug),
		ErrorHandler:   l.fail,
		ModifyResponse: answered,
		Rewrite: func(p *httputil.ProxyRequest) {
			c := p.In.Context().Value(callKey{}).(*call)
			l.forward(&c.head, p.Out.Header)
			// Protocols that nobody here understands are not switched to.
			p.Out.Header.Del("Connection")
			p.Out.Header.Del("Upgrade")
			if c.kind == handshake {
				p.Out.Header.Del("Accept-Encoding") // we want to read the session id
			}
		},
	}
}

// A tripper sends requests to the nodes of their calls.
type tripper struct{}

func (tripper) RoundTrip(req *http.Request) (*http.Response, error) {
	c := req.Context().Value(callKey{}).(*call)
	for {
		resp, err := c.try(req)
		if err == nil || !c.again(req, err) {
			return resp, err
		}
	}
}

// try sends req to the node of c.
func (c *call) try(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	if !c.board(func(_ uint64, cause error) { cancel(cause) }, 0) {
		cancel(nil)
		return nil, errDown
	}
	b := c.b
	b.active.Add(1)
	out := req.WithContext(ctx)
	u := *req.URL
	u.Scheme, u.Host = b.url.Scheme, b.url.Host
	out.URL = &u
	resp, err := b.transport.RoundTrip(out)
	if err != nil {
		b.active.Add(-1)
		if cause := context.Cause(ctx); cause != nil && c.ctx.Err() == nil {
			err = cause // cut by us
		}
		cancel(nil)
		c.blame(err)
		return nil, err
	}
	resp.Body = &answerBody{ReadCloser: resp.Body, c: c, done: func() {
		b.active.Add(-1)
		cancel(nil)
	}}
	return resp, nil
}

// blame counts err, and asks whether the node lives, where it is the node's fault.
func (c *call) blame(err error) {
	if c.fault() || errors.Is(err, errClosed) {
		return
	}
	c.b.failed(err)
	if lost(err) {
		c.b.suspect()
	}
}

// fault reports whether it is for the client that c goes no further.
func (c *call) fault() bool {
	return c.ctx.Err() != nil || c.away.Load() || c.bad != nil || c.body != nil && c.body.err() != nil
}

// again reports whether req, which failed with err, may be sent once more, and
// chooses the node for it.
func (c *call) again(req *http.Request, err error) bool {
	if req.Body != nil {
		return false
	}
	return c.repeat(err)
}

// repeat is again for a request without a body.
func (c *call) repeat(err error) bool {
	if c.fault() || c.head.method != http.MethodGet && c.head.method != http.MethodHead {
		return false
	}
	var dial *dialError
	unsent := errors.As(err, &dial) || errors.Is(err, errDown)
	switch {
	case c.kind == handshake && lost(err): // at worst a session that nobody knows of, which times out
	case c.kind == plain && unsent:
	default:
		return false
	}
	return c.next()
}

// answered sees the header of an answer.
func answered(resp *http.Response) error {
	c := resp.Request.Context().Value(callKey{}).(*call)
	if c.kind == handshake {
		c.l.learn(c.b, resp.Header["Set-Cookie"])
	}
	if c.cookie != "" {
		resp.Header.Add("Set-Cookie", c.cookie)
	}
	if limit := c.l.o.BodyTimeout; limit > 0 && c.kind != plain {
		c.limit((*http.ResponseController).SetWriteDeadline, limit)
	}
	if c.body != nil && c.body.closes.Load() {
		c.closes = true
	}
	resp.Body.(*answerBody).watch.begin(c, resp.StatusCode, resp.Header.Get("Content-Encoding") != "", resp.Header.Get(tagHeader))
	return nil
}

// fail answers a request that a node did not answer.
func (l *Balancer) fail(w http.ResponseWriter, r *http.Request, err error) {
	c := r.Context().Value(callKey{}).(*call)
	if c.body != nil && c.body.err() != nil {
		w.Header().Set("Connection", "close")
	}
	c.turnAway(w, r, c.trouble(err))
}
