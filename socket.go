package atoll

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/internal/sid"
	"github.com/atollhq/atoll/protocol"
)

// A Socket is one client in one namespace. All its methods may be called by any number
// of goroutines at once, from handlers and from elsewhere, also when the client is gone.
type Socket struct {
	id   string
	ns   *Namespace
	conn *conn
	auth []byte

	ctx    context.Context
	cancel context.CancelCauseFunc
	data   atomic.Value // of boxed

	// Of ns.rooms, under its lock.
	at     int      // place among all
	seats  []seat   // rooms
	early  []string // rooms before it is seated, and after it has left
	seated bool
	gone   bool
	held   bool // the cluster was asked for its own id as a room

	mu        sync.Mutex
	state     state
	accepting bool                // a goroutine is in accept, or was
	waiting   []message           // sent before the client was told that it is connected
	waits     int                 // bytes in waiting
	inbox     *[]incoming         // what came and was not handled yet; nil when empty
	size      int                 // bytes in the inbox
	running   bool                // a goroutine is in run, or will be
	acks      map[int64]ackWaiter // by id

	admitted  bool // OnConnect returned nil; the runner's alone
	recovered bool // the runner's, before the socket is in the namespace

	rec *keeping // nil: without recovery
}

type state uint8

const (
	connecting state = iota
	connected
	ended
)

type boxed struct{ v any }

// An ackWaiter is called once, without locks held: with the client's answer or with
// why there will be none. It does not block.
type ackWaiter func(event.Args, error)

func newSocket(c *conn, ns *Namespace, auth []byte) *Socket {
	s := &Socket{id: sid.New(c.srv.tag), ns: ns, conn: c, auth: auth}
	ctx, cancel := context.WithCancelCause(context.Background()) // end cancels it, at the latest when the server closes
	s.ctx, s.cancel = &socketContext{ctx, c}, cancel
	if c.srv.recovery != nil {
		s.rec = new(keeping)
	}
	return s
}

// A socketContext knows the session that it belongs to, so that whatever waits in a
// handler can first give the session's reading to somebody else.
type socketContext struct {
	context.Context
	conn *conn
}

type connKey struct{}

func (c *socketContext) Value(key any) any {
	if key == (connKey{}) {
		return c.conn
	}
	return c.Context.Value(key)
}

// handoff is called before anything waits under ctx.
func handoff(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		c.eng.Handoff()
	}
}

// ID returns the socket's id: 20 characters, different in each namespace and after each
// reconnection, unless the socket is recovered. It is also the name of a room that only this socket is in.
func (s *Socket) ID() string { return s.id }

// Namespace returns the namespace that the socket is in.
func (s *Socket) Namespace() *Namespace { return s.ns }

// Context ends when the socket does; context.Cause then is a *DisconnectError.
func (s *Socket) Context() context.Context { return s.ctx }

// Handshake returns the request that opened the session.
func (s *Socket) Handshake() *engine.Handshake { return s.conn.eng.Handshake() }

// SessionID returns the id of the Engine.IO session below, which all sockets of a client share.
func (s *Socket) SessionID() string { return s.conn.eng.ID() }

// Transport returns the transport of the moment: "polling" or "websocket".
func (s *Socket) Transport() string { return s.conn.eng.Transport() }

// Auth decodes the payload that the client connected with into v, as encoding/json would.
// Without a payload v stays as it is.
func (s *Socket) Auth(v any) error {
	if len(s.auth) == 0 {
		return nil
	}
	return event.ArgsOf(s.auth, nil).Decode(0, v)
}

// Connected reports whether the client is in the namespace.
func (s *Socket) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == connected
}

// Recovered reports whether the client was here before and has its id, rooms and data again, and
// gets what it has missed (Options.Recovery).
func (s *Socket) Recovered() bool { return s.recovered }

// changed has the session of the socket written, where there is one.
func (s *Socket) changed() {
	if s.rec != nil {
		s.ns.srv.recovery.saver.touch(s)
	}
}

// Data returns what SetData stored; nil at first. For a recovered socket it is what
// recovery.Options.DecodeData makes of the JSON of that.
func (s *Socket) Data() any {
	b, _ := s.data.Load().(boxed)
	return b.v
}

