package atoll

import "sync"

// A mailbox takes values without blocking whoever brings them.
type mailbox[T any] struct {
	mu     sync.Mutex
	items  []T
	signal chan struct{}
}

func (m *mailbox[T]) put(v T) {
	m.mu.Lock()
	m.items = append(m.items, v)
	m.mu.Unlock()
	m.wake()
}

// wake has whoever waits for full look again.
func (m *mailbox[T]) wake() {
	select {
	case m.full() <- struct{}{}:
	default:
	}
}

// full is received from when there may be something to take.
func (m *mailbox[T]) full() chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.signal == nil {
		m.signal = make(chan struct{}, 1)
	}
	return m.signal
}

// take returns what is there.
func (m *mailbox[T]) take() []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	items := m.items
	m.items = nil
	return items
}
