package demo

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// A memory holds the last messages, each once. Any number of goroutines may use it.
type memory struct {
	mu   sync.Mutex
	list []memo // by the time of arrival
}

type memo struct {
	Message
	came time.Time
}

// add remembers m. It reports false where it was known already.
func (m *memory) add(msg Message) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.list) - 1; i >= 0; i-- {
		if o := &m.list[i]; o.Tab == msg.Tab && o.Seq == msg.Seq {
			return false
		}
	}
	if len(m.list) == remembers {
		m.list = slices.Delete(m.list, 0, remembers/10)
	}
	m.list = append(m.list, memo{msg, time.Now()})
	return true
}

// last returns the last n messages, the oldest first; those of one sender in their order.
func (m *memory) last(n int) []Message {
	return m.since(time.Time{}, n)
}

// since returns the last n messages that came after t.
func (m *memory) since(t time.Time, n int) []Message {
	m.mu.Lock()
	list := make([]Message, 0, min(n, len(m.list)))
	for _, o := range m.list[max(0, len(m.list)-n):] {
		if o.came.After(t) {
			list = append(list, o.Message)
		}
	}
	m.mu.Unlock()
	slices.SortStableFunc(list, func(a, b Message) int {
		if a.Tab == b.Tab {
			return cmp.Compare(a.Seq, b.Seq)
		}
		return 0
	})
	slices.SortStableFunc(list, func(a, b Message) int { return cmp.Compare(a.At, b.At) })
	return list
}
