package sticky

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atollhq/atoll/internal/http1"
)

// A turn is one request of a client and the answer to it.
type turn struct {
	call
	c       *client
	req     http1.Request // parts of c.buf; valid until the body is read
	ans     http1.Answer
	watch   watch
	origin  string
	old     bool // the client speaks HTTP/1.0
	keep    bool // and stays connected afterwards
	unread  bool // there is input that nobody has read
	began   bool // the client has got a part of the answer
	socket  bool // asks for a WebSocket
	key     string
	expects bool // waits for 100 before it sends the body
	length  int64
	chunked bool
	chunks  http1.Chunks
	left    int64 // of the body, to be sent while the answer is awaited already
	upload  *upload
	out     *outBuffer // what goes to the node
	since   time.Time  // of the answer
	in      inflow

	cutFn  func(uint64, error)
	values func(string) []string

	lock   sync.Mutex // guards what follows
	ticket uint64     // of the flight
	flying bool
	cause  error // of a cut
	up     *upstream
	dialed func() // ends the making of a connection
	asked  bool   // the answer has not begun
	nudged bool   // by the vigil: it takes long
}

var turns = sync.Pool{New: func() any {
	t := new(turn)
	t.cutFn = t.cut
	t.values = func(name string) []string { return t.req.Values(name) }
	return t
}}

// begin makes t ready for a request of c.
func (t *turn) begin(c *client) {
	t.c, t.l, t.ctx = c, c.f.l, c.f.ctx
	t.kind, t.id, t.cookie, t.trail = plain, "", "", trail{}
	t.away.Store(false)
	t.bad, t.b, t.e, t.f = nil, nil, nil, nil
	t.tried = t.tried[:0]
	t.opened, t.closes, t.unread, t.began = false, false, false, false
	t.left, t.upload, t.out = 0, nil, nil
	t.chunks = http1.Chunks{}
	t.cause, t.asked, t.nudged = nil, false, false
	t.since = time.Time{}
}

func (t *turn) free() {
	t.l.note(&t.call)
	t.putOut()
	t.head = head{}
	t.c, t.watch, t.origin, t.key, t.id, t.cookie = nil, watch{}, "", "", "", ""
	clear(t.tried)
	t.tried = t.tried[:0]
	turns.Put(t)
}

func (t *turn) putOut() {
	if t.out != nil {
		outs.Put(t.out)
		t.out = nil
	}
}

// read draws from the parsed request what is needed of it. It reports false, and has answered, where that makes no sense.
func (t *turn) read() bool {
	r, c := &t.req, t.c
	target := string(r.Target)
	path, query, _ := strings.Cut(target, "?")
	if strings.IndexByte(path, '%') >= 0 {
		var err error
		if path, err = url.PathUnescape(path); err != nil {
			c.reject(http1.ErrTarget)
			return false
		}
	}
	t.head = head{
		method: methodName(r.Method), path: path, query: query, host: string(r.Host),
		remote: c.remote, secure: c.secure, header: t.values,
	}
	t.old, t.keep, t.socket = r.Old, !r.Close, r.WebSocket
	t.length, t.chunked, t.expects = max(r.Length, 0), r.Chunked, r.Continue
	t.origin, t.key = "", ""
	if o := r.Get(http1.Origin); len(o) > 0 {
		t.origin = string(o)
	}
	if t.socket {
		t.key = string(r.Get(http1.SecWebSocketKey))
	}
	t.l.enters(&t.call)
	var ok bool
	if t.kind, t.id, ok = t.l.classify(&t.head); !ok {
		t.unread, t.keep = t.length > 0 || t.chunked, false
		t.refuse(&badSession)
		if t.unread {
			c.linger()
		}
		return false
	}
	return true
}

// methodName is string without memory for the usual methods.
func methodName(b []byte) string {
	switch string(b) {
	case http.MethodGet:
		return http.MethodGet
	case http.MethodPost:
		return http.MethodPost
	case http.MethodHead:
		return http.MethodHead
	case http.MethodOptions:
		return http.MethodOptions
	}
	return string(b)
}

// serve sends the request to its node and the answer to the client. It reports whether the client may go on.
func (t *turn) serve() bool {
	defer t.unpin()
	c, l := t.c, t.l
	if most := l.o.Front.MaxBody; most > 0 && t.length > most {
		t.trail.status, t.trail.sent = longBody.status, int64(len(longBody.body))
		c.reject(errLongBody)
		return false
	}
	t.unread = t.length > 0 || t.chunked
	if t.socket && t.unread {
		t.refuse(&bodyOfOpen)
		c.linger()
		return false
	}
	t.out = outs.Get()
	t.out.b = t.appendHead(t.out.b)
	routed := t.route() // while the header can still be read
	if t.unread && (routed || !t.expects) && !t.collect() {
		f := noBody
		if t.bad != nil {
			f = *t.bad
		}
		t.refuse(&f)
	} else if t.rested(); !routed {
		f := t.unrouted()
		t.refuse(&f)
	} else if t.socket {
		t.open()
	} else {
		t.exchange()
	}
	if t.unread && !c.given {
		c.linger()
	}
	return t.keep && !t.unread
}

