package atoll

import (
	"context"
	"errors"
	"iter"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/internal/remote"
	"github.com/atollhq/atoll/protocol"
)

// A ServerHandler handles an event that another node sends with ServerSide. Events that
// ask for no answer are handled one at a time, in the order in which they came; those
// that ask, each on a goroutine of its own. ctx ends with the server. What it returns is logged.
type ServerHandler func(ctx context.Context, e *ServerEvent) error

// A ServerRegistrar takes handlers for events of other nodes: a *Namespace or a *Parent.
type ServerRegistrar interface {
	HandleServer(name string, h ServerHandler)
}

// HandleServer sets the handler of an event that other nodes send with ServerSide. It
// panics where the name is reserved, or has a handler already.
func (h *handlers) HandleServer(name string, f ServerHandler) {
	if err := checkName(name); err != nil {
		panic(err.Error())
	}
	if h.server[name] != nil {
		panic("atoll: server-side event " + name + " has a handler already on " + h.where)
	}
	if h.server == nil {
		h.server = make(map[string]ServerHandler)
	}
	h.server[name] = f
}

// A ServerEvent is an event from another node.
type ServerEvent struct {
	Name string
	Args event.Args

	answer  func(cluster.Answer)
	replied atomic.Bool
}

// WantsReply reports whether the sender waits for an answer that was not given yet.
func (e *ServerEvent) WantsReply() bool { return e.answer != nil && !e.replied.Load() }

// Reply answers the sender, once; then, and where none is asked for, it returns ErrNoReply.
func (e *ServerEvent) Reply(args ...any) error {
	data, attachments, err := event.Append([]byte{'['}, nil, args...)
	if err != nil {
		return err
	}
	if e.answer == nil || !e.replied.CompareAndSwap(false, true) {
		return ErrNoReply
	}
	e.answer(cluster.Answer{First: true, Data: append(data, ']'), Attachments: attachments})
	return nil
}

// ServerSide addresses the servers of the other nodes, not the clients: what it sends
// goes to their HandleServer handlers in the same namespace.
type ServerSide struct{ ns *Namespace }

// ServerSide returns the other nodes' servers.
func (ns *Namespace) ServerSide() ServerSide { return ServerSide{ns} }

// Emit sends an event to all other nodes. The error says that they could not be reached,
// or which argument cannot be encoded.
func (x ServerSide) Emit(ctx context.Context, name string, args ...any) error {
	op, err := x.ns.target().eventOp(cluster.ServerEmit, name, args)
	if err != nil || x.ns.srv.opts.Cluster == nil {
		return err
	}
	return x.ns.srv.opts.Cluster.Tell(ctx, op)
}

// AskAll sends an event to all other nodes and yields one answer of each as they come. If
// some are missing when the time is up, the last pair holds a *PartialError that names them.
func (x ServerSide) AskAll(ctx context.Context, name string, args ...any) iter.Seq2[event.Args, error] {
	return func(yield func(event.Args, error) bool) {
		op, err := x.ns.target().eventOp(cluster.ServerAsk, name, args)
		if err != nil {
			yield(event.Args{}, err)
			return
		}
		if x.ns.srv.opts.Cluster == nil {
			return
		}
		handoff(ctx)
		for a, err := range x.ns.srv.opts.Cluster.Ask(ctx, op) {
			if err != nil {
				yield(event.Args{}, &PartialError{Err: err})
				return
			}
			if !yield(event.ArgsOf(inner(a.Data), a.Attachments), nil) {
				return
			}
		}
	}
}

// A serverInbox holds what other nodes sent and was not handled yet.
type serverInbox struct {
	mu      sync.Mutex
	queue   []func()
	size    int // bytes of what waits, 128 more for each
	running bool
}

// What bounds the server-side events of a namespace: questions worked on at once, and
// bytes of other events that wait for their turn. What is too much is not handled, and logged.
const (
	maxServerAsks  = 1024
	maxServerQueue = 64 << 20
)

// serverEvent takes an event of another node to its handler. Without a handler, a node
// that asks waits in vain, as with the official server.
func (ns *Namespace) serverEvent(op *cluster.Op, answer func(cluster.Answer)) {
	name, args, _, err := protocol.SplitEvent(op.Data)
	if err != nil {
		ns.srv.stats.malformed.Add(1)
		return
	}
	if r := ns.srv.recovery; r != nil && string(name) == staleEvent {
		r.stale(ns, event.ArgsOf(args, op.Attachments))
		return
	}
	if ns.name == "/" && string(name) == remote.Drain {
		ns.srv.drainOrder(event.ArgsOf(args, op.Attachments), answer)
		return
	}
	h := ns.h.server[string(name)]
	if h == nil {
		ns.srv.stats.unhandled.Add(1)
		return
	}
	e := &ServerEvent{Name: string(name), Args: event.ArgsOf(args, op.Attachments), answer: answer}
	f := func() { ns.serve(h, e) }
	if answer != nil {
		if ns.asks.Add(1) > maxServerAsks {
			ns.asks.Add(-1)
			ns.srv.log.Warn("too many questions of other nodes at once; one is not answered", "nsp", ns.name, "event", e.Name, "limit", maxServerAsks)
			return
		}
		ns.srv.work.Go(func() {
			defer ns.asks.Add(-1)
			f()
		})
		return
	}
	size := 128 + len(op.Data)
	for _, a := range op.Attachments {
		size += len(a)
	}
	if !ns.serverIn.put(ns.srv, size, f) {
		ns.srv.log.Error("server-side handlers are too slow; an event is lost", "nsp", ns.name, "event", e.Name, "limit", maxServerQueue)
	}
}

// put has f, which keeps so many bytes, called behind what waits. It reports false where too much does.
func (in *serverInbox) put(srv *Server, size int, f func()) bool {
	in.mu.Lock()
	if in.size+size > maxServerQueue && in.size > 0 {
		in.mu.Unlock()
		return false
	}
	in.queue = append(in.queue, f)
	in.size += size
	start := !in.running
	in.running = true
	in.mu.Unlock()
	if start {
		srv.work.Go(in.run)
	}
	return true
}

func (in *serverInbox) run() {
	for {
		in.mu.Lock()
		queue := in.queue
		in.queue, in.size = nil, 0
		if len(queue) == 0 {
			in.running = false
			in.mu.Unlock()
			return
		}
		in.mu.Unlock()
		for _, f := range queue {
			f()
		}
	}
}

// serve runs a handler for an event of another node.
func (ns *Namespace) serve(h ServerHandler, e *ServerEvent) {
	log := ns.srv.log.With("nsp", ns.name, "event", e.Name)
	defer func() {
		if r := recover(); r != nil {
			ns.srv.stats.panics.Add(1)
			log.Error("panic in a server-side handler", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	err := h(ns.srv.ctx, e)
	if r, ok := errors.AsType[*ReplyError](err); ok && e.WantsReply() {
		err = e.Reply(r.Args...)
	}
	if err != nil && ns.srv.ctx.Err() == nil {
		log.Error("server-side handler failed", "err", err)
	}
}
