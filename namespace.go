package atoll

import (
	"context"
	"iter"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
)

// A Namespace is a part of the server that clients connect to by name, with handlers and
// rooms of its own. Set its handlers before the server serves; everything else may be
// called by any number of goroutines at once.
//
// Emit, To, Except and the other methods that it shares with Target address the sockets
// of the namespace on all nodes.
type Namespace struct {
	*handlers
	h     *handlers // the same; a name for readers inside
	srv   *Server
	name  string
	rooms rooms
	ids   atomic.Int64 // of acks

	users   int  // sockets that are in it or on their way; under srv.mu
	dynamic bool // made for a client, goes with its last one

	opening   atomic.Bool            // with the cluster
	opened    chan struct{}          // closed when that was tried
	before    <-chan struct{}        // closed when the cluster has left the last namespace of this name; nil: there is none
	reopened  chan struct{}          // closed when reopen ends; nil: it never began
	gone      chan struct{}          // closed when the last client of a dynamic namespace has left
	turn      turn                   // of events that are kept in memory
	last      atomic.Pointer[string] // offset of the last of them
	steps     atomic.Uint64          // odd while one of them is appended and performed
	quiet     quiet                  // the saver's
	hooks     serverInbox            // calls of OnAnyOutgoing for events of a log
	serverIn  serverInbox
	asks      atomic.Int64 // questions of other nodes being worked on
	dynParent *Parent
}

// init readies a namespace that nobody knows yet.
func (ns *Namespace) init() {
	if node := ns.srv.opts.Cluster; node != nil {
		ns.rooms.routed, ns.rooms.routedIDs = node.Routes(), node.RoutesIDs()
	}
	if r := ns.srv.recovery; r != nil {
		if k, ok := r.keeper.(*memoryKeeper); ok {
			position := k.memory.Position()
			ns.last.Store(&position)
		}
	}
}

// Name returns the namespace's name, which begins with a slash.
func (ns *Namespace) Name() string { return ns.name }

// nextID returns the id of the next event that wants an ack.
func (ns *Namespace) nextID() int64 { return ns.ids.Add(1) - 1 }

// open tells the cluster that this node is in the namespace. It waits
// until messages from other nodes will arrive; where the cluster is away, a goroutine
// of the server goes on trying.
func (ns *Namespace) open(ctx context.Context) {
	node := ns.srv.opts.Cluster
	if node == nil {
		return
	}
	if !ns.opening.CompareAndSwap(false, true) {
		select {
		case <-ns.opened:
		default:
			handoff(ctx)
			<-ns.opened
		}
		return
	}
	defer close(ns.opened)
	handoff(ctx)
	ctx, cancel := context.WithTimeout(ns.srv.ctx, openTimeout)
	defer cancel()
	if err := ns.openNow(ctx, node); err != nil {
		ns.srv.log.Error("cannot hear other nodes in the namespace yet; trying again", "nsp", ns.name, "err", err)
		ns.reopened = make(chan struct{})
		ns.srv.work.Go(func() { ns.reopen(node) })
	}
}

