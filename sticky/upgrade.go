package sticky

import (
	"errors"
	"net/http"
	"time"

	"github.com/atollhq/atoll/internal/http1"
)

var errHandshake = errors.New("an improper answer to the WebSocket handshake")

// open answers a request for a WebSocket: it asks a node for one, and when that agrees, the connections become a tunnel.
func (t *turn) open() {
	for {
		u, err := t.handshake()
		if err == nil {
			return
		}
		if u != nil {
			u.Close()
		}
		t.blame(err)
		if !t.began && !t.fault() && t.kind == handshake && lost(err) && t.call.next() {
			continue
		}
		f := t.trouble(err)
		if t.fault() {
			t.keep = false
			return
		}
		t.refuse(&f)
		return
	}
}

// handshake tries it with the node of t. What it returns with an error is to be closed.
func (t *turn) handshake() (*upstream, error) {
	if !t.depart() {
		t.land()
		return nil, errDown
	}
	u, buf, n, err := t.ask(t.l.o.UpgradeTimeout)
	if err == nil {
		in := &t.in
		*in = inflow{u: u, buf: buf, w: n}
		defer in.put()
		err = t.finalHead(in)
	}
	if err == nil {
		u.SetReadDeadline(time.Time{})
		if t.ans.Status != http.StatusSwitchingProtocols {
			return t.decline(u)
		}
		err = t.agree()
	}
	if cause := t.land(); cause != nil {
		err = cause
	}
	if err == nil {
		return u, t.connect(u)
	}
	t.leave()
	if t.away.Load() {
		err = errAway
	}
	return u, err
}

// decline brings the client an answer that is not 101. What the client may have sent behind its request
// was meant for a WebSocket, and must never be read as a request.
func (t *turn) decline(u *upstream) (*upstream, error) {
	t.keep = t.keep && t.c.r == t.c.w
	if t.ans.Status == http.StatusBadRequest && t.e != nil {
		t.l.table.ended(t.e)
	}
	err := t.relay(&t.in)
	if cause := t.land(); err != nil && cause != nil {
		err = cause
	}
	t.leave()
	if err == nil && u.kept {
		t.b.pool.put(u)
		return nil, nil
	}
	u.Close()
	return nil, err
}

// agree checks an answer 101.
func (t *turn) agree() error {
	a := &t.ans
	if t.b == nil || !a.Upgrade || !a.HasToken(http1.Upgrade, "websocket") || string(a.Get(http1.SecWebSocketAccept)) != accept(t.key) {
		return errHandshake
	}
	if t.kind == handshake {
		t.l.learn(t.b, a.Values("Set-Cookie"))
	}
	t.answers(a.Status)
	if tag, ok := parseTag(string(a.Get(http1.AtollNode))); ok {
		t.b.learnTag(tag)
	}
	return nil
}

// connect makes a tunnel of the connections.
func (t *turn) connect(u *upstream) error {
	c, in := t.c, &t.in
	out := outs.Get()
	defer outs.Put(out)
	out.b = t.appendAnswer(out.b)
	out.b = append(out.b, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"...)
	out.b = append(out.b, in.buf[in.r:in.w]...)
	t.began = true
	if err := c.write(out.b, t.l.o.UpgradeTimeout); err != nil {
		t.away.Store(true)
		return errAway
	}
	if c.r < c.w {
		if err := u.write(c.buf[c.r:c.w], t.l.o.UpgradeTimeout); err != nil {
			return err
		}
		c.r = c.w
	}
	c.leave()
	n := &tunnel{l: t.l, b: t.b, client: c.Conn, node: u.Conn}
	if !c.below {
		n.f, n.seated = c.f, c.seated
	}
	if !t.hand(n) {
		n.close()
		n.vacate()
		return nil
	}
	n.start()
	return nil
}
