package sticky

import "sync"

// A memory is a bounded map that forgets what was not used for long. Any number of goroutines may use it. The
// zero value is not ready.
type memory[V any] struct {
	max int

	mu       sync.Mutex
	now, old map[string]V // each has at most max; what is used moves into now
}

func newMemory[V any](max int) *memory[V] {
	return &memory[V]{max: max, now: make(map[string]V)}
}

// get returns the value of key, or the zero value.
func (m *memory[V]) get(key string) V {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.now[key]
	if !ok {
		if v, ok = m.old[key]; ok {
			m.set(key, v)
		}
	}
	return v
}

func (m *memory[V]) put(key string, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(key, v)
}

// set is put with m.mu held.
func (m *memory[V]) set(key string, v V) {
	if _, ok := m.now[key]; !ok && len(m.now) >= m.max {
		m.now, m.old = make(map[string]V), m.now
	}
	m.now[key] = v
}
