package client

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/protocol"
)

// A Handler handles an event of the server. The handlers of a Socket run one at a time, in
// the order in which the server sent. ctx ends with Close. What it returns is logged.
type Handler func(ctx context.Context, e *Event) error

// An Event is an event from the server, on its way to handlers.
type Event struct {
	Name string
	Args event.Args

	sock *Socket
	sess *session
	id   int64 // negative: no reply wanted, or given already
}

// WantsReply reports whether the server asked for an ack that was not given yet.
func (e *Event) WantsReply() bool { return e.id >= 0 }

// Reply answers the server's ack. It is for one goroutine, once: then, and where the
// server asked for none, it returns ErrNoReply. A reply over a connection that is lost
// meanwhile goes nowhere, and the error is ErrClosed.
func (e *Event) Reply(args ...any) error {
	if e.id < 0 {
		return ErrNoReply
	}
	data, attachments, err := event.Append([]byte{'['}, nil, args...)
	if err != nil {
		return err
	}
	p := protocol.Packet{Type: protocol.Ack, Namespace: e.sock.nsp, ID: e.id, Data: append(data, ']'), Attachments: attachments}
	e.id = protocol.NoID
	return e.sess.send(messages(&p)...)
}

// On handles an event with a typed argument:
//
//	client.On(sock, chat.Said, func(ctx context.Context, m chat.Message) error { ... })
//	client.On(sock, "typing", func(ctx context.Context, who string) error { ... })
//
// How a T is read from the event's arguments is package event's to say. An event whose
// arguments do not fit is logged and dropped. If the server asked for an ack, it gets an
// empty one once the handler has returned nil.
func On[T any](s *Socket, name event.Name[T], f func(ctx context.Context, v T) error) {
	s.Handle(string(name), func(ctx context.Context, e *Event) error {
		v, err := event.DecodeInto[T](e.Args)
		if err != nil {
			return err
		}
		if err := f(ctx, v); err != nil || !e.WantsReply() {
			return err
		}
		return e.Reply()
	})
}

// Answer handles a request of the server: an event whose ack is f's result. A server that
// asked for no ack gets none, and neither does one whose request ends in an error.
func Answer[T, R any](s *Socket, name event.Request[T, R], f func(ctx context.Context, v T) (R, error)) {
	s.Handle(string(name), func(ctx context.Context, e *Event) error {
		v, err := event.DecodeInto[T](e.Args)
		if err != nil {
			return err
		}
		reply, err := f(ctx, v)
		if err != nil || !e.WantsReply() {
			return err
		}
		return e.Reply(event.Values(reply)...)
	})
}

type handlers struct {
	events       map[string]Handler
	any          []Handler
	connect      func(ctx context.Context) error
	disconnect   func(cause *DisconnectError)
	connectError func(err error)
}

// Handle sets the handler of an event: the untyped door below On and Answer. It
// panics where the name is reserved, or has a handler already.
func (s *Socket) Handle(name string, f Handler) {
	if protocol.Reserved(name) {
		panic(fmt.Sprintf("client: the event name %q is reserved", name))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handlers.events[name] != nil {
		panic(fmt.Sprintf("client: event %q has a handler already", name))
	}
	if s.handlers.events == nil {
		s.handlers.events = make(map[string]Handler)
	}
	s.handlers.events[name] = f
}

// OnAny adds a catch-all: it runs for each event, also for those that nobody handles,
// before the handler.
func (s *Socket) OnAny(f Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers.any = append(s.handlers.any[:len(s.handlers.any):len(s.handlers.any)], f)
}

// OnConnect sets what runs each time that the server has let the Socket into the namespace,
// after a reconnection too. What it returns is logged. It can be set once.
func (s *Socket) OnConnect(f func(ctx context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	once(s.handlers.connect == nil, "OnConnect")
	s.handlers.connect = f
}

// OnDisconnect sets what runs each time that the Socket is connected no longer; cause
// says why, and whether it will come back by itself. It can be set once.
func (s *Socket) OnDisconnect(f func(cause *DisconnectError)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	once(s.handlers.disconnect == nil, "OnDisconnect")
	s.handlers.disconnect = f
}

// OnConnectError sets what runs for each attempt to connect that fails: with a
// *ConnectError where the server refuses, with ErrGaveUp in the last one's error where
// no more is tried. It can be set once.
func (s *Socket) OnConnectError(f func(err error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	once(s.handlers.connectError == nil, "OnConnectError")
	s.handlers.connectError = f
}

func once(free bool, name string) {
	if !free {
		panic("client: " + name + " is set already")
	}
}

// The kinds of items.
const (
	itemEvent = iota
	itemConnect
	itemDisconnect
	itemFailed
)

// An item is something that happened, for handlers to know of.
type item struct {
	kind  uint8
	event *Event // itemEvent
	err   error  // itemDisconnect: a *DisconnectError; itemFailed
	size  int
}

// An inbox holds what the handlers have not seen, and runs them while there is
// something. The mutex of its socket guards it.
type inbox struct {
	items   []item
	bytes   int
	running bool
	runner  sync.WaitGroup
}

// push adds an item. s.mu is held.
func (b *inbox) push(s *Socket, it item) {
	if s.closed {
		return
	}
	b.items = append(b.items, it)
	b.bytes += it.size
	if !b.running {
		b.running = true
		b.runner.Go(s.runInbox)
	}
}

// runInbox runs handlers until nothing waits.
func (s *Socket) runInbox() {
	for {
		s.mu.Lock()
		items := s.inbox.items
		s.inbox.items = nil
		if len(items) == 0 {
			s.inbox.running = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		for i := range items {
			s.handle(&items[i])
			s.mu.Lock()
			s.inbox.bytes -= items[i].size
			s.mu.Unlock()
			items[i] = item{}
		}
	}
}

func (s *Socket) handle(it *item) {
	s.mu.Lock()
	h := s.handlers
	var f Handler
	if it.kind == itemEvent {
		f = h.events[it.event.Name]
	}
	s.mu.Unlock()
	switch it.kind {
	case itemEvent:
		for _, a := range h.any {
			s.log(a(s.ctx, it.event), it.event.Name)
		}
		if f != nil {
			s.log(f(s.ctx, it.event), it.event.Name)
		}
	case itemConnect:
		if h.connect != nil {
			s.log(h.connect(s.ctx), "connect")
		}
	case itemDisconnect:
		if h.disconnect != nil {
			h.disconnect(it.err.(*DisconnectError))
		}
	case itemFailed:
		if h.connectError != nil {
			h.connectError(it.err)
		}
	}
}

// log logs what a handler returned. The name comes from the server: it is cut where it is long.
func (s *Socket) log(err error, name string) {
	if err == nil {
		return
	}
	const enough = 100
	if len(name) > enough {
		name = string(bytes.ToValidUTF8([]byte(name[:enough]), nil)) + "..."
	}
	s.link.cfg.Logger.Error("socket.io client: handler", "nsp", s.nsp, "event", name, "err", err)
}
