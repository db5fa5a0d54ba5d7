package pgbus

import (
	"sync"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/official"
)

// What nodes of the official format expect of each other: a node says in each namespace that it is
// there when it has published nothing for beat, and who was silent for fade is gone.
const (
	beat = 5 * time.Second
	fade = 10 * time.Second
	// Atoll nodes say goodbye, and are members by other means: here they only must go some day.
	fadeOurs = 4 * time.Minute
	// who is new in a namespace gives the others that long to say that they are there
	settle = 200 * time.Millisecond

	maxCrowd = 4096 // nodes in one namespace, and Atoll nodes
)

// A crowd is who is there, in each namespace that this node has. It is filled by what the
// Dialect reads.
type crowd struct {
	mu     sync.Mutex
	spaces map[string]*space
	ours   map[string]time.Time // Atoll nodes, and when they were heard on the side channel
	wake   chan struct{}        // holds a token when somebody is to be answered
}

// A space is the crowd of one namespace.
type space struct {
	own   string // this node's id
	since time.Time
	next  time.Time // when this node has to say again that it is there
	owes  bool      // somebody new wants to know
	seen  map[string]time.Time
}

func newCrowd() *crowd {
	return &crowd{spaces: make(map[string]*space), ours: make(map[string]time.Time), wake: make(chan struct{}, 1)}
}

// enter says that this node is in a namespace from now on.
func (c *crowd) enter(namespace, own string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.spaces[namespace]
	if s == nil {
		s = &space{seen: make(map[string]time.Time)}
		c.spaces[namespace] = s
	}
	now := time.Now()
	s.own, s.since, s.next = own, now, now.Add(beat)
}

// leave takes back what enter did, and returns the node's id; empty where it was not in the namespace.
func (c *crowd) leave(namespace string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.spaces[namespace]
	if s == nil {
		return ""
	}
	delete(c.spaces, namespace)
	return s.own
}

// heard takes note of a message of the official format.
func (c *crowd) heard(node string, h official.Header) {
	if h.UID == "" || h.UID == node {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.spaces[h.Namespace]
	if s == nil {
		return
	}
	if h.UID == cluster.Emitter { // an observer asks who is there
		if h.Kind == official.InitialHeartbeat && s.own != cluster.Emitter {
			s.owes = true
			token(c.wake)
		}
		return
	}
	if h.Kind == official.AdapterClose {
		delete(s.seen, h.UID)
		return
	}
	if _, known := s.seen[h.UID]; known || len(s.seen) < maxCrowd {
		s.seen[h.UID] = time.Now()
	}
	if h.Kind == official.InitialHeartbeat {
		s.owes = true
		token(c.wake)
	}
}

// heardOurs takes note of what an Atoll node says on the side channel.
func (c *crowd) heardOurs(m *cluster.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case m.From == "" || m.From == cluster.Emitter:
	case m.Kind == cluster.Goodbye:
		delete(c.ours, m.From)
	case m.Kind == cluster.Heartbeat:
		if _, known := c.ours[m.From]; known || len(c.ours) < maxCrowd {
			c.ours[m.From] = time.Now()
		}
	}
}

// own reports whether an id is that of this node in a namespace.
func (c *crowd) own(namespace, id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.spaces[namespace]
	return s != nil && s.own == id && id != cluster.Emitter
}

// in returns how many others are in a namespace, and whether the given node is one of them.
func (c *crowd) in(namespace, node string) (others int, there bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.spaces[namespace]
	if s == nil {
		return 0, false
	}
	c.forget(s, time.Now())
	_, there = s.seen[node]
	return len(s.seen), there
}

// forget removes who has faded, and reports whether Node.js nodes are left. c.mu is held.
func (c *crowd) forget(s *space, now time.Time) (strangers bool) {
	for id, at := range s.seen {
		ours, is := c.ours[id]
		switch {
		case is && now.Sub(ours) > fadeOurs:
			delete(s.seen, id)
		case is:
		case now.Sub(at) > fade:
			delete(s.seen, id)
		default:
			strangers = true
		}
	}
	return strangers
}

// wait returns how long this node still has to wait until it knows who is in a namespace.
func (c *crowd) wait(namespace string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.spaces[namespace]; s != nil {
		return settle - time.Since(s.since)
	}
	return 0
}

// all returns the namespaces that this node is in, with its id.
func (c *crowd) all() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := make(map[string]string, len(c.spaces))
	for name, s := range c.spaces {
		m[name] = s.own
	}
	return m
}

// due returns where this node has to say that it is there, and when to ask again. Where only
// Atoll nodes are, nobody needs to hear it regularly.
func (c *crowd) due(now time.Time) (spaces map[string]string, next time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next = beat
	for name, s := range c.spaces {
		strangers := c.forget(s, now)
		if s.owes || strangers && !now.Before(s.next) {
			if spaces == nil {
				spaces = make(map[string]string)
			}
			spaces[name] = s.own
			s.owes, s.next = false, now.Add(beat)
		}
		if strangers {
			next = min(next, max(s.next.Sub(now), 10*time.Millisecond))
		}
	}
	for id, at := range c.ours {
		if now.Sub(at) > fadeOurs { // no namespace has it any more
			delete(c.ours, id)
		}
	}
	return spaces, next
}

// said takes note that this node has just said something in a namespace.
func (c *crowd) said(namespace string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.spaces[namespace]; s != nil {
		s.next = time.Now().Add(beat)
	}
}
