package atoll

import (
	"context"
	"sync"
)

// A tracker counts the goroutines that a server starts, and the sockets that have ended but
// have handlers to run. Unlike a sync.WaitGroup it lets new ones come while somebody waits:
// a handler that is waited for may end a socket.
type tracker struct {
	mu   sync.Mutex
	n    int
	zero chan struct{} // closed when n is 0 again; made by whoever waits
}

// Go runs f on a goroutine of its own.
func (t *tracker) Go(f func()) {
	t.begin()
	go func() {
		defer t.done()
		f()
	}()
}

func (t *tracker) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
}

func (t *tracker) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n--
	if t.n == 0 && t.zero != nil {
		close(t.zero)
		t.zero = nil
	}
}

// Wait returns when nothing is left, or when ctx ends.
func (t *tracker) Wait(ctx context.Context) error {
	t.mu.Lock()
	if t.n == 0 {
		t.mu.Unlock()
		return nil
	}
	if t.zero == nil {
		t.zero = make(chan struct{})
	}
	zero := t.zero
	t.mu.Unlock()
	select {
	case <-zero:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// goWait runs f on a goroutine of the server and returns what waits for its end.
func (srv *Server) goWait(f func()) (wait func()) {
	done := make(chan struct{})
	srv.work.Go(func() {
		defer close(done)
		f()
	})
	return func() { <-done }
}
