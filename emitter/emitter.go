// Package emitter emits to the clients of a cluster from programs that serve none: a
// worker, a cron job, a web hook.
//
//	em := emitter.New(redisbus.New(rdb, nil), nil)
//	err := em.Of("/chat").To("lobby").Emit(ctx, "said", "hello")
//	err = chat.Said.Emit(ctx, em.Of("/chat").To("lobby"), chat.Message{Text: "hello"})
//
// On Redis and Postgres it writes what the official emitters write, so it reaches the
// clients of Node.js nodes and of Atoll nodes alike. On other media it speaks what the
// nodes speak there.
//
// What [New] returns only tells. What [Connect] returns also asks: it waits for the acks of
// clients and servers, and counts and lists sockets and rooms of the whole cluster.
//
//	em, err := emitter.Connect(ctx, bus, nil)
//	...
//	defer em.Close()
//	n, err := em.To("lobby").Count(ctx)
//	for answer, err := range em.To("lobby").Timeout(2*time.Second).AskAll(ctx, "ready?") {
//
// Neither is a node: nobody counts it, waits for it, or sends clients to it.
package emitter

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

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
	teller  teller
	asker   *asker // nil where it only tells
	nsp     string
	to      cluster.Selector
	flags   cluster.Flags
	timeout time.Duration
}

// A teller is a cluster.Publisher or a cluster.Node.
type teller interface {
	Tell(ctx context.Context, op *cluster.Op) error
}

var (
	_ event.Emitter  = (*Emitter)(nil)
	_ event.AllAsker = (*Emitter)(nil)
)

// Options are the settings of an Emitter; nil means all defaults. What differs from medium
// to medium (the prefix of Redis channels) is set where the bus is made.
type Options struct {
	// Key authenticates the messages where the nodes of the cluster have one
	// (cluster.Options.Key): the same, of at least 16 bytes. If nil, there is none.
	Key []byte

	// Timeout is how long questions wait, where neither their context nor
	// Emitter.Timeout says otherwise. If zero, 5 seconds.
	Timeout time.Duration

	// Settle is how long Connect may listen for the nodes that are there. If zero, 100
	// milliseconds. If negative, it does not wait.
	Settle time.Duration

	// Logger is told what an operator should know, by what Connect returns. If nil, slog.Default().
	Logger *slog.Logger
}

// New returns an Emitter to the cluster on bus. It only tells: what asks returns an error
// that wraps [ErrTellsOnly]. The bus stays the caller's, and must be open as long as the Emitter,
// or one made from it, is used. New does not talk to the medium, and nothing is to be closed.
func New(bus cluster.Bus, o *Options) *Emitter {
	return &Emitter{teller: cluster.NewPublisher(bus, publisherOptions(o)), nsp: "/"}
}

func publisherOptions(o *Options) *cluster.PublisherOptions {
	if o == nil {
		return nil
	}
	return &cluster.PublisherOptions{Key: o.Key}
}

// Of returns an Emitter to all sockets of another namespace. A slash in front that is
// missing is added.
func (e *Emitter) Of(namespace string) *Emitter {
	if !strings.HasPrefix(namespace, "/") {
		namespace = "/" + namespace
	}
	return &Emitter{teller: e.teller, asker: e.asker, nsp: namespace}
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

// Timeout sets how long questions wait. Without it, the context's deadline counts, or
// else Options.Timeout. If zero or negative, it is as if it had not been set.
func (e *Emitter) Timeout(d time.Duration) *Emitter {
	c := *e
	c.timeout = d
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

func (e *Emitter) event(ctx context.Context, kind cluster.Kind, name string, args []any) error {
	op, err := e.eventOp(kind, name, args)
	if err != nil {
		return err
	}
	return e.tell(ctx, op)
}

func (e *Emitter) eventOp(kind cluster.Kind, name string, args []any) (*cluster.Op, error) {
	if protocol.Reserved(name) {
		return nil, fmt.Errorf("emitter: %q is a reserved event name: choose another", name)
	}
	data, attachments, err := event.AppendEvent(nil, nil, name, args...)
	if err != nil {
		return nil, fmt.Errorf("emitter: %w", err)
	}
	return &cluster.Op{Kind: kind, Data: data, Attachments: attachments}, nil
}

// address completes op.
func (e *Emitter) address(op *cluster.Op) {
	op.Namespace = e.nsp
	if op.Kind != cluster.ServerEmit && op.Kind != cluster.ServerAsk {
		op.Selector = e.to
		op.Flags = e.flags
	}
}

func (e *Emitter) tell(ctx context.Context, op *cluster.Op) error {
	e.address(op)
	if err := e.teller.Tell(ctx, op); err != nil {
		return fmt.Errorf("emitter: %w", err)
	}
	return nil
}
