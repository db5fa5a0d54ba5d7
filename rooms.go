package atoll

import (
	"slices"
	"sync"

	"github.com/atollhq/atoll/cluster"
)

// A room is a list of members. Each member knows its place in each of its rooms, so
// that leaving is a swap with the last one and no room needs an index.
type room struct {
	name    string
	members []*Socket
}

// A seat is a socket's place in a room.
type seat struct {
	room *room
	at   int32
	held bool // the cluster was asked for the room because of this seat
}

// rooms holds who is where in one namespace. A socket's own id counts as a room that
// it is in, and costs nothing.
type rooms struct {
	mu    sync.RWMutex
	all   room
	byID  map[string]*Socket
	named map[string]*room

	routed    bool // the cluster sends this node only what is for rooms that it has asked for
	routedIDs bool // the room of a socket's own id is one of these
}

// add seats s among all. It reports false where s is in already, or was removed.
func (r *rooms) add(s *Socket) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.seated || s.gone {
		return false
	}
	if r.byID == nil {
		r.byID, r.named = make(map[string]*Socket), make(map[string]*room)
	}
	s.seated, s.at = true, len(r.all.members)
	r.all.members = append(r.all.members, s)
	r.byID[s.id] = s
	for _, name := range s.early {
		r.join(s, name)
	}
	s.early = nil
	return true
}

// remove takes s out of everything, for good, and leaves it a list of the rooms it was in. It returns those
// that the cluster was asked for because of s.
func (r *rooms) remove(s *Socket) (gone []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.gone {
		return nil
	}
	s.gone = true
	if !s.seated {
		return nil
	}
	last := len(r.all.members) - 1
	moved := r.all.members[last]
	r.all.members[s.at], moved.at = moved, s.at
	r.all.members[last] = nil
	r.all.members = r.all.members[:last]
	if r.byID[s.id] == s { // and not its own successor
		delete(r.byID, s.id)
	}
	for _, st := range s.seats {
		r.vacate(st)
		s.early = append(s.early, st.room.name)
		if st.held {
			gone = append(gone, st.room.name)
		}
	}
	if s.held {
		gone = append(gone, s.id)
	}
	s.seats, s.seated = nil, false
	return gone
}

// join seats s in a room. r.mu is held.
func (r *rooms) join(s *Socket, name string) {
	if name == s.id || slices.ContainsFunc(s.seats, func(st seat) bool { return st.room.name == name }) {
		return
	}
	rm := r.named[name]
	if rm == nil {
		rm = &room{name: name}
		r.named[name] = rm
	}
	s.seats = append(s.seats, seat{room: rm, at: int32(len(rm.members))})
	rm.members = append(rm.members, s)
}

// leave takes s out of a room. It reports whether the cluster was asked for it because of s. r.mu is held.
func (r *rooms) leave(s *Socket, name string) (held bool) {
	i := slices.IndexFunc(s.seats, func(st seat) bool { return st.room.name == name })
	if i < 0 {
		return false
	}
	st := s.seats[i]
	s.seats = slices.Delete(s.seats, i, i+1)
	r.vacate(st)
	return st.held
}

// vacate fills a seat with the room's last member, and drops an empty room. r.mu is held.
func (r *rooms) vacate(st seat) {
	rm := st.room
	last := int32(len(rm.members) - 1)
	if st.at != last {
		moved := rm.members[last]
		rm.members[st.at] = moved
		for i := range moved.seats {
			if moved.seats[i].room == rm {
				moved.seats[i].at = st.at
				break
			}
		}
	}
	rm.members[last] = nil
	rm.members = rm.members[:last]
	if last == 0 {
		delete(r.named, rm.name)
	}
}

// enter and exit change the rooms of one socket. Before the socket is seated, and
// after it has left, they change the list it carries.
func (r *rooms) enter(s *Socket, names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		switch {
		case s.gone:
		case s.seated:
			r.join(s, name)
		case !slices.Contains(s.early, name):
			s.early = append(s.early, name)
		}
	}
}

// exit returns those of the rooms that the cluster was asked for because of s, and is not any more.
func (r *rooms) exit(s *Socket, names ...string) (gone []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		switch {
		case s.gone:
		case s.seated:
			if r.leave(s, name) {
				gone = append(gone, name)
			}
		default:
			s.early = slices.DeleteFunc(s.early, func(n string) bool { return n == name })
		}
	}
	return gone
}

