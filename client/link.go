package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/atollhq/atoll/protocol"
)

// A link is what the sockets of one client share: one session after the other. One
// goroutine, serve, opens them, reads from them, and pauses in between; it lives
// while a socket wants to be connected.
type link struct {
	cfg *config

	mu      sync.Mutex
	sockets map[string]*Socket // by namespace
	active  map[*Socket]bool   // those that want to be connected
	sess    *session           // while one is open
	stop    context.CancelFunc // ends a pause, or an attempt to open; nil while serve does not run
	ended   chan struct{}      // closed when serve has ended
}

// want makes s take part in the session of the moment, or in the next.
func (l *link) want(s *Socket) {
	l.mu.Lock()
	l.active[s] = true
	sess := l.sess
	if l.stop == nil {
		ctx, cancel := context.WithCancel(context.Background())
		l.stop, l.ended = cancel, make(chan struct{})
		go l.serve(ctx, l.ended) // waited for by idle
	}
	l.mu.Unlock()
	if sess != nil {
		s.enter(sess)
	}
}

// release takes s out. The session ends, behind what waits in it, when nobody is left.
func (l *link) release(s *Socket) {
	l.mu.Lock()
	delete(l.active, s)
	var sess *session
	if len(l.active) == 0 {
		if sess = l.sess; sess == nil && l.stop != nil {
			l.stop()
		}
	}
	l.mu.Unlock()
	if sess != nil {
		sess.shutdown()
	}
}

// forget removes a socket that is closed for good, and waits until nothing runs if it was the last.
func (l *link) forget(s *Socket) {
	l.mu.Lock()
	if l.sockets[s.nsp] == s {
		delete(l.sockets, s.nsp)
	}
	last := len(l.sockets) == 0
	ended := l.ended
	l.mu.Unlock()
	if !last {
		return
	}
	if ended != nil {
		<-ended
	}
	if l.cfg.own != nil {
		l.cfg.own.CloseIdleConnections()
	}
}

// list returns the sockets that want to be connected.
func (l *link) list() []*Socket {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*Socket, 0, len(l.active))
	for s := range l.active {
		list = append(list, s)
	}
	return list
}

// serve connects, reads, and connects again, until no socket wants that any more.
func (l *link) serve(ctx context.Context, ended chan struct{}) {
	defer close(ended)
	opened := false // once, since serve began
	failures, pauses := 0, 0
	for {
		gone := false // nobody wanted to be connected
		sess, err := open(ctx, l.cfg)
		switch {
		case err == nil:
			opened, failures, pauses = true, 0, 0
			cause := l.during(sess)
			for _, s := range l.list() {
				s.lost(sess, cause)
			}
			gone = cause.Reason == ReasonClientDisconnect
			if l.cfg.DisableReconnect && !gone {
				l.fail(cause)
			}
		case ctx.Err() != nil:
			gone = true
		default:
			failures++
			switch {
			case !opened && !l.cfg.RetryConnect, opened && l.cfg.DisableReconnect:
				l.fail(err)
			case l.cfg.ReconnectAttempts > 0 && failures >= l.cfg.ReconnectAttempts:
				l.fail(errors.Join(ErrGaveUp, err))
			default:
				for _, s := range l.list() {
					s.failed(err)
				}
			}
		}
		if ctx = l.next(ctx); ctx == nil {
			return
		}
		if gone {
			continue // somebody came back
		}
		pause(ctx, l.cfg.backoff(pauses))
		pauses++
		if ctx = l.next(ctx); ctx == nil {
			return
		}
	}
}

// during connects the sockets and reads until the session ends.
func (l *link) during(sess *session) *DisconnectError {
	d := &protocol.Decoder{MaxAttachments: l.cfg.MaxAttachments, MaxBytes: l.cfg.MaxRead}
	sess.message = func(data []byte, binary bool) error {
		decode := d.Text
		if binary {
			decode = d.Binary
		}
		p, ok, err := decode(data)
		if err != nil || !ok {
			return err
		}
		l.mu.Lock()
		s := l.sockets[p.Namespace]
		l.mu.Unlock()
		if s == nil {
			return nil // closed meanwhile
		}
		return s.packet(sess, &p)
	}
	l.mu.Lock()
	l.sess = sess
	nobody := len(l.active) == 0
	l.mu.Unlock()
	if nobody {
		sess.shutdown()
	}
	for _, s := range l.list() {
		s.enter(sess)
	}
	cause := sess.run()
	if l.cfg.own != nil {
		l.cfg.own.CloseIdleConnections() // they may be as dead as the one that was in use
	}
	l.mu.Lock()
	l.sess = nil
	l.mu.Unlock()
	return cause
}

// next returns the context to go on with, or nil where nobody wants that: then serve ends.
func (l *link) next(ctx context.Context) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.active) == 0 {
		l.stop()
		l.stop = nil
		return nil
	}
	if ctx.Err() != nil { // everybody had gone, and somebody came back
		ctx, l.stop = context.WithCancel(context.Background())
	}
	return ctx
}

// fail ends all sockets: nothing more is tried.
func (l *link) fail(err error) {
	for _, s := range l.list() {
		l.release(s)
		s.gaveUp(err)
	}
}

// backoff returns the next pause, after so many since the last success.
func (c *config) backoff(pauses int) time.Duration {
	d := float64(c.ReconnectDelay) * float64(int64(1)<<min(pauses, 32))
	d = min(d, float64(c.ReconnectDelayMax))
	if c.Jitter > 0 {
		d += d * c.Jitter * (2*rand.Float64() - 1)
	}
	return time.Duration(min(d, float64(c.ReconnectDelayMax)))
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
