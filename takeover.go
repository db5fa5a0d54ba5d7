package atoll

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/recovery"
)

// staleEvent is the server-side event with which a node says that it has taken sessions, each by its sid and
// revision. Nodes that do not know it, Node.js ones too, have no handler for it.
const staleEvent = "atoll:stale"

const (
	hintPause = 100 * time.Millisecond // between two such events
	hintsMost = 256                    // sessions in one
)

// hints are what other nodes are to be told of the sessions that were taken: when thousands come at once, not
// each by a message of its own, which all nodes would read, and which would push what clients missed out of the log.
type hints struct {
	mu      sync.Mutex
	waiting []hint
	running bool
}

type hint struct {
	ns            *Namespace
	sid, revision string
}

// hint has the node that a client came from told soon.
func (r *recoverer) hint(x hint) {
	r.hints.mu.Lock()
	defer r.hints.mu.Unlock()
	r.hints.waiting = append(r.hints.waiting, x)
	if !r.hints.running {
		r.hints.running = true
		r.srv.work.Go(r.tellHints)
	}
}

// tellHints tells what waits, until nothing does.
func (r *recoverer) tellHints() {
	for {
		r.hints.mu.Lock()
		list := r.hints.waiting
		r.hints.waiting = nil
		over := r.srv.ctx.Err() != nil
		if r.hints.running = len(list) > 0 && !over; !r.hints.running {
			r.hints.mu.Unlock()
			return
		}
		r.hints.mu.Unlock()
		args := make(map[*Namespace][]any)
		for _, x := range list {
			args[x.ns] = append(args[x.ns], x.sid, x.revision)
		}
		for ns, all := range args {
			for part := range slices.Chunk(all, 2*hintsMost) {
				r.tellStale(ns, part)
			}
		}
		select {
		case <-time.After(hintPause):
		case <-r.srv.ctx.Done():
		}
	}
}

func (r *recoverer) tellStale(ns *Namespace, args []any) {
	ctx, cancel := context.WithTimeout(r.srv.ctx, storeTimeout)
	defer cancel()
	op, err := ns.target().eventOp(cluster.ServerEmit, staleEvent, args)
	if err == nil {
		err = r.srv.opts.Cluster.Tell(ctx, op)
	}
	if err != nil && r.srv.ctx.Err() == nil {
		r.srv.log.Warn("the nodes that clients came from cannot be told", "nsp", ns.name, "clients", len(args)/2, "err", err)
	}
}

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
func (r *recoverer) dismiss(s *Socket, session *recovery.Session) {
	old := s.ns.Socket(session.SID)
	switch {
	case old != nil && old.rec != nil && old.privateID() == session.PID:
		old.overtaken(session.SID)
	case r.saver.cut(session.PID) != nil:
		old = r.saver.cut(session.PID)
	default:
		if r.shared && r.srv.opts.Cluster != nil {
			r.hint(hint{s.ns, session.SID, session.Revision})
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

// stale is told by another node that it has taken sessions, of sockets of this one perhaps.
func (r *recoverer) stale(ns *Namespace, args event.Args) {
	var words []string
	if json.Unmarshal(args.JSON(), &words) != nil {
		return
	}
	for pair := range slices.Chunk(words, 2) {
		if len(pair) == 2 {
			r.staleOne(ns, pair[0], pair[1])
		}
	}
}

func (r *recoverer) staleOne(ns *Namespace, sid, revision string) {
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
