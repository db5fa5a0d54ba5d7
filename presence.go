package atoll

import (
	"context"
	"iter"
	"slices"

	"github.com/atollhq/atoll/cluster"
)

// A RemoteSocket is a socket of some node, as that node describes it. Its methods act on
// the socket wherever it is.
type RemoteSocket struct {
	ID    string
	Node  string   // empty where the cluster's format does not say
	Rooms []string // its own id among them; nil where Target.Fields left them out

	ns        *Namespace
	handshake []byte
	data      []byte
}

// Handshake decodes what is known of the request that opened the session into v: an
// object with the fields of the official server's handshake.
func (r *RemoteSocket) Handshake(v any) error { return decodeJSON(r.handshake, v) }

// Data decodes the value that was stored with SetData into v.
func (r *RemoteSocket) Data(v any) error { return decodeJSON(r.data, v) }

// Target returns the socket as a target, to be emitted to, moved or disconnected.
func (r *RemoteSocket) Target() Target { return r.ns.To(r.ID) }

// Fetch yields the sockets of all nodes, those of this node first. If nodes are missing,
// the last pair holds a *PartialError that names them. A node with many sockets
// tells of them in parts of 1,000, where the cluster's format can, so the sequence begins before all are described.
func (t Target) Fetch(ctx context.Context) iter.Seq2[RemoteSocket, error] {
	return func(yield func(RemoteSocket, error) bool) {
		op := t.op(cluster.Fetch)
		op.Fields = t.fields
		for a, err := range t.ask(ctx, op) {
			if err != nil {
				yield(RemoteSocket{}, err)
				return
			}
			for _, s := range a.Sockets {
				if !yield(RemoteSocket{ID: s.ID, Node: a.Node, Rooms: s.Rooms, ns: t.ns, handshake: s.Handshake, data: s.Data}, nil) {
					return
				}
			}
		}
	}
}

// Fields says what Fetch is to tell of each socket besides its id: a sum of cluster.FieldRooms, FieldHandshake
// and FieldData, or FieldID alone. The rest is not sent, where the cluster's format can leave it
// out, and may be missing. Without it, or with 0, Fetch tells everything.
func (t Target) Fields(f cluster.Fields) Target {
	t.fields = f
	return t
}

// IDs lists the ids of the sockets of all nodes. With a *PartialError, they are those of the nodes
// that answered.
func (t Target) IDs(ctx context.Context) ([]string, error) {
	var ids []string
	for s, err := range t.Fields(cluster.FieldID).Fetch(ctx) {
		if err != nil {
			return ids, err
		}
		ids = append(ids, s.ID)
	}
	return ids, nil
}

// Has reports whether there is any such socket. It returns as soon as one node says so; false
// with a *PartialError says that the nodes that answered have none.
func (t Target) Has(ctx context.Context) (bool, error) {
	for a, err := range t.ask(ctx, t.op(cluster.Count)) {
		if err != nil {
			return false, err
		}
		if a.Clients > 0 {
			return true, nil
		}
	}
	return false, nil
}

// Count counts the sockets of all nodes. With a *PartialError, the count is of the nodes
// that answered.
func (t Target) Count(ctx context.Context) (int, error) {
	n := 0
	for a, err := range t.ask(ctx, t.op(cluster.Count)) {
		if err != nil {
			return n, err
		}
		n += a.Clients
	}
	return n, nil
}

// Rooms lists the rooms of the namespace on all nodes, each once, the sockets' own among
// them; the target's rooms do not matter. With a *PartialError, the rooms are those of the
// nodes that answered.
func (t Target) Rooms(ctx context.Context) ([]string, error) {
	seen := make(map[string]bool)
	var rooms []string
	for a, err := range t.ask(ctx, t.op(cluster.Rooms)) {
		if err != nil {
			return rooms, err
		}
		for _, r := range a.Rooms {
			if !seen[r] {
				seen[r] = true
				rooms = append(rooms, r)
			}
		}
	}
	return rooms, nil
}

// ask yields this node's answer and then the others'; the last pair may be an error.
func (t Target) ask(ctx context.Context, op *cluster.Op) iter.Seq2[cluster.Answer, error] {
	return func(yield func(cluster.Answer, error) bool) {
		more := true
		mine := func(a cluster.Answer) {
			a.Node = t.ns.srv.node
			more = more && yield(a, nil)
		}
		if op.Kind == cluster.Fetch {
			t.ns.describe(op, func(infos []cluster.SocketInfo) bool {
				mine(cluster.Answer{Sockets: infos})
				return more
			})
		} else {
			t.ns.do(op, mine)
		}
		node := t.ns.srv.opts.Cluster
		if t.local || node == nil || !more {
			return
		}
		handoff(ctx)
		for a, err := range node.Ask(ctx, op) {
			if err != nil {
				err = &PartialError{Err: err}
			}
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}

// fetchPart is how many sockets are described at once.
const fetchPart = 1000

// describe calls f with what is known of the selected sockets, part by part, until f returns false.
func (ns *Namespace) describe(op *cluster.Op, f func([]cluster.SocketInfo) bool) {
	to := ns.rooms.selected(&op.Selector)
	defer to.free()
	for part := range slices.Chunk(to.sockets, fetchPart) {
		if !f(infosOf(part, op.Fields)) {
			return
		}
	}
}

func infosOf(sockets []*Socket, fields cluster.Fields) []cluster.SocketInfo {
	infos := make([]cluster.SocketInfo, len(sockets))
	for i, s := range sockets {
		infos[i] = s.info(fields)
	}
	return infos
}

// fetch answers another node. What takes long is not done on the node's loop.
func (ns *Namespace) fetch(op *cluster.Op, to *receivers, answer func(cluster.Answer)) {
	node := ns.srv.opts.Cluster
	if len(to.sockets) <= fetchPart || node == nil || !node.Parts() {
		answer(cluster.Answer{First: true, Sockets: infosOf(to.sockets, op.Fields)})
		return
	}
	sockets := slices.Clone(to.sockets)
	answer(cluster.Answer{First: true, Clients: (len(sockets) + fetchPart - 1) / fetchPart})
	ns.srv.work.Go(func() {
		for part := range slices.Chunk(sockets, fetchPart) {
			node.Pace(ns.srv.ctx)
			answer(cluster.Answer{Sockets: infosOf(part, op.Fields)})
		}
	})
}
