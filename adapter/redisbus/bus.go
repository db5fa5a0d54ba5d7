package redisbus

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/redissub"
)

// Options are the settings of a Bus. A nil *Options means all defaults.
type Options struct {
	// Prefix begins the names of all channels; the Node.js adapter and emitter call it
	// key. All nodes and emitters of a cluster have the same. If empty, "socket.io".
	// For NewNative it is the name of the cluster, 1 to 64 letters, digits, "-" and "_"; if
	// empty, "atoll".
	Prefix string

	// SharedResponses has answers published where all nodes read them, as nodes with
	// @socket.io/redis-adapter before 7.1 need it. If false, an answer goes to the node that
	// asked (publishOnSpecificResponseChannel in Node.js, where it is off by default; a
	// node reads both, whatever it is set to).
	SharedResponses bool

	// PublishTimeout is how long Publish waits for Redis to take a message, once, and a second more for each MiB of it; after
	// that, until Redis answers again, it fails at once. If zero, 1 second.
	PublishTimeout time.Duration

	// Logger is told when Redis goes and comes. If nil, slog.Default().
	Logger *slog.Logger
}

func (o *Options) prefix() string {
	if o == nil || o.Prefix == "" {
		return "socket.io"
	}
	return o.Prefix
}

func (o *Options) sharedResponses() bool { return o != nil && o.SharedResponses }

func (o *Options) publishTimeout() time.Duration {
	if o == nil || o.PublishTimeout <= 0 {
		return time.Second
	}
	return o.PublishTimeout
}

func (o *Options) logger() *slog.Logger {
	if o == nil || o.Logger == nil {
		return slog.Default()
	}
	return o.Logger
}

// MaxMessage implements cluster.Limiter.
func (b *Bus) MaxMessage() int { return redissub.MaxMessage }

var (
	// ErrClosed is what the methods of a Bus return after its Close.
	ErrClosed = errors.New("redisbus: the bus is closed")

	// ErrAway is wrapped by what Publish returns while Redis is known not to answer.
	ErrAway = errors.New("redisbus: Redis does not answer")
)

// A Bus is a cluster.Bus on Redis. It has one connection of its own, for all its
// subscriptions, and shares the client's for publishing. One Bus is for one node: Node.js
// nodes count connections to know how many nodes there are. Any number of goroutines may use it.
type Bus struct {
	base    *redissub.Base[none]
	client  rueidis.Client
	prefix  string
	dialect cluster.Dialect
	classic *Dialect // the dialect, where it is the official one
	log     *slog.Logger

	refused []*topic // what Redis did not let it subscribe to; the keeper's alone
	slot    string   // in a Redis Cluster: a key of the server that has the subscriptions; the keeper's alone
}

// Stats is what a Bus has counted.
type Stats struct {
	Published  uint64 // messages that Redis took
	Failed     uint64 // messages that Redis did not take, or did not say so in time
	Received   uint64 // messages that came on the subscriptions
	Reconnects uint64 // times that the subscriptions were made anew; messages may be missing
}

var (
	_ cluster.Bus     = (*Bus)(nil)
	_ cluster.Speaker = (*Bus)(nil)
	_ cluster.Counter = (*Bus)(nil)
)

// New returns a Bus on client that speaks the format of @socket.io/redis-adapter. The client stays
// open when the Bus is closed. New does not talk to Redis yet. The client's option
// DisableRetry makes no difference for publishing.
func New(client rueidis.Client, o *Options) *Bus {
	d := NewDialect(o)
	b := newBus(client, o, d.prefix, d)
	b.classic = d
	return b
}

// NewNative is New for a cluster without Node.js nodes: the Bus speaks [cluster.Native], which says
// everything that Atoll's nodes have to say to each other, and can send what is for one room only
// to the nodes where it has members. NewNative panics if o.Prefix is no name of a cluster.
func NewNative(client rueidis.Client, o *Options) *Bus {
	name := "atoll"
	if o != nil && o.Prefix != "" {
		name = o.Prefix
	}
	return newBus(client, o, name, cluster.Native(name))
}

func newBus(client rueidis.Client, o *Options, prefix string, d cluster.Dialect) *Bus {
	b := &Bus{
		client:  client,
		prefix:  prefix,
		dialect: d,
		log:     o.logger(),
	}
	b.base = redissub.New(redissub.Options[none]{
		Package: "redisbus", ErrClosed: ErrClosed, ErrAway: ErrAway,
		Client: client, Timeout: o.publishTimeout(), Log: b.log, Command: b.command, Keep: b.keep,
	})
	return b
}

// Dialect returns the format of @socket.io/redis-adapter, or cluster.Native where the Bus was made by
// NewNative.
func (b *Bus) Dialect() cluster.Dialect { return b.dialect }

// Stats returns the counters.
func (b *Bus) Stats() Stats {
	c := &b.base.Count
	return Stats{c.Published.Load(), c.Failed.Load(), c.Received.Load(), c.Reconnects.Load()}
}

// Publish sends msg to all who subscribe to topic. It returns nil when Redis has it. It
// returns an error at once while Redis refuses connections, and after Options.PublishTimeout
// (or ctx) where Redis is silent; the message may have been sent then.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	var before func()
	if b.classic != nil && topic == b.classic.goodbyes() {
		// Who says goodbye is not counted among those who answer any more by the time that others hear it.
		before = func() { b.base.GiveUp(ctx, b.classic.prefix+"-request#") }
	}
	return b.base.Publish(ctx, topic, msg, before)
}

// command returns the command that publishes msg.
func (b *Bus) command(topic, msg string) rueidis.Completed {
	cmd := b.client.B().Publish().Channel(topic).Message(msg).Build()
	if b.client.Mode() == rueidis.ClientModeCluster {
		cmd = cmd.SetSlot(b.prefix) // one connection, one order
	}
	return cmd
}

// Count returns how many connections subscribe to topic, on all nodes of Redis together.
func (b *Bus) Count(ctx context.Context, topic string) (int, error) {
	return b.base.Asked(ctx, func(ctx context.Context) (total int, err error) {
		for _, node := range b.client.Nodes() {
			n, err := redissub.NumSub(ctx, node, "NUMSUB", topic)
			if err != nil {
				return 0, err
			}
			total += n
		}
		return total, nil
	})
}

// Close ends all subscriptions and waits for them. The client stays open. Close may be called twice.
func (b *Bus) Close() error { return b.base.Close() }
