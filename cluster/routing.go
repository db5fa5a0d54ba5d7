package cluster

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/internal/sid"
)

// A routing is what a node knows of the others that decides where it sends what is for one room. It is
// made anew when they change.
type routing struct {
	all    bool              // all nodes route
	owners map[sid.Tag]owner // who has the sockets whose ids have that tag; nil where that is not all there is to know
}

type owner struct {
	id   string // empty where two nodes have the tag
	life uint64
}

// initRouting finds out whether this node routes.
func (n *Node) initRouting() {
	n.tag = sid.TagOf(n.self.ID)
	r, ok := n.dialect.(Router)
	if !ok {
		return
	}
	a, ok := r.(AlwaysRouter)
	n.always = ok && a.Always()
	if n.always || n.o.RouteRooms {
		n.router = r
		n.self.Routes = !n.o.Observer
	}
	n.mu.Lock()
	n.reroute()
	n.mu.Unlock()
}

// reroute takes note that other nodes have come, gone or changed. n.mu is held.
func (n *Node) reroute() {
	if n.router == nil {
		return
	}
	r := &routing{all: true}
	if !n.always {
		owners, strange := map[sid.Tag]owner{n.tag: {id: n.self.ID, life: n.life}}, n.strange.is
		for id, p := range n.peers {
			r.all = r.all && p.Routes
			strange = strange || p.Strange
			if _, two := owners[p.tag]; two {
				owners[p.tag] = owner{}
			} else {
				owners[p.tag] = owner{id: id, life: p.life}
			}
		}
		r.all = r.all && len(n.watchers) == 0
		if !strange {
			r.owners = owners
		}
	}
	n.routing.Store(r)
}

// route decides where m, which is to be told, goes. It returns false where it is for nobody but us.
func (n *Node) route(m *Message) bool {
	if n.router == nil {
		return true
	}
	op := m.Op
	if op.Kind == JoinRooms {
		n.told.add(op.Namespace, op.Names, time.Now())
		return true
	}
	r := n.routing.Load()
	if op.Kind != Emit || len(op.Rooms) != 1 || !r.all {
		return true
	}
	room := op.Rooms[0]
	if n.told.has(op.Namespace, room, time.Now()) {
		return true
	}
	if n.native {
		if tag, ok := sid.TagIn(room); ok {
			o := r.owners[tag]
			if o.id == n.self.ID {
				return false
			}
			if o.id != "" {
				m.Routed, m.To, m.ToLife = true, o.id, o.life
			}
			return true
		}
	}
	m.Routed = n.router.Route(op.Namespace, room) != ""
	return true
}

// told is the rooms that sockets of other nodes were lately told to join: it takes a while until
// their nodes listen for them.
type told struct {
	some     atomic.Bool
	mu       sync.Mutex
	now, old rooms
	turned   time.Time
}

type rooms struct {
	names map[[2]string]struct{}
	all   bool // they were too many
}

const (
	toldStays = 5 * time.Second
	maxTold   = 1 << 16
)

func (t *told) add(namespace string, names []string, now time.Time) {
	if len(names) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	if t.now.names == nil {
		t.now.names = make(map[[2]string]struct{})
	}
	for _, name := range names {
		if len(t.now.names) >= maxTold {
			t.now.all = true
			break
		}
		t.now.names[[2]string{namespace, name}] = struct{}{}
	}
	t.some.Store(true)
}

func (t *told) has(namespace, room string, now time.Time) bool {
	if !t.some.Load() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	k := [2]string{namespace, room}
	_, a := t.now.names[k]
	_, b := t.old.names[k]
	return a || b || t.now.all || t.old.all
}

// turn forgets what is older than twice toldStays. t.mu is held.
func (t *told) turn(now time.Time) {
	d := now.Sub(t.turned)
	if d < toldStays {
		return
	}
	t.old = t.now
	if d >= 2*toldStays {
		t.old = rooms{}
	}
	t.now, t.turned = rooms{}, now
	if t.old.names == nil {
		t.some.Store(false)
	}
}

// strange counts this node's rooms that are named like sockets of others.
type strange struct {
	tags map[sid.Tag]int // of rooms that are named like sockets of somebody else's, whether a member's or not
	is   bool            // one of them is a member's
}

// stranger takes note of a room with the tag of a socket that is not ours. It reports whether others
// have to be told.
func (n *Node) stranger(tag sid.Tag, delta int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &n.strange
	if s.tags == nil {
		s.tags = make(map[sid.Tag]int)
	}
	if s.tags[tag] = max(0, s.tags[tag]+delta); s.tags[tag] == 0 {
		delete(s.tags, tag)
	}
	return n.recognize()
}

// recognize finds out anew whether some room is named like a member's socket, and reports whether that has
// become so. n.mu is held.
func (n *Node) recognize() bool {
	s, was := &n.strange, n.strange.is
	s.is = false
	if len(s.tags) > 0 {
		for _, p := range n.peers {
			if s.tags[p.tag] > 0 {
				s.is = true
				break
			}
		}
	}
	if s.is != was {
		n.reroute()
	}
	return s.is && !was
}

// membersChanged keeps in step what hangs on who is there. n.mu is held.
func (n *Node) membersChanged() {
	if n.recognize() {
		signal(n.hello)
	}
	n.reroute()
	n.tellChanged()
}

// tellChanged has those look again who follow the members. n.mu is held.
func (n *Node) tellChanged() {
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

// watched takes note of an observer that calls.
func (n *Node) watched(m *Message) {
	if !m.Member.Routes && n.native && n.router != nil {
		n.mu.Lock()
		if _, known := n.watchers[m.From]; known || len(n.watchers) < maxWatchers {
			if n.watchers == nil {
				n.watchers = make(map[string]time.Time)
			}
			n.watchers[m.From] = time.Now()
			if !known {
				n.reroute()
			}
		}
		n.mu.Unlock()
	}
	n.hold.marks(m)
	signal(n.hello)
}

const maxWatchers = 64

// unwatched forgets the observers that have not called for a while. n.mu is held.
func (n *Node) unwatched(now time.Time) {
	before := len(n.watchers)
	for id, at := range n.watchers {
		if now.Sub(at) > n.o.DeadAfter {
			delete(n.watchers, id)
		}
	}
	if len(n.watchers) != before {
		n.reroute()
	}
}

// unlistened takes note that what goes over a room's topic does not arrive any more.
func (n *Node) unlistened(topic string) { n.hold.ignore(topic) }
