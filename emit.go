package atoll

import (
	"context"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/protocol"
)

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
			if s.rec.created || s.recovered { // or the client would take itself for new
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
