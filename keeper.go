package atoll

import (
	"context"
	"iter"
	"sync"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/recovery"
)

// A keeper is the log that the events of a server with recovery go through. In each namespace
// they are performed one at a time, in the log's order.
type keeper interface {
	// keep appends an Emit and has it performed, here at least. It returns when that was done. After an error
	// it was performed here without an offset.
	keep(ctx context.Context, ns *Namespace, op *cluster.Op) error
	// since yields what is kept in a namespace behind an offset.
	since(ctx context.Context, ns *Namespace, offset string) iter.Seq2[*cluster.Op, error]
	// position is the offset of the last event that was performed in the namespace, or a later one that is before
	// what is performed next.
	position(ns *Namespace) string
	// advance moves position on where nothing is sent in the namespace.
	advance(ctx context.Context, ns *Namespace) error
	// at calls f, which does not block, while no event is performed in the namespace. It
	// reports false where the server ends.
	at(ctx context.Context, ns *Namespace, f func()) bool
	compare(a, b string) int
}

// A clusterKeeper is the log of a cluster whose bus has one.
type clusterKeeper struct {
	node *cluster.Node
	log  cluster.Log
}

func (k *clusterKeeper) keep(ctx context.Context, ns *Namespace, op *cluster.Op) error {
	handoff(ctx)
	_, err := k.node.Keep(ctx, op)
	if err != nil {
		ns.do(op, nil)
	}
	return err
}

func (k *clusterKeeper) since(ctx context.Context, ns *Namespace, offset string) iter.Seq2[*cluster.Op, error] {
	return k.node.Since(ctx, ns.name, offset)
}

func (k *clusterKeeper) position(ns *Namespace) string { return k.node.Position(ns.name) }

func (k *clusterKeeper) advance(ctx context.Context, ns *Namespace) error {
	return k.node.Advance(ctx, ns.name)
}

func (k *clusterKeeper) at(ctx context.Context, _ *Namespace, f func()) bool {
	handoff(ctx)
	return k.node.Loop(f)
}

func (k *clusterKeeper) compare(a, b string) int { return k.log.Compare(a, b) }

// A memoryKeeper is a log of this node alone. What other nodes emit enters it as it arrives.
type memoryKeeper struct {
	memory *recovery.Memory
	node   *cluster.Node // nil: there are no others
}

func (k *memoryKeeper) keep(ctx context.Context, ns *Namespace, op *cluster.Op) error {
	k.perform(ctx, ns, op)
	if k.node == nil {
		return nil
	}
	return k.node.Tell(ctx, op)
}

// perform appends op and performs it. op itself stays as it is.
func (k *memoryKeeper) perform(ctx context.Context, ns *Namespace, op *cluster.Op) {
	kept := *op
	ns.turn.do(ctx, func() {
		ns.steps.Add(1)
		offset := k.memory.Append(&kept)
		ns.do(&kept, nil)
		ns.last.Store(&offset)
		ns.steps.Add(1)
	})
}

// remote performs an event of another node, or of an emitter. It is called on the node's loop.
func (r *recoverer) remote(ns *Namespace, op *cluster.Op) {
	if k, ok := r.keeper.(*memoryKeeper); ok && op.Flags&cluster.Volatile == 0 {
		k.perform(context.Background(), ns, op) // whoever has the turn does not block
		return
	}
	ns.do(op, nil)
}

func (k *memoryKeeper) since(_ context.Context, ns *Namespace, offset string) iter.Seq2[*cluster.Op, error] {
	return k.memory.Since(ns.name, offset)
}

// position is the end of the log, which other namespaces move on, where all of ns up to there is performed.
func (k *memoryKeeper) position(ns *Namespace) string {
	before := ns.steps.Load()
	end := k.memory.Position()
	if before%2 == 0 && ns.steps.Load() == before {
		return end
	}
	return *ns.last.Load()
}

func (k *memoryKeeper) advance(context.Context, *Namespace) error { return nil }

func (k *memoryKeeper) at(ctx context.Context, ns *Namespace, f func()) bool {
	ns.turn.do(ctx, f)
	return true
}

func (k *memoryKeeper) compare(a, b string) int { return k.memory.Compare(a, b) }

// A turn has things done one at a time, in the order in which they were asked for.
type turn struct {
	mu      sync.Mutex
	busy    bool
	waiting []chan struct{}
}

// do calls f, which must not block, when it is its turn.
func (t *turn) do(ctx context.Context, f func()) {
	t.mu.Lock()
	if t.busy {
		mine := make(chan struct{})
		t.waiting = append(t.waiting, mine)
		t.mu.Unlock()
		handoff(ctx)
		<-mine
	} else {
		t.busy = true
		t.mu.Unlock()
	}
	defer t.next()
	f()
}

// next gives the turn to who has waited longest.
func (t *turn) next() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.waiting, t.busy = nil, false
		return
	}
	close(t.waiting[0])
	t.waiting[0] = nil
	t.waiting = t.waiting[1:]
}
