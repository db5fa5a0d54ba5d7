package cluster

import "sync"

// A queue holds what waits, up to a number of bytes. One goroutine takes.
type queue[T any] struct {
	limit int64
	wake  chan struct{} // holds one token while there may be something to take

	mu     sync.Mutex
	items  []T
	bytes  int64
	closed bool
}

func newQueue[T any](limit int64) *queue[T] {
	return &queue[T]{limit: limit, wake: make(chan struct{}, 1)}
}

// put adds v, unless the queue is closed, or holds something and would grow over its
// limit: one item of any size always fits. What has no size is never refused.
func (q *queue[T]) put(v T, size int64) bool {
	q.mu.Lock()
	ok := !q.closed && (size == 0 || q.bytes == 0 || q.bytes+size <= q.limit)
	if ok {
		q.items = append(q.items, v)
		q.bytes += size
	}
	q.mu.Unlock()
	if ok {
		q.signal()
	}
	return ok
}

// last is put of what has no size and takes the place of what waits last, if that is alike: so there are never more of
// it than of what has a size, however many come while the queue is full.
func (q *queue[T]) last(v T, alike func(*T) bool) {
	q.mu.Lock()
	if n := len(q.items); n > 0 && alike(&q.items[n-1]) {
		q.items[n-1] = v
		q.mu.Unlock()
		return
	}
	q.mu.Unlock()
	q.put(v, 0)
}

func (q *queue[T]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits for items and returns all there are, using buf for the next ones. It
// returns nil once the queue is closed. Each item's bytes count until they are released.
func (q *queue[T]) take(buf []T) []T {
	for {
		q.mu.Lock()
		items, closed := q.items, q.closed
		if len(items) > 0 {
			q.items = buf[:0]
		}
		q.mu.Unlock()
		if closed {
			return nil
		}
		if len(items) > 0 {
			return items
		}
		<-q.wake
	}
}

func (q *queue[T]) release(size int64) {
	q.mu.Lock()
	q.bytes -= size
	q.mu.Unlock()
}

func (q *queue[T]) size() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// close makes take return nil and put refuse. What still waits is forgotten.
func (q *queue[T]) close() {
	q.mu.Lock()
	q.closed, q.items = true, nil
	q.mu.Unlock()
	q.signal()
}
