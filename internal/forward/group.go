package forward

import "sync"

// A group counts goroutines. Unlike with a sync.WaitGroup, new ones may start while somebody waits.
type group struct {
	mu     sync.Mutex
	n      int
	closed bool
	none   chan struct{} // closed when n falls to 0; nil: nobody waits
}

// Go runs f in a goroutine, and reports false, without running it, if the group is closed.
func (g *group) Go(f func()) bool {
	if !g.enter() {
		return false
	}
	go func() {
		defer g.done()
		f()
	}()
	return true
}

// enter counts a goroutine that the caller starts, and that calls done at its end. It reports false if the group is closed.
func (g *group) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.n++
	return true
}

func (g *group) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 && g.none != nil {
		close(g.none)
		g.none = nil
	}
}

// close lets no goroutine begin any more, and waits for those that run.
func (g *group) close() {
	g.mu.Lock()
	g.closed = true
	var none chan struct{}
	if g.n > 0 {
		if g.none == nil {
			g.none = make(chan struct{})
		}
		none = g.none
	}
	g.mu.Unlock()
	if none != nil {
		<-none
	}
}