// SetData stores any value with the socket. Fetch shows it to all nodes, as JSON. With
// Options.Recovery it is also what a recovered socket has, in the state in which it was when SetData was
// called, or later.
func (s *Socket) SetData(v any) {
	s.data.Store(boxed{v})
	s.changed()
}

// Rooms lists the rooms that the socket is in, its own id first. In OnDisconnect they
// are the rooms that it was in.
func (s *Socket) Rooms() []string { return s.ns.rooms.of(s) }

// Join enters rooms. When it returns, messages to them from every node reach the socket.
// It waits for the cluster's medium where rooms are routed (cluster.Options.RouteRooms), for a few seconds at
// most; a medium that is away is logged.
func (s *Socket) Join(rooms ...string) {
	s.ns.rooms.enter(s, rooms...)
	s.changed()
	if s.ns.rooms.routed {
		s.ns.listen(s.ctx, s)
	}
}

// Leave leaves rooms. Rooms that the socket is not in do not matter.
func (s *Socket) Leave(rooms ...string) {
	s.ns.unlisten(s.ns.rooms.exit(s, rooms...))
	s.changed()
}

// To returns the sockets in any of the rooms, on all nodes, except this one.
func (s *Socket) To(rooms ...string) Target { return s.Broadcast().To(rooms...) }

// Except returns the sockets of the namespace, on all nodes, that are in none of the
// rooms, except this one.
func (s *Socket) Except(rooms ...string) Target { return s.Broadcast().Except(rooms...) }

// Broadcast returns all sockets of the namespace, on all nodes, except this one.
func (s *Socket) Broadcast() Target {
	return Target{ns: s.ns, sel: cluster.Selector{Except: []string{s.id}}}
}

// Disconnect takes the client out of the namespace; the official client does not come
// back by itself then. With all, the whole connection is closed: every namespace of the client.
//
// Within a middleware it refuses the client; within OnConnect, the client is told first
// that it is connected, and gets what was emitted to it.
func (s *Socket) Disconnect(all bool) {
	if all {
		for _, o := range s.conn.sockets() {
			o.end(&DisconnectError{Reason: ReasonServerDisconnect}, true)
		}
		s.conn.eng.Close(&engine.CloseError{Reason: ReasonForcedClose})
		return
	}
	s.end(&DisconnectError{Reason: ReasonServerDisconnect}, true)
}

// end takes the socket out of its namespace, once, and queues OnDisconnect behind what
// its client sent before. With tell, the client hears of it.
func (s *Socket) end(cause *DisconnectError, tell bool) {
	if tell && s.ns.rooms.seated(s) {
		s.accept()
	}
	s.mu.Lock()
	if s.state == ended {
		s.mu.Unlock()
		return
	}
	was := s.state
	s.state = ended
	acks := s.acks
	s.acks = nil
	goodbye := func() message {
		return newMessage(&protocol.Packet{Type: protocol.Disconnect, Namespace: s.ns.name, ID: protocol.NoID})
	}
	refuse := was == connecting && !s.accepting
	if tell && was == connecting && s.accepting {
		s.waiting = append(s.waiting, goodbye()) // another goroutine is in accept, and sends it
	} else {
		s.waiting = nil
	}
	s.mu.Unlock()

	if s.rec != nil {
		s.ns.srv.recovery.ended(s, cause)
	}
	gone := s.ns.rooms.remove(s)
	if r := s.ns.srv.recovery; r != nil && len(gone) > 0 && r.linger(s, gone) {
		gone = nil
	}
	s.ns.unlisten(gone)
	s.conn.drop(s)
	switch {
	case tell && was == connected:
		m := goodbye()
		_ = m.send(s.conn.eng, false)
	case tell && refuse:
		s.conn.refuse(s.ns.name, cause)
	}
	s.cancel(cause)
	for _, w := range acks {
		w(event.Args{}, ErrClosed)
	}
	s.ns.srv.work.begin() // inDisconnect is the last of this socket, and ends it
	if s.push(incoming{kind: inDisconnect, cause: cause}) {
		s.ns.srv.work.Go(s.conn.Flush)
	}
}
