package atoll

import (
	"sync"
	"time"
)

// routes say on which node sessions are that were here before. They are forgotten when nobody has asked for them
// for a while, and when there are too many: there are two generations, and what is not asked for
// while it is in the old one is gone.
type routes struct {
	age time.Duration // of a generation

	mu         sync.Mutex
	young, old map[string]string // node by session id
	born       time.Time         // of young
}

// maxRoutes is how many sessions a generation has at most.
const maxRoutes = 50_000

func (t *routes) init(age time.Duration) {
	t.age, t.born = age, time.Now()
	t.young = make(map[string]string)
}

// turn makes the young ones old when it is time. t.mu is held.
func (t *routes) turn() {
	since := time.Since(t.born)
	if since < t.age && len(t.young) < maxRoutes || len(t.young)+len(t.old) == 0 {
		return
	}
	t.old, t.young, t.born = t.young, make(map[string]string), time.Now()
	if since >= 2*t.age {
		t.old = nil
	}
}

// find returns the node of a session.
func (t *routes) find(id string) (node string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.young)+len(t.old) == 0 {
		return "", false
	}
	t.turn()
	if node, ok = t.young[id]; ok {
		return node, true
	}
	if node, ok = t.old[id]; ok {
		delete(t.old, id)
		t.young[id] = node
	}
	return node, ok
}

// add adds a session, unless it is there: then add reports false.
func (t *routes) add(id, node string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn()
	if t.young[id] != "" || t.old[id] != "" {
		return false
	}
	t.young[id] = node
	return true
}

// drop forgets a session.
func (t *routes) drop(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.young, id)
	delete(t.old, id)
}

func (t *routes) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.young) + len(t.old)
}