// rested takes the limit from the reading, if there is nothing more to read.
func (t *turn) rested() {
	if !t.unread {
		t.c.until.Store(0)
	}
}

// refuse answers with f, unless an answer has begun; then the connection just ends.
func (t *turn) refuse(f *refusal) {
	if t.began {
		t.keep = false
		return
	}
	if t.unread || f.status == http.StatusRequestTimeout {
		t.keep = false
	}
	t.trail.status, t.trail.sent = f.status, int64(len(f.body))
	b := outs.Get()
	defer outs.Put(b)
	b.b = appendRefusal(b.b, f, t.origin, t.head.method == http.MethodHead, !t.keep, t.old)
	if t.c.write(b.b, t.patience()) != nil {
		t.keep = false
	}
}

// patience is how long the client may take nothing of its answer.
func (t *turn) patience() time.Duration {
	if t.kind == plain {
		return t.l.o.StallTimeout
	}
	limit := t.l.o.BodyTimeout
	if limit <= 0 {
		return 0
	}
	now := time.Now()
	if t.since.IsZero() {
		t.since = now
	}
	return max(limit-now.Sub(t.since), time.Millisecond)
}

// appendHead appends the head that goes to the node: what the client said, without what was
// for the connection only, and with one length.
func (t *turn) appendHead(b []byte) []byte {
	r := &t.req
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, r.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.Host...)
	b = append(b, "\r\n"...)
	for i := range r.Fields {
		f := &r.Fields[i]
		switch f.Is {
		case http1.Host, http1.ContentLength, http1.Expect, http1.Forwarded, http1.XForwardedFor, http1.XForwardedHost, http1.XForwardedProto:
			continue
		case http1.AcceptEncoding:
			if t.kind == handshake {
				continue // we want to read the session id
			}
		}
		if r.ForHop(f) {
			continue
		}
		b = appendField(b, f.Name, f.Value)
	}
	b = t.appendForwarded(b)
	switch {
	case t.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.Length >= 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, r.Length, 10)
		b = append(b, "\r\n"...)
	}
	if t.socket {
		b = append(b, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	}
	return append(b, "\r\n"...)
}

func appendField(b, name, value []byte) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// appendForwarded appends the X-Forwarded headers.
func (t *turn) appendForwarded(b []byte) []byte {
	b = append(b, "X-Forwarded-For: "...)
	if len(t.l.rules().TrustedProxies) == 0 {
		if a := t.head.remote.Addr(); a.IsValid() {
			b = a.AppendTo(b)
		} else {
			b = append(b, "unknown"...)
		}
		b = append(b, "\r\nX-Forwarded-Host: "...)
		b = append(b, t.head.host...)
		if t.head.secure {
			return append(b, "\r\nX-Forwarded-Proto: https\r\n"...)
		}
		return append(b, "\r\nX-Forwarded-Proto: http\r\n"...)
	}
	chain, host, proto := t.l.forwarded(&t.head)
	b = append(b, chain...)
	b = append(b, "\r\nX-Forwarded-Host: "...)
	b = append(b, host...)
	b = append(b, "\r\nX-Forwarded-Proto: "...)
	b = append(b, proto...)
	return append(b, "\r\n"...)
}

// appendRefusal appends an answer of our own. What refuse says of origins holds here too.
func appendRefusal(b []byte, f *refusal, origin string, noBody, end, old bool) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(f.status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(f.status)...)
	b = append(b, "\r\nContent-Type: "...)
	b = append(b, f.contentType...)
	b = append(b, "\r\nCache-Control: no-store\r\n"...)
	if origin != "" {
		b = append(b, "Access-Control-Allow-Origin: "...)
		b = append(b, origin...)
		b = append(b, "\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n"...)
	}
	if f.status == http.StatusServiceUnavailable {
		b = append(b, "Retry-After: 1\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(f.body)), 10)
	b = append(b, "\r\n"...)
	b = appendConnection(b, end, old)
	b = append(b, "\r\n"...)
	if !noBody {
		b = append(b, f.body...)
	}
	return b
}

func appendConnection(b []byte, end, old bool) []byte {
	switch {
	case end:
		return append(b, "Connection: close\r\n"...)
	case old:
		return append(b, "Connection: keep-alive\r\n"...)
	}
	return b
}
