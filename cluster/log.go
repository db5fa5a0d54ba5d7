package cluster

import (
	"context"
	"iter"
)

// Keeps reports whether the cluster's bus is a Log, so that Keep and Since work.
func (n *Node) Keeps() bool {
	_, ok := n.bus.(Log)
	return ok
}

// Keep tells op to all nodes through the log. op, which must be an Emit, comes back to this node's
// Receiver like to all others', with its Offset, in the order of the log; Keep returns when that has been
// performed. So every node performs what is kept in the same order.
//
// After an error op was not performed on this node, and will not be: the caller may do so
// without an offset. Others may have got it.
func (n *Node) Keep(ctx context.Context, op *Op) (offset string, err error) {
	return "", ErrUnsupported
}

// Since yields the Emits that are kept in a namespace behind offset, all nodes' and this one's, in order.
// The last pair may be an error; it wraps ErrTrimmed where something is no longer kept.
func (n *Node) Since(ctx context.Context, namespace, offset string) iter.Seq2[*Op, error] {
	return func(yield func(*Op, error) bool) { yield(nil, ErrUnsupported) }
}

// Position returns the offset of the last kept operation that the node's Receiver has
// performed in a namespace, or of the end of the log when the node began to follow it.
func (n *Node) Position(namespace string) string { return "" }

// Bus returns the bus that the node was made with.
func (n *Node) Bus() Bus { return n.bus }
