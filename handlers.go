package atoll

import (
	"context"
	"fmt"
)

// A Handler handles an event of a client. The handlers of one socket run one at a time,
// in the order in which the client sent, after OnConnect; those of different sockets run
// at once. ctx ends with the socket. A handler may take its time: nothing of its session
// but its own next events waits for it. What it returns is logged, except a *ReplyError.
type Handler func(ctx context.Context, s *Socket, e *Event) error

// A Registrar takes handlers: a *Namespace or a *Parent.
type Registrar interface {
	Handle(name string, h Handler)
}

// Handlers are what runs for the sockets of a namespace. Set them before the server
// serves: they are read without locks.
type handlers struct {
	where      string // for panics at start-up
	admission  []func(ctx context.Context, s *Socket) error
	connect    func(ctx context.Context, s *Socket) error
	disconnect func(s *Socket, cause *DisconnectError)
	before     []Handler // event middlewares
	any        []Handler
	outgoing   func(s *Socket, name string)
	events     map[string]*entry
	server     map[string]ServerHandler
}

type entry struct {
	name string
	fn   Handler
}

func (h *handlers) find(name []byte) *entry { return h.events[string(name)] }

// Use adds a middleware: it runs for each client that wants to connect, before OnConnect,
// in the order of the calls of Use. An error refuses the connection; return a
// *ConnectError to tell the client why.
func (h *handlers) Use(f func(ctx context.Context, s *Socket) error) {
	h.admission = append(h.admission, f)
}

// OnConnect sets what runs when a client has passed the middlewares. The socket is in the
// namespace by then; what is emitted to it, and to rooms that it joins here, reaches the
// client right behind the news that it is connected, so nothing is missed. An error
// refuses the connection, as in a middleware. OnConnect can be set once.
func (h *handlers) OnConnect(f func(ctx context.Context, s *Socket) error) {
	if h.connect != nil {
		panic("atoll: OnConnect is set already on " + h.where)
	}
	h.connect = f
}

// OnDisconnect sets what runs, once, for each socket whose OnConnect returned nil, when
// it has ended: behind the handlers of everything that the client sent. The socket is in
// no room any more; Socket.Rooms tells where it was. OnDisconnect can be set once.
func (h *handlers) OnDisconnect(f func(s *Socket, cause *DisconnectError)) {
	if h.disconnect != nil {
		panic("atoll: OnDisconnect is set already on " + h.where)
	}
	h.disconnect = f
}

// Handle sets the handler of an event: the untyped door below On and Answer. It panics
// where the name is reserved, or has a handler already.
func (h *handlers) Handle(name string, f Handler) {
	if err := checkName(name); err != nil {
		panic(err.Error())
	}
	if h.events[name] != nil {
		panic(fmt.Sprintf("atoll: event %q has a handler already on %s", name, h.where))
	}
	if h.events == nil {
		h.events = make(map[string]*entry)
	}
	h.events[name] = &entry{name, f}
}

// UseEvent adds an event middleware: it runs before the handler of each event, in the
// order of the calls of UseEvent. An error drops the event, and is treated as the
// handler's own.
func (h *handlers) UseEvent(f Handler) { h.before = append(h.before, f) }

// OnAny adds a catch-all: it runs for each event, also for those that nobody handles,
// before the handler.
func (h *handlers) OnAny(f Handler) { h.any = append(h.any, f) }

// OnAnyOutgoing sets what is called for each event that goes to a socket of this node,
// by the goroutine that emits, or by one of the server where it goes to several sockets or comes from another node and
// the server has Options.Recovery. It must not block. It can be set once.
func (h *handlers) OnAnyOutgoing(f func(s *Socket, name string)) {
	if h.outgoing != nil {
		panic("atoll: OnAnyOutgoing is set already on " + h.where)
	}
	h.outgoing = f
}

func (h *handlers) admit(s *Socket) error {
	for _, f := range h.admission {
		if err := f(s.ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// dispatch takes an event through the middlewares and catch-alls to its handler.
func (h *handlers) dispatch(ctx context.Context, s *Socket, in *incoming) error {
	for _, f := range h.before {
		if err := f(ctx, s, in.event); err != nil {
			return err
		}
	}
	for _, f := range h.any {
		if err := f(ctx, s, in.event); err != nil {
			return err
		}
	}
	if in.fn == nil {
		s.ns.srv.stats.unhandled.Add(1)
		return nil
	}
	return in.fn(ctx, s, in.event)
}
