package sticky

import (
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// linger is how long the second half of a WebSocket connection lives after the first has ended.
const linger = 5 * time.Second

// tunnel answers a request for a WebSocket: it asks a node for one, and when that agrees, takes
// the connection from net/http and copies both ways. The request and its goroutine
// are over then; what stays are two connections and two small goroutines without buffers.
func (c *call) tunnel(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		c.turnAway(w, r, bodyOfOpen)
		return
	}
	out := c.outgoing(r)
	for {
		o, err := c.ask(out)
		if err == nil {
			c.carry(w, r, o)
			return
		}
		c.blame(err)
		if c.ctx.Err() == nil && c.kind == handshake && lost(err) && c.next() {
			continue
		}
		c.l.fail(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)), err)
		return
	}
}

// outgoing makes the handshake that goes to a node.
func (c *call) outgoing(r *http.Request) *http.Request {
	h := r.Header.Clone()
	dropHopByHop(h)
	c.l.forward(&c.head, h)
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", "websocket")
	u := *r.URL
	u.Scheme, u.Host = "http", r.Host
	return &http.Request{Method: http.MethodGet, URL: &u, Host: r.Host, Header: h, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
}

// An offer is a node's answer to a handshake.
type offer struct {
	c    net.Conn
	br   *bufio.Reader
	lim  *io.LimitedReader // below br
	resp *http.Response
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 2<<10) }}

// free gives the reader back. What it holds is lost.
func (o *offer) free() {
	o.br.Reset(nil)
	readers.Put(o.br)
}

// ask sends the handshake to the node of c and reads the header of its answer.
func (c *call) ask(out *http.Request) (_ *offer, err error) {
	b, l := c.b, c.l
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	if !c.board(func(_ uint64, cause error) { cancel(cause) }, 0) {
		return nil, errDown
	}
	ctx, stop := context.WithTimeoutCause(ctx, l.o.UpgradeTimeout, errors.New("no answer to the WebSocket handshake"))
	defer stop()
	conn, err := b.dial(ctx, "tcp", b.url.Host)
	if err != nil {
		return nil, causeOr(ctx, c.ctx, err)
	}
	// Whatever ends ctx ends the exchange; the tunnel then begins without a deadline.
	socket := conn // conn changes
	quit := context.AfterFunc(ctx, func() { socket.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !quit() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			err = causeOr(ctx, c.ctx, err)
			conn.Close()
		}
	}()
	if b.url.Scheme == "https" {
		t := tls.Client(conn, b.tlsConfig())
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, &dialError{err}
		}
		conn = t
	}
	if err := out.Write(conn); err != nil {
		return nil, err
	}
	o := &offer{c: conn, lim: &io.LimitedReader{R: conn, N: maxHead}}
	o.br = readers.Get().(*bufio.Reader)
	o.br.Reset(o.lim)
	o.resp, err = http.ReadResponse(o.br, out)
	if err != nil {
		if o.lim.N <= 0 {
			err = fmt.Errorf("the header of the answer is longer than %d bytes", maxHead)
		}
		o.free()
		return nil, err
	}
	o.lim.N = math.MaxInt64
	return o, nil
}

// causeOr returns why ctx ended where that was not the client's ctx, else err.
func causeOr(ctx, client context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && client.Err() == nil {
		return cause
	}
	return err
}

// carry brings the answer to the client.
func (c *call) carry(w http.ResponseWriter, r *http.Request, o *offer) {
	defer o.free()
	if c.kind == handshake {
		c.l.learn(c.b, o.resp.Header["Set-Cookie"])
	}
	if c.cookie != "" {
		o.resp.Header.Add("Set-Cookie", c.cookie)
	}
	if o.resp.StatusCode >= http.StatusOK {
		c.decline(w, o)
		return
	}
	if o.resp.StatusCode != http.StatusSwitchingProtocols || !hasToken(o.resp.Header["Upgrade"], "websocket") || !hasToken(o.resp.Header["Connection"], "upgrade") ||
		o.resp.Header.Get("Sec-Websocket-Accept") != accept(r.Header.Get("Sec-Websocket-Key")) {
		o.c.Close()
		err := errors.New("an improper answer to the WebSocket handshake")
		c.b.failed(err)
		c.turnAway(w, r, badAnswer)
		return
	}
	c.answers(o.resp.StatusCode)
	if t, ok := parseTag(o.resp.Header.Get(tagHeader)); ok {
		c.b.learnTag(t)
	}
	client, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		o.c.Close()
		http.Error(w, "WebSockets need HTTP/1.1 and an http.ResponseWriter that can be hijacked", http.StatusInternalServerError)
		return
	}
	client.SetDeadline(time.Time{})
	t := &tunnel{l: c.l, b: c.b, client: client, node: o.c}

	dropHopByHop(o.resp.Header)
	o.resp.Header.Set("Connection", "Upgrade")
	o.resp.Header.Set("Upgrade", "websocket")
	client.SetWriteDeadline(time.Now().Add(c.l.o.UpgradeTimeout))
	fmt.Fprint(rw.Writer, "HTTP/1.1 101 Switching Protocols\r\n")
	o.resp.Header.Write(rw.Writer)
	rw.Writer.WriteString("\r\n")
	early, _ := o.br.Peek(o.br.Buffered())
	rw.Writer.Write(early)
	err = rw.Writer.Flush()
	if early, _ := rw.Reader.Peek(rw.Reader.Buffered()); err == nil && len(early) > 0 {
		o.c.SetWriteDeadline(time.Now().Add(c.l.o.UpgradeTimeout))
		_, err = o.c.Write(early)
	}
	client.SetWriteDeadline(time.Time{})
	o.c.SetWriteDeadline(time.Time{})
	if err != nil || !c.hand(t) {
		t.close()
		return
	}
	t.start()
}

