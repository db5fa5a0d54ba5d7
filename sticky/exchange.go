package sticky

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

var (
	errAway     = errors.New("the client has gone")
	errAnswer   = errors.New("the answer makes no sense")
	errNoAnswer = errors.New("no answer to the WebSocket handshake")
)

// cut ends the flight with the given ticket, if it is still under way.
func (t *turn) cut(ticket uint64, cause error) {
	t.lock.Lock()
	defer t.lock.Unlock()
	if !t.flying || t.ticket != ticket {
		return
	}
	t.cause = cause
	if t.up != nil {
		closeNow(t.up.Conn)
	}
	if t.dialed != nil {
		t.dialed()
	}
}

// leaves is called when the client has gone while the answer is awaited.
func (t *turn) leaves() {
	t.away.Store(true)
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.up != nil {
		closeNow(t.up.Conn)
	}
	if t.dialed != nil {
		t.dialed()
	}
}

// depart begins an attempt.
func (t *turn) depart() bool {
	t.lock.Lock()
	t.ticket++
	t.flying, t.cause = true, nil
	ticket := t.ticket
	t.lock.Unlock()
	return t.board(t.cutFn, ticket)
}

// land ends an attempt: from now on nobody closes its connection but us. It returns why it was cut.
func (t *turn) land() error {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.flying, t.up, t.dialed = false, nil, nil
	return t.cause
}

// attach says which connection cut has to close.
func (t *turn) attach(u *upstream) error {
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.cause != nil {
		return t.cause
	}
	t.up = u
	return nil
}

// obtain returns a connection to the node of t. With fresh, it is a new one.
func (t *turn) obtain(fresh bool) (*upstream, error) {
	if !fresh {
		if u := t.b.pool.get(); u != nil {
			if err := t.attach(u); err != nil {
				u.Close()
				return nil, err
			}
			return u, nil
		}
	}
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	t.lock.Lock()
	cause := t.cause
	t.dialed = cancel
	t.lock.Unlock()
	if cause != nil {
		return nil, cause
	}
	u, err := t.b.connect(ctx)
	t.lock.Lock()
	t.dialed = nil
	t.lock.Unlock()
	if err != nil {
		return nil, err
	}
	if err := t.attach(u); err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

// exchange carries the request and the answer.
func (t *turn) exchange() {
	for {
		err := t.attempt()
		if err == nil {
			return
		}
		t.blame(err)
		if !t.began && !t.body() && t.repeat(err) {
			continue
		}
		f := t.trouble(err)
		if t.fault() && t.bad == nil {
			t.keep = false
			return // nobody reads an answer
		}
		t.refuse(&f)
		return
	}
}

// body reports whether the request has a body.
func (t *turn) body() bool { return t.length > 0 || t.chunked }

// attempt tries it with the node of t. An error says that the client has got no complete answer.
func (t *turn) attempt() error {
	if !t.depart() {
		t.land()
		return errDown
	}
	b := t.b
	b.active.Add(1)
	defer b.active.Add(-1)
	u, buf, n, err := t.ask(0)
	if err == nil {
		if t.kind == session && t.upload == nil {
			t.putOut() // it will not be sent again
		}
		err = t.answer(u, buf, n)
	}
	t.endUpload()
	cause := t.land()
	t.leave()
	if u != nil && (err != nil || cause != nil || !u.kept) {
		u.Close()
	} else if u != nil {
		b.pool.put(u)
	}
	switch {
	case err == nil:
		return nil
	case t.away.Load():
		return errAway
	case cause != nil:
		return cause
	}
	return err
}

// ask sends the request and waits for the first bytes of the answer, which are in a buffer for the caller to put back.
func (t *turn) ask(limit time.Duration) (u *upstream, buf []byte, n int, err error) {
	fresh := false
	for {
		u, err = t.obtain(fresh)
		if err != nil {
			return nil, nil, 0, err
		}
		if limit > 0 {
			u.SetReadDeadline(time.Now().Add(limit))
		}
		if t.unread {
			buf, n, err = t.askLong(u)
		} else {
			buf, n, err = t.askShort(u)
		}
		if err == nil {
			return u, buf, n, nil
		}
		if limit > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			err = errNoAnswer
		}
		if err == errStale {
			u.Close()
			continue
		}
		// The node may have closed a kept connection just when we used it. What asks only may be asked again.
		if u.kept && !fresh && t.out != nil && !t.body() && safe(t.head.method) && t.pending() && !errors.Is(err, errNoAnswer) {
			u.Close()
			fresh = true
			continue
		}
		return u, nil, 0, err
	}
}

// askShort is ask for a request that is all here.
func (t *turn) askShort(u *upstream) (buf []byte, n int, err error) {
	t.lock.Lock()
	t.asked, t.nudged = !t.socket, false
	t.lock.Unlock()
	t.c.f.vigil.begin(t)
	defer t.c.f.vigil.end(t)
	buf, n, err = u.ask(t.out.b, u.kept, t.l.o.StallTimeout)
	t.lock.Lock()
	t.asked = false
	nudged := t.nudged
	t.lock.Unlock()
	if !nudged {
		return buf, n, err
	}
	u.SetReadDeadline(time.Time{})
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return buf, n, err
	}
	if u.unsent() {
		return u.ask(t.out.b, false, t.l.o.StallTimeout)
	}
	// It takes long, and will not be sent again.
	if t.kind == session {
		t.putOut()
		t.rest()
	}
	return u.await()
}

// rest gives the buffer of the client back, if there is nothing more in it. The header of the request is lost with it.
func (t *turn) rest() {
	if t.c.r == t.c.w {
		t.req.Fields = t.req.Fields[:0]
		t.c.drop()
	}
}

// nudge tells t that the answer takes long, so that it holds nothing meanwhile that it can do without.
func (t *turn) nudge() {
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.asked && t.up != nil {
		t.nudged = true
		t.up.SetReadDeadline(longAgo)
	}
}

// pending reports whether t was neither cut nor left by its client.
func (t *turn) pending() bool {
	t.lock.Lock()
	defer t.lock.Unlock()
	return t.cause == nil && !t.away.Load()
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// askLong is ask for a request whose body is not all here.
func (t *turn) askLong(u *upstream) (buf []byte, n int, err error) {
	if u.kept && !u.quiet() {
		return nil, 0, errStale
	}
	if err := u.write(t.out.b, t.l.o.StallTimeout); err != nil {
		return nil, 0, err
	}
	t.beginUpload(u)
	return u.await()
}

// wait waits for more of the answer.
func (t *turn) wait(u *upstream) (buf []byte, n int, err error) {
	if t.upload == nil {
		t.c.f.vigil.begin(t)
		defer t.c.f.vigil.end(t)
	}
	buf, n, err = u.await()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return buf, n, err
}
