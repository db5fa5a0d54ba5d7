package atoll

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/recovery"
)

const (
	storeTimeout = 5 * time.Second
	comingAtOnce = 64  // clients whose sessions are taken at the same time; the others wait, and their time does not run
	maxPID       = 256 // bytes of what clients send as their private id or offset
)

// A recoverer lets clients that were cut off go on where they were.
type recoverer struct {
	keeper
	srv      *Server
	o        recovery.Options
	sessions recovery.Sessions
	shared   bool // the sessions are those of all nodes
	saver    saver
	hints    hints
	turns    chan struct{} // a token for each client whose session is being taken from a shared store
	stuck    atomic.Bool   // the store could not say whether it had the last that was to be taken

	mu     sync.Mutex
	coming map[string]*Socket // that have taken a session, and are not in their namespace yet, by the session's SID

	recovered, replayed, refused, trimmed atomic.Int64
}

func newRecoverer(srv *Server) *recoverer {
	r := &recoverer{srv: srv, o: srv.opts.Recovery.WithDefaults(), coming: make(map[string]*Socket), turns: make(chan struct{}, comingAtOnce)}
	r.saver.r = r
	node := srv.opts.Cluster
	memory := recovery.NewMemory(&r.o.Memory)
	if node != nil && node.Keeps() {
		r.keeper = &clusterKeeper{node, node.Bus().(cluster.Log)}
	} else {
		r.keeper = &memoryKeeper{memory, node}
	}
	r.sessions, r.shared = r.o.Sessions, true
	if r.sessions == nil && node != nil && node.Keeps() {
		r.sessions, _ = node.Bus().(recovery.Sessions)
	}
	if r.sessions == nil {
		r.sessions, r.shared = memory, false
	}
	return r
}

// A keeping is what recovery knows of a socket. Its fields are under the socket's mu,
// but for those that say otherwise.
type keeping struct {
	pid      string
	last     string // offset of the last event that was put in line for the client
	created  bool   // the store has a session, as far as we know: the client may be told its pid
	live     bool   // what changes is written to the store
	dirty    bool   // something changed before that
	replay   []message
	claimed  string    // the offset that a client came back with
	previous string    // the revision before the session's
	hinted   bool      // another node says that it has taken the session
	missing  time.Time // since when the store has not had the session
	ending   ending
	since    time.Time        // of the ending
	final    recovery.Session // Offset and Last, when the socket ended
	session  recovery.Session // what does not change, and the last revision in the store

	wait waiting // of the saver, under its mu
}

// An ending says what becomes of the session of a socket that has ended.
type ending uint8

const (
	alive    ending = iota
	cutOff          // the client may come back
	dropped         // it will not
	replaced        // it has done so already
)

// endingFor says what becomes of the session of s, which has ended so.
func endingFor(s *Socket, cause *DisconnectError) ending {
	if e, ok := errors.AsType[*TakeoverError](cause.Err); ok && e.socket == s { // else it was just on the same connection
		return replaced
	}
	switch cause.Reason {
	case ReasonTransportClose, ReasonTransportError, ReasonPingTimeout, ReasonForcedClose, ReasonShutdown:
		return cutOff
	}
	return dropped
}

// A missed event was sent while its client was away.
type missed struct {
	offset string
	m      message
}

