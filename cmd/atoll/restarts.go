package main

import (
	"log/slog"
	"sync"
)

// restarts are made one at a time. Those that are asked for while one goes on are made up for by one more behind it: what
// it started with may be older than what was asked for.
type restarts struct {
	do func()

	mu      sync.Mutex
	running bool
	again   bool
	work    sync.WaitGroup
}

// ask has a restart made, now or behind the one that goes on.
func (r *restarts) ask() {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.again:
		slog.Info("the processes are being replaced, and will be once more: that is enough")
	case r.running:
		r.again = true
		slog.Info("the processes are being replaced: they will be once more, behind that")
	default:
		r.running = true
		r.work.Go(r.run)
	}
}

func (r *restarts) run() {
	for more := true; more; {
		r.do()
		r.mu.Lock()
		more, r.again = r.again, false
		r.running = more
		r.mu.Unlock()
	}
}

// wait waits until none goes on. Nobody asks for one any more.
func (r *restarts) wait() { r.work.Wait() }
