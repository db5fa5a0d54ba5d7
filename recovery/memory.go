package recovery

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// MemoryOptions are the settings of a Memory. A nil *MemoryOptions means all defaults.
type MemoryOptions struct {
	// MaxBytes bounds the log: its events, each counted with 256 bytes more. Older ones make
	// room for newer. If zero, 32 MiB.
	MaxBytes int64

	// MaxAge is how long an event is kept. If zero, 5 minutes.
	MaxAge time.Duration

	// MaxSessionBytes bounds the sessions, each counted with 512 bytes more. Create
	// and Update return ErrFull beyond it. If zero, 256 MiB.
	MaxSessionBytes int64
}

// Memory keeps sessions and a log of events in the memory of one node. Any number of goroutines may
// use it. Time that is up is noticed by the next call: it has no goroutine, and needs no Close.
type Memory struct {
	o MemoryOptions

	mu       sync.Mutex
	sessions map[string]*stored
	expiry   expiry
	bytes    int64 // in sessions
	revision uint64

	log memoryLog
}

var _ Sessions = (*Memory)(nil)

// NewMemory returns an empty Memory.
func NewMemory(o *MemoryOptions) *Memory {
	m := &Memory{sessions: make(map[string]*stored)}
	if o != nil {
		m.o = *o
	}
	if m.o.MaxBytes <= 0 {
		m.o.MaxBytes = 32 << 20
	}
	if m.o.MaxAge <= 0 {
		m.o.MaxAge = 5 * time.Minute
	}
	if m.o.MaxSessionBytes <= 0 {
		m.o.MaxSessionBytes = 256 << 20
	}
	m.log.init(m.o.MaxBytes, m.o.MaxAge)
	return m
}

// A stored session is in the map and in the heap.
type stored struct {
	Session
	until time.Time
	size  int64
	at    int // in the heap
}

// expiry is a heap of sessions, the one whose time is up first at its top.
type expiry []*stored

func (h expiry) Len() int           { return len(h) }
func (h expiry) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h expiry) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *expiry) Push(x any) {
	s := x.(*stored)
	s.at = len(*h)
	*h = append(*h, s)
}

func (h *expiry) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return s
}

func sizeOf(s *Session) int64 {
	const overhead = 512
	n := overhead + len(s.PID) + len(s.SID) + len(s.Namespace) + len(s.Data) + len(s.Offset) + len(s.Last) + len(s.Start)
	for _, r := range s.Rooms {
		n += 16 + len(r)
	}
	return int64(n)
}

// purge removes what has had its time. m.mu is held.
func (m *Memory) purge(now time.Time) {
	for len(m.expiry) > 0 && !m.expiry[0].until.After(now) {
		m.remove(m.expiry[0])
	}
}

// remove takes a session out. m.mu is held.
func (m *Memory) remove(s *stored) {
	heap.Remove(&m.expiry, s.at)
	delete(m.sessions, s.PID)
	m.bytes -= s.size
}

// put stores a copy of s in place of old, which may be nil. m.mu is held.
func (m *Memory) put(s *Session, old *stored, until time.Time) error {
	size := sizeOf(s)
	was := int64(0)
	if old != nil {
		was = old.size
	}
	if m.bytes-was+size > m.o.MaxSessionBytes {
		return fmt.Errorf("%w: MaxSessionBytes is %d", ErrFull, m.o.MaxSessionBytes)
	}
	if old != nil {
		m.remove(old)
	}
	m.revision++
	s.Revision = strconv.FormatUint(m.revision, 36)
	n := &stored{Session: *s, until: until, size: size}
	n.Rooms, n.Data = slices.Clone(s.Rooms), slices.Clone(s.Data)
	m.sessions[s.PID] = n
	m.bytes += size
	heap.Push(&m.expiry, n)
	return nil
}

// Create implements Sessions.
func (m *Memory) Create(_ context.Context, s *Session, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.purge(now)
	return m.put(s, m.sessions[s.PID], now.Add(ttl))
}

// Update implements Sessions.
func (m *Memory) Update(_ context.Context, ss []*Session, ttl time.Duration) (taken []*Session, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.purge(now)
	for _, s := range ss {
		old := m.sessions[s.PID]
		if old == nil || old.Revision != s.Revision {
			taken = append(taken, s)
			continue
		}
		if e := m.put(s, old, now.Add(ttl)); e != nil {
			err = e
		}
	}
	return taken, err
}

// Take implements Sessions.
func (m *Memory) Take(_ context.Context, pid string) (*Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.purge(time.Now())
	s := m.sessions[pid]
	if s == nil {
		return nil, ErrUnknown
	}
	m.remove(s)
	return &s.Session, nil
}

// Drop implements Sessions.
func (m *Memory) Drop(_ context.Context, s *Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.sessions[s.PID]; old != nil && old.Revision == s.Revision {
		m.remove(old)
	}
	return nil
}

// Len returns how many sessions are kept.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.purge(time.Now())
	return len(m.sessions)
}