// begin gives a socket the session that its client asks for, or a fresh private id.
// It reports how far the client has everything, and what it has missed.
func (r *recoverer) begin(s *Socket) (from string, events []missed) {
	if pid, offset, ok := asked(s.auth); ok {
		if from, events, ok = r.resume(s, pid, offset); ok {
			r.recovered.Add(1)
			return from, events
		}
		r.refused.Add(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rec.pid = rand.Text()
	s.rec.session = recovery.Session{PID: s.rec.pid, SID: s.id, Namespace: s.ns.name}
	return "", nil
}

// start notes where the log stands when a new socket is about to be in its namespace.
func (r *recoverer) start(s *Socket) {
	position := r.position(s.ns)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rec.session.Start = position
}

// asked reads what a client that wants to be recovered sends.
func asked(auth []byte) (pid, offset string, ok bool) {
	if !bytes.Contains(auth, []byte(`"pid"`)) {
		return "", "", false
	}
	var a map[string]json.RawMessage
	if json.Unmarshal(auth, &a) != nil || json.Unmarshal(a["pid"], &pid) != nil || pid == "" || len(pid) > maxPID {
		return "", "", false
	}
	if raw, ok := a["offset"]; ok && (json.Unmarshal(raw, &offset) != nil || len(offset) > maxPID) {
		return "", "", false
	}
	return pid, offset, true
}

// alike reports whether two offsets differ in their numbers only, so that they can be
// compared: what a client sends may be anything.
func alike(a, b string) bool {
	return a != "" && strings.Map(noDigit, a) == strings.Map(noDigit, b)
}

func noDigit(r rune) rune {
	if '0' <= r && r <= '9' {
		return -1
	}
	return r
}

func (r *recoverer) handoff(ctx context.Context) {
	if r.shared {
		handoff(ctx)
	}
}

// turn waits until a session may be taken. It reports false where ctx ends, or the store is away: each who had a turn
// would wait for it in vain, and all behind him, too.
func (r *recoverer) turn(ctx context.Context) bool {
	patience := time.NewTicker(storeTimeout)
	defer patience.Stop()
	for {
		select {
		case r.turns <- struct{}{}:
			return true
		case <-ctx.Done():
			return false
		case <-patience.C:
			if r.stuck.Load() {
				return false
			}
		}
	}
}

// resume takes a session, and what was sent since.
func (r *recoverer) resume(s *Socket, pid, offset string) (from string, events []missed, ok bool) {
	r.handoff(s.ctx)
	if r.shared {
		if !r.turn(s.ctx) {
			return "", nil, false
		}
		defer func() { <-r.turns }()
	}
	ctx, cancel := context.WithTimeout(s.ctx, storeTimeout)
	defer cancel()
	// A client that is cut off meanwhile comes back once more: what is taken must be stored again.
	storing, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), storeTimeout)
	defer cancel()
	session, err := r.sessions.Take(storing, pid)
	r.stuck.Store(err != nil && !errors.Is(err, recovery.ErrUnknown))
	if err != nil {
		if !errors.Is(err, recovery.ErrUnknown) && s.ctx.Err() == nil {
			s.log().Warn("a session cannot be recovered", "err", err)
		}
		return "", nil, false
	}
	if session.Namespace != "" && session.Namespace != s.ns.name || r.saver.dropping(pid) {
		return "", nil, false
	}
	rival := r.arrive(s, session.SID)
	defer func() {
		if !ok {
			r.arrived(s, session.SID)
		}
	}()
	if rival != nil {
		rival.overtaken(session.SID)
	}
	r.dismiss(s, session)
	session.PID, session.Namespace = pid, s.ns.name
	if offset != session.Last && alike(offset, session.Start) && r.compare(offset, session.Start) < 0 {
		offset = "" // the official client remembers it from a session before, and has got nothing in this one
	}
	switch offset {
	case session.Last:
		from = session.Offset // nothing was sent to it since
		if offset != "" && r.compare(from, offset) < 0 {
			from = offset // the last event was sent while the session was written
		}
	case "":
		from = session.Start
	default:
		from = offset
	}
	if from == "" || r.position(s.ns) == "" {
		return "", nil, false
	}
	// From here on it is in the store again, so that a client that is cut off now, or a node that is
	// killed, can try once more.
	taken := session.Revision
	if err := r.sessions.Create(storing, session, r.ttl()); err != nil {
		s.log().Warn("a recovered session cannot be stored; it can be recovered this time only", "err", err)
		session.Revision = ""
	}
	from, events, err = r.collect(ctx, s.ns, session.Rooms, from, "")
	if err != nil {
		if errors.Is(err, cluster.ErrTrimmed) {
			r.trimmed.Add(1)
		} else if s.ctx.Err() == nil {
			s.log().Warn("what a client has missed cannot be read; it is connected anew", "err", err)
		}
		if s.ctx.Err() == nil && session.Revision != "" {
			_ = r.sessions.Drop(ctx, session) // nobody asks for it any more
		}
		return "", nil, false
	}
	s.mu.Lock()
	s.id, s.recovered = session.SID, true
	k := s.rec
	k.pid, k.session, k.last, k.claimed = pid, *session, offset, offset
	k.created, k.previous = session.Revision != "", taken
	s.mu.Unlock()
	s.ns.rooms.enter(s, slices.DeleteFunc(slices.Clone(session.Rooms), func(name string) bool { return name == s.id })...)
	if len(session.Data) > 0 {
		v, err := r.o.DecodeData(session.Data)
		if err != nil {
			s.log().Error("the data of a recovered socket cannot be decoded (recovery.Options.DecodeData)", "err", err)
			v = nil
		}
		s.data.Store(boxed{v})
	}
	return from, events, true
}

// collect returns what was sent behind an offset, up to another one where that is given, to
// somebody in these rooms; and how far it has looked.
func (r *recoverer) collect(ctx context.Context, ns *Namespace, rooms []string, from, upTo string) (string, []missed, error) {
	in := make(map[string]struct{}, len(rooms))
	for _, name := range rooms {
		in[name] = struct{}{}
	}
	has := func(name string) bool { _, ok := in[name]; return ok }
	var events []missed
	size, limit := 0, r.srv.opts.maxQueue()/2
	for op, err := range r.since(ctx, ns, from) {
		if err != nil {
			return from, nil, err
		}
		if upTo != "" && r.compare(op.Offset, upTo) > 0 {
			break
		}
		from = op.Offset
		if len(op.Rooms) > 0 && !slices.ContainsFunc(op.Rooms, has) || slices.ContainsFunc(op.Except, has) {
			continue
		}
		m := offsetMessage(op, op.Offset)
		if size += m.size(); size > limit {
			return from, nil, fmt.Errorf("%w: a client has missed more than it can be sent at once, %d bytes (half of Engine.MaxQueue)", cluster.ErrTrimmed, limit)
		}
		events = append(events, missed{op.Offset, m})
	}
	return from, events, nil
}

