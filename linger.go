package atoll

import "time"

// leave gives back the place of an ended socket in its namespace. A dynamic one stays for a client that may come
// back, where this node is the only one that keeps what is sent meanwhile.
func (r *recoverer) leave(s *Socket) {
	if _, ok := r.keeper.(*memoryKeeper); !ok || s.ns.dynParent == nil || !s.awaited() {
		s.ns.leave()
		return
	}
	time.AfterFunc(r.o.MaxDisconnection, func() {
		if r.srv.ctx.Err() == nil {
			s.ns.leave()
		}
	})
}

// linger has the cluster send what is for rooms of a socket as long as its client may come back, where
// this node is the only one that keeps that. It reports whether it does.
func (r *recoverer) linger(s *Socket, rooms []string) bool {
	if _, ok := r.keeper.(*memoryKeeper); !ok || !s.awaited() {
		return false
	}
	time.AfterFunc(r.o.MaxDisconnection, func() { s.ns.unlisten(rooms) })
	return true
}

// awaited reports whether the client of an ended socket may come back for what it is sent meanwhile.
func (s *Socket) awaited() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.ending == cutOff && s.rec.created && time.Since(s.rec.since) < s.ns.srv.recovery.o.MaxDisconnection
}
