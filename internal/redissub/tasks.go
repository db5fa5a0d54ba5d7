package redissub

import (
	"context"
	"sync"
	"time"
)

// Tasks own the goroutines of a bus. Any number of goroutines may use them.
type Tasks struct {
	ctx  context.Context
	stop context.CancelFunc

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// NewTasks returns Tasks that end with Close.
func NewTasks() *Tasks {
	t := &Tasks{}
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

// Context returns a context that ends with Stop or Close.
func (t *Tasks) Context() context.Context { return t.ctx }

// Closed reports whether Stop or Close was called.
func (t *Tasks) Closed() bool { return t.ctx.Err() != nil }

// Go starts f, which must return soon after the context has ended, unless Stop or Close was called. It reports whether
// it did.
func (t *Tasks) Go(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.wg.Go(f)
	}
	return !t.closed
}

// Stop ends the context; nothing is started any more.
func (t *Tasks) Stop() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.stop()
}

// Close is Stop, and waits for what was started. It may be called more than once, but not by what was started.
func (t *Tasks) Close() {
	t.Stop()
	t.wg.Wait()
}

// Sleep waits for d, or until Stop or Close is called.
func (t *Tasks) Sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
	}
}