// seat takes a recovered socket into the namespace, between two events of the log, with all that was sent before in
// line for it. It reports false where that failed.
func (r *recoverer) seat(s *Socket, from string, events []missed) bool {
	added, upTo := false, ""
	ok := r.at(s.ctx, s.ns, func() {
		added = s.ns.rooms.add(s)
		upTo = r.position(s.ns)
	})
	if !ok && s.ctx.Err() == nil { // the cluster's node was closed before the server
		s.conn.eng.Close(&engine.CloseError{Reason: ReasonForcedClose, Err: cluster.ErrClosed})
	}
	if !ok || !added {
		return false
	}
	// What was read already may reach further than what was performed here.
	for i := range events {
		if r.compare(events[i].offset, upTo) > 0 {
			events = events[:i]
			break
		}
	}
	if r.compare(from, upTo) < 0 {
		ctx, cancel := context.WithTimeout(s.ctx, storeTimeout)
		defer cancel()
		r.handoff(s.ctx)
		_, more, err := r.collect(ctx, s.ns, s.rec.session.Rooms, from, upTo)
		if err != nil {
			s.log().Warn("what a client has missed cannot be read any more; it must try again", "err", err)
			s.conn.eng.Close(&engine.CloseError{Reason: ReasonTransportError, Err: err})
			return false
		}
		events = append(events, more...)
	}
	r.replayed.Add(int64(len(events)))
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range events {
		s.rec.replay = append(s.rec.replay, events[i].m)
	}
	if n := len(events); n > 0 && s.rec.last == s.rec.claimed { // else something newer waits already
		s.rec.last = events[n-1].offset
	}
	return true
}

// secure stores the session of a socket whose client is about to be told of it.
func (r *recoverer) secure(s *Socket) {
	k := s.rec
	s.mu.Lock()
	if k.live || s.state == ended {
		s.mu.Unlock()
		return
	}
	if k.created { // recovered: it is there, as it was
		k.live = true
		s.mu.Unlock()
		r.saver.touch(s)
		return
	}
	s.mu.Unlock()
	r.handoff(s.ctx)
	ctx, cancel := context.WithTimeout(s.ctx, storeTimeout)
	defer cancel()
	session := r.snapshot(s)
	err := r.sessions.Create(ctx, &session, r.ttl())
	if err != nil {
		if s.ctx.Err() == nil {
			s.log().Warn("the session cannot be stored; the client is connected, but cannot be recovered", "err", err)
		}
		return
	}
	s.mu.Lock()
	gone := s.state == ended // it never heard of its pid
	if !gone {
		k.session, k.created, k.live = session, true, true
	}
	s.mu.Unlock()
	if gone {
		if err := r.sessions.Drop(context.WithoutCancel(ctx), &session); err != nil {
			s.log().Debug("a session that nobody knows of is left to its time", "err", err)
		}
		return
	}
	r.saver.touchFirst(s)
}

// ttl is how long a session lives whose socket is connected.
func (r *recoverer) ttl() time.Duration { return r.o.MaxDisconnection + r.o.Refresh }

// snapshot says what is to be stored of a socket. Whatever is performed and stands before
// Offset had Last set before that: so the position is read first.
func (r *recoverer) snapshot(s *Socket) recovery.Session {
	position := r.position(s.ns)
	s.mu.Lock()
	session := s.rec.session
	session.Offset, session.Last = position, s.rec.last
	if s.rec.ending != alive {
		session.Offset, session.Last = s.rec.final.Offset, s.rec.final.Last
	}
	s.mu.Unlock()
	session.Rooms, session.Data = s.Rooms(), s.dataJSON()
	return session
}

// ended notes how far a socket got that is about to leave its rooms.
func (r *recoverer) ended(s *Socket, cause *DisconnectError) {
	position := r.position(s.ns)
	s.mu.Lock()
	k := s.rec
	k.final.Offset, k.final.Last = position, k.last
	k.ending, k.since = endingFor(s, cause), time.Now()
	created, live, how := k.created, k.live, k.ending
	s.mu.Unlock()
	switch {
	case !created, how == cutOff && !live: // nothing is there, or just what it was recovered from
	default:
		r.saver.end(s, how)
	}
}