// unheld lists the rooms that the cluster is to be asked for because of s. The socket's own is none of them, since
// the id says where it is, unless it was made on another node, or the cluster's format has it otherwise.
func (r *rooms) unheld(s *Socket) (names []string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, st := range s.seats {
		if !st.held {
			names = append(names, st.room.name)
		}
	}
	if (s.recovered || r.routedIDs) && s.seated && !s.held {
		names = append(names, s.id)
	}
	return names
}

// hold notes that the cluster was asked for rooms because of s. It returns those of which that is not true, or not
// any more: the cluster is to be told.
func (r *rooms) hold(s *Socket, names []string) (gone []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		i := slices.IndexFunc(s.seats, func(st seat) bool { return st.room.name == name })
		switch {
		case i >= 0 && !s.seats[i].held:
			s.seats[i].held = true
		case name == s.id && s.seated && !s.held:
			s.held = true
		default:
			gone = append(gone, name)
		}
	}
	return gone
}

// of lists the rooms of s, its own id first.
func (r *rooms) of(s *Socket) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := make([]string, 1, 1+len(s.seats)+len(s.early))
	names[0] = s.id
	for _, st := range s.seats {
		names = append(names, st.room.name)
	}
	return append(names, s.early...)
}

// in reports whether s is in the room. r.mu is held.
func (r *rooms) in(s *Socket, name string) bool {
	return name == s.id || slices.ContainsFunc(s.seats, func(st seat) bool { return st.room.name == name })
}

// names lists all rooms, the sockets' own among them, as the official server does.
func (r *rooms) list() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := make([]string, 0, len(r.named)+len(r.byID))
	for name := range r.named {
		names = append(names, name)
	}
	for id := range r.byID {
		if r.named[id] == nil {
			names = append(names, id)
		}
	}
	return names
}

// seated reports whether s is among all.
func (r *rooms) seated(s *Socket) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return s.seated
}

func (r *rooms) len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.all.members)
}

// receivers is a list of sockets that is used once and given back.
type receivers struct{ sockets []*Socket }

var receiverPool = sync.Pool{New: func() any { return new(receivers) }}

func (l *receivers) free() {
	clear(l.sockets)
	l.sockets = l.sockets[:0]
	if cap(l.sockets) <= 1<<16 {
		receiverPool.Put(l)
	}
}

// selected collects the sockets that sel names, each once. The caller frees the list.
func (r *rooms) selected(sel *cluster.Selector) *receivers {
	l := receiverPool.Get().(*receivers)
	r.mu.RLock()
	defer r.mu.RUnlock()
	switch len(sel.Rooms) {
	case 0:
		l.sockets = append(l.sockets, r.all.members...)
	case 1:
		r.gather(l, sel.Rooms[0], nil)
	default:
		seen := make(map[*Socket]struct{})
		for _, name := range sel.Rooms {
			r.gather(l, name, seen)
		}
	}
	if len(sel.Except) > 0 {
		l.sockets = slices.DeleteFunc(l.sockets, r.excepted(sel.Except))
	}
	return l
}

// gather appends the members of a room that were not seen yet. r.mu is held.
func (r *rooms) gather(l *receivers, name string, seen map[*Socket]struct{}) {
	var members []*Socket
	if rm := r.named[name]; rm != nil {
		members = rm.members
	}
	own := r.byID[name]
	if seen == nil {
		l.sockets = append(l.sockets, members...)
		if own != nil && !slices.ContainsFunc(own.seats, func(st seat) bool { return st.room.name == name }) {
			l.sockets = append(l.sockets, own)
		}
		return
	}
	one := func(s *Socket) {
		if _, ok := seen[s]; !ok {
			seen[s] = struct{}{}
			l.sockets = append(l.sockets, s)
		}
	}
	for _, s := range members {
		one(s)
	}
	if own != nil {
		one(own)
	}
}

// excepted returns the test for "is in any of these rooms". r.mu is held while it is used.
func (r *rooms) excepted(names []string) func(*Socket) bool {
	if len(names) <= 8 {
		return func(s *Socket) bool {
			for _, name := range names {
				if r.in(s, name) {
					return true
				}
			}
			return false
		}
	}
	set := make(map[string]struct{}, len(names))
	for _, name := range names {
		set[name] = struct{}{}
	}
	return func(s *Socket) bool {
		if _, ok := set[s.id]; ok {
			return true
		}
		for _, st := range s.seats {
			if _, ok := set[st.room.name]; ok {
				return true
			}
		}
		return false
	}
}
