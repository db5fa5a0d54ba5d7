package recovery

import (
	"cmp"
	"fmt"
	"iter"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atollhq/atoll/cluster"
)

// A memoryLog is a list of events, the oldest first, whose numbers have no holes.
type memoryLog struct {
	life  string // tells the offsets of this log from those of others
	limit int64
	age   time.Duration

	mu      sync.Mutex
	entries []entry
	first   uint64 // number of entries[0]
	bytes   int64
}

type entry struct {
	op   *cluster.Op
	at   time.Time
	size int64
}

func (l *memoryLog) init(limit int64, age time.Duration) {
	l.life = strconv.FormatUint(rand.Uint64(), 36)
	l.limit, l.age, l.first = limit, age, 1
}

func opSize(op *cluster.Op) int64 {
	const overhead = 256
	n := overhead + len(op.Data)
	for _, a := range op.Attachments {
		n += len(a)
	}
	for _, r := range op.Rooms {
		n += 16 + len(r)
	}
	for _, r := range op.Except {
		n += 16 + len(r)
	}
	return int64(n)
}

// offset writes the number of an entry.
func (l *memoryLog) offset(number uint64) string {
	return l.life + "-" + strconv.FormatUint(number, 10)
}

// number reads what offset wrote.
func (l *memoryLog) number(offset string) (uint64, bool) {
	life, digits, ok := strings.Cut(offset, "-")
	if !ok || life != l.life || digits == "" || digits[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

// trim removes what is too old or too much. l.mu is held.
func (l *memoryLog) trim(now time.Time) {
	n := 0
	for n < len(l.entries) && (l.bytes > l.limit || now.Sub(l.entries[n].at) > l.age) {
		l.bytes -= l.entries[n].size
		l.entries[n] = entry{}
		n++
	}
	l.first += uint64(n)
	l.entries = l.entries[n:]
	if len(l.entries) == 0 {
		l.entries = nil
	}
}

// Append adds op, an Emit, to the log, and returns its offset, which it sets in op. op must not
// change afterwards.
func (m *Memory) Append(op *cluster.Op) (offset string) {
	l := &m.log
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	op.Offset = l.offset(l.first + uint64(len(l.entries)))
	e := entry{op, now, opSize(op)}
	l.entries = append(l.entries, e)
	l.bytes += e.size
	l.trim(now)
	return op.Offset
}

// Position returns the offset of the last event.
func (m *Memory) Position() string {
	l := &m.log
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.offset(l.first + uint64(len(l.entries)) - 1)
}

// Since yields the events of a namespace behind offset, in order, up to the last there was when the
// iteration began. Where some are no longer kept, or offset is not of this log, it yields an error that wraps
// cluster.ErrTrimmed, first.
func (m *Memory) Since(namespace, offset string) iter.Seq2[*cluster.Op, error] {
	return func(yield func(*cluster.Op, error) bool) {
		l := &m.log
		n, ok := l.number(offset)
		l.mu.Lock()
		l.trim(time.Now())
		end := l.first + uint64(len(l.entries))
		var ops []*cluster.Op
		if ok = ok && n+1 >= l.first && n < end; ok {
			for _, e := range l.entries[n+1-l.first:] {
				if e.op.Namespace == namespace {
					ops = append(ops, e.op)
				}
			}
		}
		l.mu.Unlock()
		if !ok {
			yield(nil, fmt.Errorf("recovery: offset %.64q: %w", offset, cluster.ErrTrimmed))
			return
		}
		for _, op := range ops {
			if !yield(op, nil) {
				return
			}
		}
	}
}

// Compare returns -1, 0 or 1 where the offset a is before, at or behind b. What is no
// offset of this log is before all that are.
func (m *Memory) Compare(a, b string) int {
	x, ok1 := m.log.number(a)
	y, ok2 := m.log.number(b)
	if !ok1 || !ok2 {
		x, y = 0, 0
		if ok1 {
			x = 1
		}
		if ok2 {
			y = 1
		}
	}
	return cmp.Compare(x, y)
}
