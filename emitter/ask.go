package emitter

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
)

// ErrTellsOnly is wrapped by the errors of questions to an Emitter that New made.
var ErrTellsOnly = errors.New("emitter: an emitter made by New only tells: use Connect")

// AskAll sends an event to the sockets and yields their acks as they come. Where some are
// missing when the time is up, the last pair holds a *cluster.AbsentError, which says how many,
// and which nodes did not answer at all. The sequence may be left early, and ranged over once.
func (e *Emitter) AskAll(ctx context.Context, name string, args ...any) iter.Seq2[event.Args, error] {
	return e.askEvent(ctx, cluster.EmitAck, name, args)
}

func (e *Emitter) askEvent(ctx context.Context, kind cluster.Kind, name string, args []any) iter.Seq2[event.Args, error] {
	return func(yield func(event.Args, error) bool) {
		op, err := e.eventOp(kind, name, args)
		if err != nil {
			yield(event.Args{}, err)
			return
		}
		for a, err := range e.ask(ctx, op) {
			if err == nil && kind == cluster.EmitAck && a.First {
				continue // how many acks will follow
			}
			if !yield(event.ArgsOf(inner(a.Data), a.Attachments), err) {
				return
			}
		}
	}
}

// inner returns what stands between the brackets of an array.
func inner(data []byte) []byte {
	if len(data) < 2 || data[0] != '[' {
		return nil
	}
	return data[1 : len(data)-1]
}

// A Socket is a socket of some node, as that node describes it.
type Socket struct {
	ID    string
	Node  string   // id of its node; empty where the cluster's format does not say
	Rooms []string // its own id among them

	e         *Emitter
	handshake []byte
	data      []byte
}

// Handshake decodes what is known of the request that opened the session into v: an
// object with the fields of the official server's handshake.
func (s *Socket) Handshake(v any) error { return decode(s.handshake, v) }

// Data decodes the value that the server stored with the socket into v.
func (s *Socket) Data(v any) error { return decode(s.data, v) }

// Target returns an Emitter to that socket alone.
func (s *Socket) Target() *Emitter { return s.e.To(s.ID) }

func decode(raw []byte, v any) error {
	if len(raw) == 0 {
		raw = []byte("null")
	}
	return event.ArgsOf(raw, nil).Decode(0, v)
}

// Fetch yields the sockets. fields, if there are any, are what is wanted of each besides its id and
// its node; formats that do not know them give everything. If nodes are missing, the last pair
// holds a *cluster.AbsentError that says which. The sequence may be left early, and ranged over once.
func (e *Emitter) Fetch(ctx context.Context, fields ...cluster.Fields) iter.Seq2[Socket, error] {
	return func(yield func(Socket, error) bool) {
		all := e.Of(e.nsp)
		op := &cluster.Op{Kind: cluster.Fetch}
		for _, f := range fields {
			op.Fields |= f | cluster.FieldID
		}
		for a, err := range e.ask(ctx, op) {
			if err != nil {
				yield(Socket{}, err)
				return
			}
			for _, s := range a.Sockets {
				if !yield(Socket{ID: s.ID, Node: a.Node, Rooms: s.Rooms, e: all, handshake: s.Handshake, data: s.Data}, nil) {
					return
				}
			}
		}
	}
}

// Count counts the sockets. With a *cluster.AbsentError, the count is of the nodes that answered.
func (e *Emitter) Count(ctx context.Context) (int, error) {
	n := 0
	for a, err := range e.ask(ctx, &cluster.Op{Kind: cluster.Count}) {
		if err != nil {
			return n, err
		}
		n += a.Clients
	}
	return n, nil
}

// Rooms lists the rooms of the namespace, each once, the sockets' own among them; the
// emitter's rooms do not matter. With a *cluster.AbsentError, they are those of the nodes that answered.
func (e *Emitter) Rooms(ctx context.Context) ([]string, error) {
	seen := make(map[string]bool)
	var rooms []string
	for a, err := range e.ask(ctx, &cluster.Op{Kind: cluster.Rooms}) {
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

// ask yields the answers of the nodes; the last pair may be an error.
func (e *Emitter) ask(ctx context.Context, op *cluster.Op) iter.Seq2[cluster.Answer, error] {
	return func(yield func(cluster.Answer, error) bool) {
		if e.asker == nil {
			yield(cluster.Answer{}, fmt.Errorf("%w", ErrTellsOnly))
			return
		}
		e.address(op)
		timeout := e.timeout
		if _, ok := ctx.Deadline(); timeout <= 0 && !ok {
			timeout = e.asker.timeout
		}
		if timeout > 0 {
			op.Timeout = max(timeout, time.Millisecond)
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		done, err := e.asker.open(ctx, op.Namespace)
		if err != nil {
			yield(cluster.Answer{}, fmt.Errorf("emitter: %w", err))
			return
		}
		defer done()
		for a, err := range e.asker.node.Ask(ctx, op) {
			if err != nil {
				err = fmt.Errorf("emitter: %w", err)
			}
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}
