// Package emitter emits to the clients of a cluster from programs that serve none: a
// worker, a cron job, a web hook.
//
//	em := emitter.New(redisbus.New(rdb, nil), nil)
//	err := em.Of("/chat").To("lobby").Emit(ctx, "said", "hello")
//	err = chat.Said.Emit(ctx, em.Of("/chat").To("lobby"), chat.Message{Text: "hello"})
//
// On Redis it writes what @socket.io/redis-emitter writes, so it reaches the clients of
// Node.js nodes and of Atoll nodes alike. On other media it speaks what the nodes speak there.
//
// An emitter is not a node: nobody counts it, waits for it or answers it, so it has no
// acks and no Fetch. A program that needs them joins the cluster (cluster.Join) and makes a
// server that no client connects to.
package emitter

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/protocol"
)

// An Emitter is a choice of sockets in one namespace, on all nodes, and how they are to
// be addressed: at first all sockets of "/". It is a value that nothing changes: each
// method returns a new one, and any number of goroutines may use it at once.
//
// What one goroutine sends reaches each node in the order of its calls, on media that keep
// the order of one publisher (all that come with Atoll do), and at most once. A nil error
// says that the medium took it, not that anybody was there.
type Emitter struct {
	publisher *cluster.Publisher
	nsp       string
	to        cluster.Selector
	flags     cluster.Flags
}

var _ event.Emitter = (*Emitter)(nil)

// Options are the settings of an Emitter. There are none yet; nil is fine. What differs
// from medium to medium (the prefix of Redis channels) is set where the bus is made.
type Options struct{}

// New returns an Emitter to the cluster on bus. The bus stays the caller's, and must be
// open as long as the Emitter, or one made from it, is used.
func New(bus cluster.Bus, _ *Options) *Emitter {
	return &Emitter{publisher: cluster.NewPublisher(bus, nil), nsp: "/"}
}

// Of returns an Emitter to all sockets of another namespace. A slash in front that is
// missing is added.
func (e *Emitter) Of(namespace string) *Emitter {
	if !strings.HasPrefix(namespace, "/") {
		namespace = "/" + namespace
	}
	return &Emitter{publisher: e.publisher, nsp: namespace}
}

// To adds rooms: the sockets that are in any of the rooms named so far. A socket in
// several gets an event once. A socket's id is a room.
func (e *Emitter) To(rooms ...string) *Emitter {
	c := *e
	c.to.Rooms = slices.Concat(e.to.Rooms, rooms)
	return &c
}

// In is To; it reads better before Join, Leave and Disconnect.
func (e *Emitter) In(rooms ...string) *Emitter { return e.To(rooms...) }

// Except leaves out the sockets that are in any of the rooms.
func (e *Emitter) Except(rooms ...string) *Emitter {
	c := *e
	c.to.Except = slices.Concat(e.to.Except, rooms)
	return &c
}

// Volatile lets events be dropped for each socket where they would have to wait for the connection.
func (e *Emitter) Volatile() *Emitter {
	c := *e
	c.flags |= cluster.Volatile
	return &c
}

// Compress says whether the event may be compressed, where compression is on. The default
// is that it may.
func (e *Emitter) Compress(ok bool) *Emitter {
	c := *e
	c.flags &^= cluster.NoCompress
	if !ok {
		c.flags |= cluster.NoCompress
	}
	return &c
}

// Emit sends an event to the sockets. The arguments are encoded as event.Append does. It
// returns when the medium has the event; the error says that it could not be reached, or
// what cannot be encoded.
func (e *Emitter) Emit(ctx context.Context, name string, args ...any) error {
	return e.event(ctx, cluster.Emit, name, args)
}

// Join has the sockets enter rooms.
func (e *Emitter) Join(ctx context.Context, rooms ...string) error {
	return e.tell(ctx, &cluster.Op{Kind: cluster.JoinRooms, Names: rooms})
}

// Leave has the sockets leave rooms.
func (e *Emitter) Leave(ctx context.Context, rooms ...string) error {
	return e.tell(ctx, &cluster.Op{Kind: cluster.LeaveRooms, Names: rooms})
}

// Disconnect disconnects the sockets from the namespace; with all, it closes the
// connections below, and so disconnects their clients from all namespaces.
func (e *Emitter) Disconnect(ctx context.Context, all bool) error {
	return e.tell(ctx, &cluster.Op{Kind: cluster.Disconnect, Close: all})
}

// ServerSide addresses the servers of the namespace, not the clients: what it sends goes to
// their HandleServer handlers (serverSideEmit in Node.js). Rooms do not matter.
func (e *Emitter) ServerSide() event.Emitter { return serverSide{e} }

type serverSide struct{ e *Emitter }

func (s serverSide) Emit(ctx context.Context, name string, args ...any) error {
	return s.e.event(ctx, cluster.ServerEmit, name, args)
}

// ServerSideEmit is short for ServerSide().Emit.
func (e *Emitter) ServerSideEmit(ctx context.Context, name string, args ...any) error {
	return e.event(ctx, cluster.ServerEmit, name, args)
}

func (e *Emitter) event(ctx context.Context, kind cluster.Kind, name string, args []any) error {
	if protocol.Reserved(name) {
		return fmt.Errorf("emitter: %q is a reserved event name: choose another", name)
	}
	data, attachments, err := event.AppendEvent(nil, nil, name, args...)
	if err != nil {
		return fmt.Errorf("emitter: %w", err)
	}
	return e.tell(ctx, &cluster.Op{Kind: kind, Data: data, Attachments: attachments})
}

func (e *Emitter) tell(ctx context.Context, op *cluster.Op) error {
	op.Namespace = e.nsp
	if op.Kind != cluster.ServerEmit {
		op.Selector = e.to
		op.Flags = e.flags
	}
	if err := e.publisher.Tell(ctx, op); err != nil {
		return fmt.Errorf("emitter: %w", err)
	}
	return nil
}
