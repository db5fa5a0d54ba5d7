package forward

import "context"

// A Way is what a forwarded request came by, and what its answer goes by.
type Way line

// WayOf returns the way by which the request with the context ctx was forwarded; nil where it was not.
func WayOf(ctx context.Context) *Way {
	if f, ok := ctx.Value(forwardedKey{}).(*forwarded); ok {
		return (*Way)(f.line)
	}
	return nil
}

// Leaving is closed when the node at the other end is about to go: what waits there should be answered.
func (w *Way) Leaving() <-chan struct{} { return w.leaving }

// Broken reports whether the way has ended, so that no answer arrives any more. It may be called at any time.
func (w *Way) Broken() bool { return (*line)(w).isDead() }
