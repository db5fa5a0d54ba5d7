package pgbus

import (
	"context"
	"sync"
)

const (
	lotsAtOnce = 2
	lotMost    = 256
)

// A gather has what many callers want done together: what comes while others are under way is in the next lot. So
// a thousand who come at once cost some statements, and not a thousand transactions.
type gather[T any] struct {
	log     *Log
	perform func(ctx context.Context, lot []*T) error // sets what was found out in the members of lot

	mu      sync.Mutex
	waiting []*wanted[T]
	lots    int // under way
}

type wanted[T any] struct {
	v    *T
	done chan error // holds one
}

// do has v done, and waits for that. Where ctx ends while it is under way, it may be done, and v must not be used.
func (g *gather[T]) do(ctx context.Context, v *T) error {
	w := &wanted[T]{v, make(chan error, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	more := g.lots < lotsAtOnce
	if more {
		g.lots++
	}
	g.mu.Unlock()
	if more && !g.log.begin(g.run) {
		g.mu.Lock()
		g.lots--
		g.mu.Unlock()
		return ErrClosed
	}
	select {
	case err := <-w.done:
		return err
	case <-g.log.ctx.Done():
		return ErrClosed
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, x := range g.waiting {
		if x == w {
			g.waiting = append(g.waiting[:i:i], g.waiting[i+1:]...)
			break
		}
	}
	return context.Cause(ctx)
}

// run does one lot after the other, until nothing waits.
func (g *gather[T]) run() {
	for {
		g.mu.Lock()
		n := min(len(g.waiting), lotMost)
		lot := g.waiting[:n:n]
		if g.waiting = g.waiting[n:]; n == 0 {
			g.waiting = nil
			g.lots--
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		vs := make([]*T, n)
		for i, w := range lot {
			vs[i] = w.v
		}
		ctx, cancel := context.WithTimeout(g.log.ctx, g.log.o.Timeout)
		err := g.perform(ctx, vs)
		if code(err) == deadlockDetected { // with statements that do not lock in our order: those of a trim
			err = g.perform(ctx, vs)
		}
		cancel()
		for _, w := range lot {
			w.done <- err
		}
	}
}

// begin calls f in a goroutine of the log. It reports false where that is closed.
func (l *Log) begin(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.tasks.Go(f)
	return true
}
