package atoll

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

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

// Emit sends an event to the client. It does not wait: nil says that the event is in
// line. What one goroutine emits arrives in that order. The error is ErrClosed where
// the socket has ended, or says which argument cannot be encoded.
//
// An event emitted before the client knows that it is connected, in a middleware or in
// OnConnect, is sent right after it does.
//
// With Options.Recovery it waits until the log has the event; an error that is not ErrClosed then says
// that it has not, and that the event is in line all the same. An event for a client that was
// cut off and may come back is kept for it.
func (s *Socket) Emit(ctx context.Context, name string, args ...any) error {
	if s.rec != nil {
		return s.keep(ctx, name, args)
	}
	return s.emit(false, name, args)
}

// keep sends an event by way of the log.
func (s *Socket) keep(ctx context.Context, name string, args []any) error {
	if !s.ns.rooms.seated(s) && !s.awaited() { // in a middleware, or for good
		return s.emit(false, name, args)
	}
	op, err := s.ns.To(s.id).eventOp(cluster.Emit, name, args)
	if err != nil {
		return err
	}
	return s.ns.srv.recovery.keep(ctx, s.ns, op)
}

func (s *Socket) emit(volatile bool, name string, args []any) error {
	if err := checkName(name); err != nil {
		return err
	}
	var m message
	var err error
	if s.rec == nil {
		m, err = eventMessage(s.ns.name, protocol.NoID, name, args)
	} else {
		var op *cluster.Op
		if op, err = s.ns.target().eventOp(cluster.Emit, name, args); err == nil {
			m = offsetMessage(op, "")
		}
	}
	if err != nil {
		return err
	}
	if hook := s.ns.h.outgoing; hook != nil {
		hook(s, name)
	}
	return s.deliver(m, volatile, "")
}

// Volatile sends events that are dropped, and counted, if they would have to wait for
// the connection: for positions and prices, where the next one makes up for it.
func (s *Socket) Volatile() event.Emitter { return volatile{s} }

type volatile struct{ s *Socket }

func (v volatile) Emit(_ context.Context, name string, args ...any) error {
	return v.s.emit(true, name, args)
}

// Ask sends an event and waits for the client's ack. It ends with ctx, with the socket
// (ErrClosed), or after Options.AckTimeout if ctx has no deadline.
//
// Within OnConnect, the first Ask tells the client that it is connected. In a middleware
// there is nobody to ask yet: Ask returns an error at once.
func (s *Socket) Ask(ctx context.Context, name string, args ...any) (event.Args, error) {
	if err := checkName(name); err != nil {
		return event.Args{}, err
	}
	ctx, cancel := s.ns.srv.ackContext(ctx, 0)
	defer cancel()
	mine := ctx.Value(connKey{}) == any(s.conn) // asked by a handler of the same client
	if mine && !s.ns.rooms.seated(s) && s.ctx.Err() == nil {
		return event.Args{}, errAskEarly
	}
	id := s.ns.nextID()
	m, err := eventMessage(s.ns.name, id, name, args)
	if err != nil {
		return event.Args{}, err
	}
	type answer struct {
		args event.Args
		err  error
	}
	got := make(chan answer, 1)
	if !s.expect(id, func(a event.Args, err error) { got <- answer{a, err} }) {
		return event.Args{}, ErrClosed
	}
	if hook := s.ns.h.outgoing; hook != nil {
		hook(s, name)
	}
	if err := s.deliver(m, false, ""); err != nil {
		s.forget(id)
		return event.Args{}, err
	}
	if mine {
		if s.rec != nil {
			s.ns.srv.recovery.secure(s)
		}
		s.accept() // OnConnect waits for the client: it must know that it is connected
	}
	handoff(ctx)
	select {
	case a := <-got:
		return a.args, a.err
	case <-ctx.Done():
		s.forget(id)
		return event.Args{}, context.Cause(ctx)
	}
}

// expect registers who waits for the ack with the given id.
func (s *Socket) expect(id int64, w ackWaiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == ended {
		return false
	}
	if s.acks == nil {
		s.acks = make(map[int64]ackWaiter)
	}
	s.acks[id] = w
	return true
}

func (s *Socket) forget(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.acks, id)
}

// settle hands an ack to who waits for it. Nobody may: the answer came late, or twice.
func (s *Socket) settle(id int64, args event.Args, err error) {
	s.mu.Lock()
	w := s.acks[id]
	delete(s.acks, id)
	s.mu.Unlock()
	if w != nil {
		w(args, err)
	}
}

// deliver sends m, or keeps it until the client knows that it is connected. offset is its place in the
// log, if it has one.
func (s *Socket) deliver(m message, volatile bool, offset string) error {
	s.mu.Lock()
	if offset != "" {
		s.rec.last = offset
	}
	switch s.state {
	case ended:
		s.mu.Unlock()
		return ErrClosed
	case connecting:
		over := false
		limit := s.ns.srv.opts.maxQueue()
		if !volatile {
			s.waits += m.size()
			if over = len(s.waiting) > 0 && s.waits > limit; !over {
				s.waiting = append(s.waiting, m)
			}
		}
		got := s.waits
		s.mu.Unlock()
		if over {
			s.conn.eng.Close(&engine.CloseError{Reason: ReasonTransportError, Err: &LimitError{What: engine.LimitQueue, Limit: limit, Got: got}})
			return ErrClosed
		}
		return nil
	}
	s.mu.Unlock()
	if m.send(s.conn.eng, volatile) != nil {
		return ErrClosed
	}
	return nil
}

// accept tells the client that it is connected, then sends what was emitted meanwhile.
// It does so once.
func (s *Socket) accept() {
	for first := true; ; first = false {
		s.mu.Lock()
		if first && (s.state != connecting || s.accepting) {
			s.mu.Unlock()
			return
		}
		s.accepting = true
		waiting := s.waiting
		pid := ""
		if first && s.rec != nil {
			if s.rec.created {
				pid = s.rec.pid
			}
			waiting, s.rec.replay = append(s.rec.replay, waiting...), nil
		}
		s.waiting, s.waits = nil, 0
		if !first && len(waiting) == 0 {
			if s.state == connecting {
				s.state = connected
			}
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if first {
			data := appendQuoted([]byte(`{"sid":`), s.id)
			if pid != "" {
				data = appendQuoted(append(data, `,"pid":`...), pid)
			}
			data = append(data, '}')
			m := newMessage(&protocol.Packet{Type: protocol.Connect, Namespace: s.ns.name, ID: protocol.NoID, Data: data})
			_ = m.send(s.conn.eng, false) // if the session is gone, Closed follows
		}
		for i := range waiting {
			_ = waiting[i].send(s.conn.eng, false)
		}
	}
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

// ackContext gives ctx a deadline, if it has none: the time-out asked for, or the server's.
func (srv *Server) ackContext(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		if _, ok := ctx.Deadline(); ok {
			return context.WithCancel(ctx)
		}
		timeout = srv.opts.ackTimeout()
	}
	return context.WithTimeout(ctx, timeout)
}
