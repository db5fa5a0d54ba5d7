package cluster

import (
	"sync"
	"time"
)

// quiet lets each kind of complaint through once a minute.
type quiet struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (q *quiet) allows(kind string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if t, ok := q.last[kind]; ok && now.Sub(t) < time.Minute {
		return false
	}
	if q.last == nil {
		q.last = make(map[string]time.Time)
	}
	q.last[kind] = now
	return true
}

// warn logs a complaint, of each kind at most one a minute.
func (n *Node) warn(kind, msg string, args ...any) {
	if n.quiet.allows(kind) {
		n.o.Logger.Warn(msg, append(args, "node", n.self.ID)...)
	}
}
