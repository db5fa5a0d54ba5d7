package emitter

import (
	"context"
	"iter"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
)

// A ServerSide stands for the servers of a namespace, not for its clients.
type ServerSide struct{ e *Emitter }

var (
	_ event.Emitter  = ServerSide{}
	_ event.AllAsker = ServerSide{}
)

// ServerSide addresses the servers of the namespace, not the clients: what it sends goes to
// their HandleServer handlers (serverSideEmit in Node.js). Rooms do not matter.
func (e *Emitter) ServerSide() ServerSide { return ServerSide{e} }

// Emit sends an event to the servers.
func (s ServerSide) Emit(ctx context.Context, name string, args ...any) error {
	return s.e.event(ctx, cluster.ServerEmit, name, args)
}

// AskAll sends an event to the servers and yields their answers as they come, one for each. Where
// some are missing, the last pair holds a *cluster.AbsentError that says which.
func (s ServerSide) AskAll(ctx context.Context, name string, args ...any) iter.Seq2[event.Args, error] {
	return s.e.askEvent(ctx, cluster.ServerAsk, name, args)
}

// ServerSideEmit is short for ServerSide().Emit.
func (e *Emitter) ServerSideEmit(ctx context.Context, name string, args ...any) error {
	return e.event(ctx, cluster.ServerEmit, name, args)
}