// openNow tries once.
func (ns *Namespace) openNow(ctx context.Context, node *cluster.Node) error {
	if ns.before != nil {
		select {
		case <-ns.before:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return node.Open(ctx, ns.name)
}

// reopen tries until it succeeds, or the namespace or the server ends.
func (ns *Namespace) reopen(node *cluster.Node) {
	defer close(ns.reopened)
	for wait := reopenFirst; ; wait = min(2*wait, reopenMost) {
		select {
		case <-time.After(wait):
		case <-ns.gone:
			return
		case <-ns.srv.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(ns.srv.ctx, openTimeout)
		err := ns.openNow(ctx, node)
		cancel()
		if err == nil {
			ns.srv.log.Info("hearing other nodes in the namespace again", "nsp", ns.name)
			return
		}
	}
}

// listen has the cluster send this node what is for the rooms of sockets. It waits for the medium, for
// a few seconds at most.
func (ns *Namespace) listen(ctx context.Context, sockets ...*Socket) {
	handoff(ctx)
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	node := ns.srv.opts.Cluster
	for _, s := range sockets {
		names := ns.rooms.unheld(s)
		if len(names) == 0 {
			continue
		}
		if err := node.Enter(ctx, ns.name, names...); err != nil && ns.srv.ctx.Err() == nil && s.ctx.Err() == nil {
			s.log().Warn("cannot hear other nodes in rooms yet; trying again", "rooms", len(names), "err", err)
		}
		ns.unlisten(ns.rooms.hold(s, names))
	}
}

// unlisten tells the cluster that one socket less is in the rooms.
func (ns *Namespace) unlisten(gone []string) {
	if len(gone) > 0 {
		ns.srv.opts.Cluster.Exit(ns.name, gone...)
	}
}

// leave is called once for each socket that enter was called for.
func (ns *Namespace) leave() {
	ns.srv.mu.Lock()
	ns.users--
	last := ns.users == 0 && ns.dynamic && ns.srv.namespaces[ns.name] == ns
	if last {
		delete(ns.srv.namespaces, ns.name)
		ns.dynParent.remove(ns)
		if ns.srv.opts.Cluster != nil {
			closed := make(chan struct{})
			ns.srv.closing[ns.name] = closed // the next of this name waits for it
			ns.srv.work.Go(func() { ns.close(closed) })
		}
	}
	ns.srv.mu.Unlock()
}

// close stops listening to a namespace that nobody is in any more.
func (ns *Namespace) close(closed chan struct{}) {
	defer close(closed)
	close(ns.gone)
	if ns.before != nil {
		<-ns.before
	}
	if ns.reopened != nil {
		<-ns.reopened
	}
	if err := ns.srv.opts.Cluster.CloseNamespace(ns.name); err != nil {
		ns.srv.log.Warn("cannot stop listening to the namespace", "nsp", ns.name, "err", err)
	}
	ns.srv.mu.Lock()
	defer ns.srv.mu.Unlock()
	if ns.srv.closing[ns.name] == closed {
		delete(ns.srv.closing, ns.name)
	}
}

// Sockets returns how many sockets of this node are in the namespace.
func (ns *Namespace) Sockets() int { return ns.rooms.len() }

// Socket returns the socket of this node with the given id, or nil.
func (ns *Namespace) Socket(id string) *Socket {
	ns.rooms.mu.RLock()
	defer ns.rooms.mu.RUnlock()
	return ns.rooms.byID[id]
}

// LocalRooms lists the rooms that have members on this node, the sockets' own among them.
func (ns *Namespace) LocalRooms() []string { return ns.rooms.list() }

func (ns *Namespace) target() Target { return Target{ns: ns} }

// To returns the sockets that are in any of the rooms.
func (ns *Namespace) To(rooms ...string) Target { return ns.target().To(rooms...) }

// In is To; it reads better before Join, Leave, Disconnect and Fetch.
func (ns *Namespace) In(rooms ...string) Target { return ns.To(rooms...) }

// Except returns the sockets that are in none of the rooms.
func (ns *Namespace) Except(rooms ...string) Target { return ns.target().Except(rooms...) }

// Local returns the sockets of this node.
func (ns *Namespace) Local() Target { return ns.target().Local() }

// Volatile is Target.Volatile for all sockets.
func (ns *Namespace) Volatile() Target { return ns.target().Volatile() }

// Emit is Target.Emit for all sockets.
func (ns *Namespace) Emit(ctx context.Context, name string, args ...any) error {
	return ns.target().Emit(ctx, name, args...)
}

// AskAll is Target.AskAll for all sockets.
func (ns *Namespace) AskAll(ctx context.Context, name string, args ...any) iter.Seq2[event.Args, error] {
	return ns.target().AskAll(ctx, name, args...)
}

// Fetch is Target.Fetch for all sockets.
func (ns *Namespace) Fetch(ctx context.Context) iter.Seq2[RemoteSocket, error] {
	return ns.target().Fetch(ctx)
}

// Count is Target.Count for all sockets.
func (ns *Namespace) Count(ctx context.Context) (int, error) { return ns.target().Count(ctx) }

// A Parent stands for all namespaces whose names match: it holds their handlers. Each of
// them comes with its first client and goes with its last.
type Parent struct {
	*handlers
	srv   *Server
	match func(ctx context.Context, name string, auth event.Args) bool
	re    *regexp.Regexp // nil: match alone decides

	children map[string]*Namespace // under srv.mu
}

// Emit sends an event to all sockets of all namespaces under p that have sockets on this
// node, on all nodes. The error is the first of those of the namespaces.
func (p *Parent) Emit(ctx context.Context, name string, args ...any) error {
	var first error
	for _, ns := range p.Namespaces() {
		if err := ns.Emit(ctx, name, args...); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Namespaces lists the namespaces under p that this node has sockets in.
func (p *Parent) Namespaces() []*Namespace {
	p.srv.mu.Lock()
	defer p.srv.mu.Unlock()
	list := make([]*Namespace, 0, len(p.children))
	for _, ns := range p.children {
		list = append(list, ns)
	}
	return list
}

func (p *Parent) remove(ns *Namespace) { delete(p.children, ns.name) }