// hand gives what c holds of its node and session to t.
func (c *call) hand(t *tunnel) bool {
	f := &flight{cut: func(uint64, error) { t.cut() }}
	if !c.b.enter(f) {
		return false
	}
	c.leave()
	t.flight = f
	if c.kind == session && c.e == nil {
		c.e = c.l.table.add(c.id, c.b)
	}
	t.e, c.e = c.e, nil
	c.b.sockets.Add(1)
	switch {
	case t.e != nil:
		c.l.table.socket(t.e, 1)
	case c.kind != plain:
		t.own = 1
		c.b.sessions.Add(1)
	}
	return true
}

// decline brings the client an answer that is not 101.
func (c *call) decline(w http.ResponseWriter, o *offer) {
	defer o.c.Close()
	defer o.resp.Body.Close()
	c.answers(o.resp.StatusCode)
	if o.resp.StatusCode == http.StatusBadRequest && c.e != nil {
		c.l.table.ended(c.e)
	}
	stop := context.AfterFunc(c.ctx, func() { o.c.Close() })
	defer stop()
	c.limit((*http.ResponseController).SetWriteDeadline, c.l.o.UpgradeTimeout)
	o.c.SetDeadline(time.Now().Add(c.l.o.UpgradeTimeout))
	dropHopByHop(o.resp.Header)
	for name, values := range o.resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(o.resp.StatusCode)
	buf := buffers.Get()
	defer buffers.Put(buf)
	c.trail.sent, _ = io.CopyBuffer(w, o.resp.Body, buf)
}

// accept returns what a server has to answer to key.
// See https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// A tunnel is a WebSocket connection through the balancer.
type tunnel struct {
	l            *Balancer
	b            *backend
	flight       *flight
	e            *entry // pinned; nil where the session was opened by WebSocket
	own          int64  // sessions that it counts as: such a one
	client, node net.Conn
	f            *front // counts the client; nil where it does not
	seated       netip.Addr
	left         atomic.Int32 // halves that still run
	used         atomic.Int64 // when something came last, in nanoseconds
	pipe         pipe         // in a loop, instead of two goroutines
}

// start begins to copy. A request of the balancer is still counted as running.
func (t *tunnel) start() {
	t.l.running.Add(1)
	if t.l.front.loops.add(t) {
		return
	}
	t.left.Store(2)
	t.l.running.Add(1)
	go t.copy(t.node, t.client)
	go t.copy(t.client, t.node)
}

// copy runs one half.
func (t *tunnel) copy(dst, src net.Conn) {
	defer t.l.running.Done()
	err := pump(dst, src, t.l.o.StallTimeout, t.idle())
	if t.left.Add(-1) > 0 {
		half, ok := dst.(interface{ CloseWrite() error })
		if err != nil || !ok || half.CloseWrite() != nil {
			t.close() // makes the other half end
			return
		}
		until := time.Now().Add(linger)
		dst.SetReadDeadline(until)
		src.SetWriteDeadline(until)
		return
	}
	t.close()
	t.end()
}

// end gives back what the tunnel holds, when both connections are closed.
func (t *tunnel) end() {
	t.b.leave(t.flight)
	t.b.sockets.Add(-1)
	t.b.sessions.Add(-t.own)
	t.vacate()
	if t.e == nil {
		return
	}
	t.l.table.socket(t.e, -1)
	t.l.table.ended(t.e) // or goes on by polling, if this was an upgrade that failed
	t.l.table.unpin(t.e)
}

func (t *tunnel) vacate() {
	if t.f != nil {
		t.f.vacate(t.seated)
	}
}

// cut ends the tunnel from outside. It does not wait.
func (t *tunnel) cut() { t.l.front.loops.cut(t) }

// close cuts both connections. It does not wait.
func (t *tunnel) close() {
	closeNow(t.client)
	closeNow(t.node)
}

// closeNow is Close without the last words of TLS, which can take seconds.
func closeNow(c net.Conn) {
	switch t := c.(type) {
	case *tls.Conn:
		c = t.NetConn()
	case *secureGuest:
		closeNow(t.Conn)
	}
	c.Close()
}

// idle returns how pump is to look after a tunnel that carries nothing.
func (t *tunnel) idle() *idleness {
	d := t.l.o.Front.WebSocketIdle
	if d <= 0 {
		return nil
	}
	return &idleness{d: d, used: &t.used, left: &t.left}
}

// An idleness ends a pump when nothing was carried either way for some time.
type idleness struct {
	d    time.Duration
	used *atomic.Int64
	left *atomic.Int32 // halves that still run; the last has a deadline of its own
}

// mark says that something was carried now.
func (i *idleness) mark() {
	if i != nil {
		i.used.Store(time.Now().UnixNano())
	}
}

// over reports whether err, of a read from c, says that it was for too long.
func (i *idleness) over(c net.Conn, err error) bool {
	if i == nil || !errors.Is(err, os.ErrDeadlineExceeded) || i.left.Load() < 2 || time.Since(time.Unix(0, i.used.Load())) >= i.d {
		return true
	}
	i.wait(c)
	return false
}

// wait lets the next reads from c end some time.
func (i *idleness) wait(c net.Conn) {
	if i != nil {
		c.SetReadDeadline(time.Now().Add(i.d))
	}
}
