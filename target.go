package atoll

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
)

// A Target is a choice of sockets in one namespace, on all nodes, and how they are to be
// addressed. It is a value: each method returns a new one, and any number of goroutines
// may share one. It begins with Namespace.To, Socket.To and their like.
type Target struct {
	ns      *Namespace
	sel     cluster.Selector
	flags   cluster.Flags
	local   bool
	timeout time.Duration
	fields  cluster.Fields // of Fetch
}

// To adds rooms: the sockets that are in any of the rooms named so far. A socket in
// several gets an event once. A socket's id is a room.
func (t Target) To(rooms ...string) Target {
	t.sel.Rooms = slices.Concat(t.sel.Rooms, rooms)
	return t
}

// In is To; it reads better before Join, Leave, Disconnect and Fetch.
func (t Target) In(rooms ...string) Target { return t.To(rooms...) }

// Except leaves out the sockets that are in any of the rooms.
func (t Target) Except(rooms ...string) Target {
	t.sel.Except = slices.Concat(t.sel.Except, rooms)
	return t
}

// Local leaves out the sockets of other nodes.
func (t Target) Local() Target {
	t.local = true
	return t
}

// Volatile lets events be dropped, and counted, for each socket where they would have to
// wait for the connection.
func (t Target) Volatile() Target {
	t.flags |= cluster.Volatile
	return t
}

// Compress says whether the event may be compressed on its way to clients that poll
// (Engine.CompressAbove). The default is that it may.
func (t Target) Compress(ok bool) Target {
	t.flags &^= cluster.NoCompress
	if !ok {
		t.flags |= cluster.NoCompress
	}
	return t
}

// Timeout sets how long AskAll waits. Without it, the context's deadline counts, or else
// Options.AckTimeout.
func (t Target) Timeout(d time.Duration) Target {
	t.timeout = d
	return t
}

func (t Target) op(kind cluster.Kind) *cluster.Op {
	return &cluster.Op{Kind: kind, Namespace: t.ns.name, Selector: t.sel, Flags: t.flags}
}

func (t Target) eventOp(kind cluster.Kind, name string, args []any) (*cluster.Op, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	op := t.op(kind)
	var err error
	op.Data, op.Attachments, err = event.AppendEvent(nil, nil, name, args...)
	return op, err
}

// tell performs op here, then on the other nodes.
func (t Target) tell(ctx context.Context, op *cluster.Op) error {
	t.ns.do(op, nil)
	node := t.ns.srv.opts.Cluster
	if t.local || node == nil {
		return nil
	}
	return node.Tell(ctx, op)
}

// Emit sends an event to the sockets of all nodes. Those of this node always get it;
// the error says that other nodes could not be reached, or which argument cannot be
// encoded. It waits until the cluster's medium has the event, not for the clients.
func (t Target) Emit(ctx context.Context, name string, args ...any) error {
	op, err := t.eventOp(cluster.Emit, name, args)
	if err != nil {
		return err
	}
	if r := t.ns.srv.recovery; r != nil && !t.local && op.Flags&cluster.Volatile == 0 {
		return r.keep(ctx, t.ns, op)
	}
	return t.tell(ctx, op)
}

// Join has the sockets of all nodes enter rooms.
func (t Target) Join(ctx context.Context, rooms ...string) error {
	op := t.op(cluster.JoinRooms)
	op.Names = rooms
	return t.tell(ctx, op)
}

// Leave has the sockets of all nodes leave rooms.
func (t Target) Leave(ctx context.Context, rooms ...string) error {
	op := t.op(cluster.LeaveRooms)
	op.Names = rooms
	return t.tell(ctx, op)
}

// Disconnect disconnects the sockets of all nodes, as Socket.Disconnect does.
func (t Target) Disconnect(ctx context.Context, all bool) error {
	op := t.op(cluster.Disconnect)
	op.Close = all
	return t.tell(ctx, op)
}

// AskAll sends an event to the sockets of all nodes and yields their acks as they come.
// If some are missing when the time is up, the last pair holds a *PartialError, which
// says what is: how many clients of this node, and which nodes. The sequence may be
// left early, and ranged over once.
func (t Target) AskAll(ctx context.Context, name string, args ...any) iter.Seq2[event.Args, error] {
	return func(yield func(event.Args, error) bool) {
		op, err := t.eventOp(cluster.EmitAck, name, args)
		if err != nil {
			yield(event.Args{}, err)
			return
		}
		t.askAll(ctx, op, yield)
	}
}

func (t Target) askAll(ctx context.Context, op *cluster.Op, yield func(event.Args, error) bool) {
	srv := t.ns.srv
	ctx, cancel := srv.ackContext(ctx, t.timeout)
	defer cancel()
	if d, ok := ctx.Deadline(); ok {
		op.Timeout = max(time.Until(d), time.Millisecond)
	}

	var answers mailbox[cluster.Answer]
	remote := make(chan error, 1)
	node := srv.opts.Cluster
	asking := !t.local && node != nil // other nodes
	if asking {
		wait := srv.goWait(func() {
			var last error
			for a, err := range node.Ask(ctx, op) {
				if err != nil {
					last = err
				} else if !a.First {
					answers.put(a)
				}
			}
			remote <- last
		})
		defer wait()
		defer cancel()
	}
	missing, lost := 0, 0 // clients of this node
	local := newAck(t.ns, op, func(a cluster.Answer) {
		a.Node = srv.node
		answers.put(a)
	}, func() { answers.put(cluster.Answer{Node: srv.node, Clients: -1}) })
	defer local.end()
	local.start()

	// yieldAll yields what has come so far.
	yieldAll := func() bool {
		for _, a := range answers.take() {
			if a.Node == srv.node {
				if a.First {
					missing = a.Clients
					continue
				}
				missing--
				if a.Clients < 0 {
					lost++
					continue
				}
			}
			if !yield(event.ArgsOf(inner(a.Data), a.Attachments), nil) {
				return false
			}
		}
		return true
	}

	handoff(ctx)
	var cause error // of what is missing
	for expired := false; yieldAll(); {
		switch {
		case !asking && (missing == 0 || expired):
			if cause == nil && missing > 0 {
				cause = context.Cause(ctx)
			}
			if cause != nil || lost > 0 {
				yield(event.Args{}, &PartialError{Missing: missing + lost, Err: cause})
			}
			return
		case expired: // and so is the question to the others, which knows who is missing
			cause = <-remote
			asking = false
			continue
		}
		select {
		case cause = <-remote:
			asking = false
		case <-answers.full():
		case <-ctx.Done():
			expired = true
		}
	}
}
