package httpemit

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/emitter"
)

// do performs one operation. room is how many bytes of answers the response may still have.
func (h *Handler) do(ctx context.Context, it item, room *int) result {
	if it.err != nil {
		return result{Code: invalid, Error: it.err.Error()}
	}
	if ctx.Err() != nil {
		return result{Code: timedOut, Error: "the request took too long; this operation was not begun"}
	}
	e := h.em.Of(it.Namespace).To(it.Rooms...).Except(it.Except...)
	if it.Volatile {
		e = e.Volatile()
	}
	if it.Compress != nil {
		e = e.Compress(*it.Compress)
	}
	if it.TimeoutMs != nil {
		e = e.Timeout(time.Duration(*it.TimeoutMs) * time.Millisecond)
	}
	r := result{OK: true}
	err := r.perform(ctx, e, it, room)
	if err != nil && !r.absent(err) {
		r.fail(err)
	}
	switch r.Code {
	case "":
		h.failed.Store(0)
	case unavailable, timedOut:
		if errors.Is(ctx.Err(), context.Canceled) || r.Code == timedOut && it.TimeoutMs != nil {
			break // who left, or would not wait, says nothing about the medium
		}
		h.failed.Store(time.Now().UnixNano())
	}
	return r
}

func (r *result) perform(ctx context.Context, e *emitter.Emitter, it item, room *int) error {
	switch {
	case it.Ask:
		return r.ask(ctx, e, it, room)
	case it.Event != nil && it.Server:
		return e.ServerSide().Emit(ctx, *it.Event, it.args)
	case it.Event != nil:
		return e.Emit(ctx, *it.Event, it.args)
	case it.Join != nil:
		return e.Join(ctx, it.Join...)
	case it.Leave != nil:
		return e.Leave(ctx, it.Leave...)
	case it.Disconnect:
		return e.Disconnect(ctx, it.Close)
	case it.Query == "count":
		n, err := e.Count(ctx)
		r.Count = &n
		return err
	case it.Query == "rooms":
		return r.rooms(ctx, e, room)
	default:
		return r.sockets(ctx, e, room)
	}
}

// take takes n bytes of the room, and reports whether there are as many.
func (r *result) take(room *int, n int) bool {
	if *room < n {
		r.Truncated = true
		return false
	}
	*room -= n
	return true
}

func (r *result) ask(ctx context.Context, e *emitter.Emitter, it item, room *int) error {
	r.Answers = []json.RawMessage{}
	answers := e.AskAll
	if it.Server {
		answers = e.ServerSide().AskAll
	}
	for a, err := range answers(ctx, *it.Event, it.args) {
		if err != nil {
			return err
		}
		raw, err := appendArgs(nil, a)
		if err == nil && !json.Valid(raw) {
			err = errors.New("an answer is no JSON")
		}
		if err != nil {
			raw = json.RawMessage("null") // it counts, though nobody can read it
		}
		if !r.take(room, len(raw)) {
			return nil
		}
		r.Answers = append(r.Answers, raw)
	}
	return nil
}

func (r *result) rooms(ctx context.Context, e *emitter.Emitter, room *int) error {
	all, err := e.Rooms(ctx)
	r.Rooms = []string{}
	for _, name := range all {
		if !r.take(room, len(name)+3) {
			break
		}
		r.Rooms = append(r.Rooms, name)
	}
	return err
}

func (r *result) sockets(ctx context.Context, e *emitter.Emitter, room *int) error {
	r.Sockets = []socket{}
	for s, err := range e.Fetch(ctx, cluster.FieldRooms|cluster.FieldData) {
		if err != nil {
			return err
		}
		x := socket{ID: s.ID, Node: s.Node, Rooms: s.Rooms}
		size := 64 + len(s.ID) + len(s.Node)
		if s.Data(&x.Data) != nil || string(x.Data) == "null" {
			x.Data = nil
		}
		for _, name := range s.Rooms {
			size += len(name) + 3
		}
		if !r.take(room, size+len(x.Data)) {
			return nil
		}
		r.Sockets = append(r.Sockets, x)
	}
	return nil
}
