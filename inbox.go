package atoll

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/protocol"
)

// What waits in an inbox.
const (
	inEvent = iota
	inConnect
	inDisconnect
)

type incoming struct {
	kind  uint8
	event *Event           // inEvent
	fn    Handler          // inEvent: nil where nobody handles it
	cause *DisconnectError // inDisconnect
	size  int
}

// Inboxes are shared by all sockets: an idle one holds none.
var inboxPool = sync.Pool{New: func() any { return new([]incoming) }}

func freeInbox(b *[]incoming) {
	clear(*b)
	*b = (*b)[:0]
	if cap(*b) <= 256 {
		inboxPool.Put(b)
	}
}

// An Event is an event from a client, on its way to a handler.
type Event struct {
	Name string
	Args event.Args

	sock *Socket
	id   int64 // negative: no reply wanted, or given already
}

// WantsReply reports whether the client asked for an ack that was not given yet.
func (e *Event) WantsReply() bool { return e.id >= 0 }

// Reply answers the client's ack. It is for one goroutine, once: then, and where the
// client asked for none, it returns ErrNoReply. It may be called after the handler
// has returned, by whoever has the event then.
func (e *Event) Reply(args ...any) error {
	if e.id < 0 {
		return ErrNoReply
	}
	m, err := ackMessage(e.sock.ns.name, e.id, args)
	if err != nil {
		return err
	}
	e.id = -1
	return e.sock.deliver(m, false, "")
}

// incoming queues an event of the client.
func (s *Socket) incoming(p *protocol.Packet) {
	name, args, _, err := p.Event()
	if err != nil {
		s.ns.srv.stats.malformed.Add(1)
		s.conn.eng.Close(&engine.CloseError{Reason: ReasonParseError, Err: err})
		return
	}
	in := incoming{kind: inEvent, event: &Event{Args: event.ArgsOf(args, p.Attachments), sock: s, id: p.ID}, size: len(p.Data)}
	for _, a := range p.Attachments {
		in.size += len(a)
	}
	if h := s.ns.h.find(name); h != nil {
		in.event.Name, in.fn = h.name, h.fn
	} else {
		in.event.Name = string(name)
	}
	s.push(in)
}

// push appends to the inbox and, where nobody runs it, has the conn's next Flush do so.
// It reports whether there is such a next Flush to be made.
func (s *Socket) push(in incoming) bool {
	const overhead = 128 // bytes, of an event in the inbox besides its arguments
	in.size += overhead
	limit := s.ns.srv.opts.maxInbox()
	s.mu.Lock()
	if in.kind == inEvent && s.state == ended {
		s.mu.Unlock()
		return false
	}
	if size := s.size + in.size; in.kind == inEvent && size > limit {
		s.mu.Unlock()
		s.conn.eng.Close(&engine.CloseError{Reason: ReasonForcedClose, Err: &LimitError{What: "Options.MaxInbox", Limit: limit, Got: size}})
		return false
	}
	if s.inbox == nil {
		s.inbox = inboxPool.Get().(*[]incoming)
	}
	*s.inbox = append(*s.inbox, in)
	s.size += in.size
	start := !s.running
	s.running = true
	s.mu.Unlock()
	if start {
		s.conn.schedule(s)
	}
	return start
}

// run handles what is in the inbox, in order, until it is empty. There is one run at a time.
func (s *Socket) run() {
	done := 0 // bytes
	for {
		s.mu.Lock()
		s.size -= done
		batch := s.inbox
		s.inbox = nil
		if batch == nil {
			s.running = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		done = 0
		for i := range *batch {
			s.handle(&(*batch)[i])
			done += (*batch)[i].size
		}
		freeInbox(batch)
	}
}

// handle runs the user code for one thing that came. A panic ends this socket, and nobody else's.
func (s *Socket) handle(in *incoming) {
	defer func() {
		if r := recover(); r != nil {
			s.ns.srv.stats.panics.Add(1)
			s.log().Error("panic in a handler; the socket is disconnected", "handler", in.what(), "panic", r, "stack", string(debug.Stack()))
			if in.kind == inConnect {
				s.refused(errPanicked)
			}
			if in.kind != inDisconnect {
				s.Disconnect(true)
			}
		}
	}()
	switch in.kind {
	case inEvent:
		if !s.admitted {
			return // sent before the client knew that it was refused
		}
		s.ns.srv.stats.events.Add(1)
		if err := s.ns.h.dispatch(s.ctx, s, in); err != nil {
			s.answer(in.event, err)
		}
	case inConnect:
		s.connect()
	case inDisconnect:
		s.ns.srv.stats.sockets.Add(-1)
		defer s.ns.srv.work.done()
		if r := s.ns.srv.recovery; r != nil {
			defer r.leave(s)
		} else {
			defer s.ns.leave()
		}
		if h := s.ns.h.disconnect; h != nil && s.admitted {
			h(s, in.cause)
		}
	}
}

// what names the handler that in is for.
func (in *incoming) what() string {
	switch in.kind {
	case inConnect:
		return "OnConnect or a middleware"
	case inDisconnect:
		return "OnDisconnect"
	}
	return in.event.Name
}

// answer deals with what a handler returned.
func (s *Socket) answer(e *Event, err error) {
	if r, ok := errors.AsType[*ReplyError](err); ok && e.WantsReply() {
		if err = e.Reply(r.Args...); err == nil || errors.Is(err, ErrClosed) {
			return
		}
	}
	if s.ctx.Err() != nil && (errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(s.ctx))) {
		return // the socket ended under the handler, which says just that
	}
	s.log().Error("handler failed", "event", e.Name, "err", err)
}

// connect takes the socket through the middlewares into the namespace.
func (s *Socket) connect() {
	s.ns.srv.stats.sockets.Add(1)
	s.ns.open(s.ctx)
	r := s.ns.srv.recovery
	var from string // of a recovered socket
	var events []missed
	if r != nil {
		from, events = r.begin(s)
	}
	if s.recovered {
		defer r.arrived(s, s.id)
	}
	var err error
	if !s.recovered || !r.o.SkipMiddlewares {
		err = s.ns.h.admit(s)
	}
	if err == nil {
		if s.recovered {
			if !r.seat(s, from, events) {
				return // ended meanwhile, or is closed
			}
		} else {
			if r != nil {
				r.start(s)
			}
			if !s.ns.rooms.add(s) {
				return // ended meanwhile
			}
		}
		if s.ns.rooms.routed {
			s.ns.listen(s.ctx, s)
		}
		if h := s.ns.h.connect; h != nil {
			err = h(s.ctx, s)
		}
	}
	if err == nil {
		s.admitted = true
		if r != nil {
			r.secure(s)
		}
		s.accept()
		return
	}
	if s.ctx.Err() != nil {
		return // the client has left, or was told by Disconnect
	}
	s.ns.srv.stats.refused.Add(1)
	if _, ok := errors.AsType[*ConnectError](err); !ok {
		s.log().Error("connection refused", "err", err)
	}
	s.refused(err)
}

// refused ends a socket that may not connect, and says so to its client.
func (s *Socket) refused(err error) {
	s.mu.Lock()
	left := s.state == ended
	told := s.accepting // by an Ask in OnConnect: then it is too late for CONNECT_ERROR
	s.mu.Unlock()
	if left {
		return
	}
	s.end(&DisconnectError{Reason: ReasonServerDisconnect, Err: err}, told)
	if !told {
		s.conn.refuse(s.ns.name, err)
	}
}

func (s *Socket) log() *slog.Logger {
	return s.ns.srv.log.With("sid", s.id, "nsp", s.ns.name)
}
