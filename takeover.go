package atoll

import (
	"context"
	"fmt"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/recovery"
)

// staleEvent is the server-side event with which a node says that it has taken a session, by its sid and
// revision. Nodes that do not know it, Node.js ones too, have no handler for it.
const staleEvent = "atoll:stale"

// A TakeoverError is the cause of a socket that was closed because its client is connected anew, here
// or on another node, and has taken its session along.
type TakeoverError struct {
	ID string // the socket's

	socket *Socket // others on its connection are closed with it, and are not taken over by that
}

func (e *TakeoverError) Error() string {
	return fmt.Sprintf("atoll: the client of socket %s has recovered it over another connection", e.ID)
}

// dismiss closes the socket that the client had before: it knows more than the store where it
// is, or was until a moment ago, on this node.
func (r *recoverer) dismiss(ctx context.Context, s *Socket, session *recovery.Session) {
	old := s.ns.Socket(session.SID)
	switch {
	case old != nil && old.rec != nil && old.privateID() == session.PID:
		old.overtaken(session.SID)
	case r.saver.cut(session.PID) != nil:
		old = r.saver.cut(session.PID)
	default:
		if r.shared && r.srv.opts.Cluster != nil {
			op, err := s.ns.target().eventOp(cluster.ServerEmit, staleEvent, []any{session.SID, session.Revision})
			if err == nil {
				err = r.srv.opts.Cluster.Tell(ctx, op)
			}
			if err != nil && ctx.Err() == nil {
				s.log().Warn("the node that a client came from cannot be told", "err", err)
			}
		}
		return
	}
	if old == nil || old.ns != s.ns {
		return
	}
	if fresh := r.snapshot(old); fresh.SID == session.SID && old.hasSession() {
		fresh.Revision = session.Revision
		*session = fresh
	}
}

// privateID returns the socket's pid.
func (s *Socket) privateID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.pid
}

// hasSession reports whether what snapshot says of the socket is what it is worth to be recovered from:
// it got so far that it was written to the store.
func (s *Socket) hasSession() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.live
}

// overtaken closes a socket whose client is back already, without a word: nobody listens there.
func (s *Socket) overtaken(id string) {
	cause := &TakeoverError{ID: id, socket: s}
	s.end(&DisconnectError{Reason: ReasonForcedClose, Err: cause}, false)
	s.conn.eng.Close(&engine.CloseError{Reason: ReasonForcedClose, Err: cause})
}

// stale is told by another node that it has taken the session of a socket of this one.
func (r *recoverer) stale(ns *Namespace, args event.Args) {
	var sid, revision string
	if args.Decode(0, &sid) != nil || args.Decode(1, &revision) != nil {
		return
	}
	s := r.expected(sid) // first: who is expected no more is in the namespace
	if s == nil {
		s = ns.Socket(sid)
	}
	if s == nil || s.rec == nil || s.ns != ns {
		return
	}
	s.mu.Lock()
	k := s.rec
	mine := revision != "" && (k.session.Revision == revision || k.previous == revision) || !k.missing.IsZero()
	mine = mine && (k.live || k.session.Revision == revision)
	k.hinted = k.hinted || !mine
	s.mu.Unlock()
	if mine {
		s.overtaken(sid)
	} else {
		r.saver.touch(s) // perhaps what we are about to write is what was taken
	}
}

// arrive notes that s has taken a session. It returns who did so before and is not in the namespace yet: the client
// is not there any more.
func (r *recoverer) arrive(s *Socket, sid string) (rival *Socket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rival = r.coming[sid]
	r.coming[sid] = s
	return rival
}

// arrived notes that s is in its namespace, or will not be.
func (r *recoverer) arrived(s *Socket, sid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.coming[sid] == s {
		delete(r.coming, sid)
	}
}

// expected returns the socket that has taken the session of a socket, and is not in the namespace yet.
func (r *recoverer) expected(sid string) *Socket {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.coming[sid]
}
