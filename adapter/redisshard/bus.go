package redisshard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/redissub"
)

// Options are the settings of a Bus. A nil *Options means all defaults.
type Options struct {
	// Prefix begins the names of all channels; the Node.js adapter calls it channelPrefix. All nodes
	// of a cluster have the same. If empty, "socket.io".
	Prefix string

	// Mode says which rooms have a channel of their own (subscriptionMode in Node.js). All
	// nodes of a cluster have the same. If empty, Dynamic. New panics if it is none of the modes.
	Mode Mode

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

func (o *Options) mode() Mode {
	if o == nil || o.Mode == "" {
		return Dynamic
	}
	switch o.Mode {
	case Static, Dynamic, DynamicPrivate:
		return o.Mode
	}
	panic(fmt.Sprintf("redisshard: Options.Mode is %q: it must be %q, %q or %q", o.Mode, Static, Dynamic, DynamicPrivate))
}

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
	ErrClosed = errors.New("redisshard: the bus is closed")

	// ErrAway is wrapped by what Publish returns while Redis is known not to answer.
	ErrAway = errors.New("redisshard: Redis does not answer")
)

// A Bus is a cluster.Bus on the sharded Pub/Sub of Redis. Any number of goroutines may use it.
type Bus struct {
	base    *redissub.Base[*link]
	client  rueidis.Client
	dialect *Dialect
	timeout time.Duration
	log     *slog.Logger
	cluster bool // the client is one of a Redis Cluster
	where   topology
	moves   atomic.Uint64

	links  map[string]*link // by the address of the server; base.Mu guards these
	failed bool             // something went wrong since the keeper looked
	worked bool             // something was subscribed to since then
}

// Stats is what a Bus has counted.
type Stats struct {
	Published  uint64 // messages that Redis took
	Failed     uint64 // messages that Redis did not take, or did not say so in time
	Received   uint64 // messages that came on the subscriptions
	Reconnects uint64 // connections of subscriptions that broke; messages may be missing
	Moves      uint64 // subscriptions that followed their slot to another server; messages may be missing
}

var (
	_ cluster.Bus     = (*Bus)(nil)
	_ cluster.Speaker = (*Bus)(nil)
	_ cluster.Counter = (*Bus)(nil)
)

// New returns a Bus on client, which stays open when the Bus is closed. It does not talk to Redis
// yet. Redis must be of version 7 or later.
func New(client rueidis.Client, o *Options) *Bus {
	b := &Bus{
		client:  client,
		dialect: NewDialect(o),
		timeout: o.publishTimeout(),
		log:     o.logger(),
		cluster: client.Mode() == rueidis.ClientModeCluster,
		links:   make(map[string]*link),
	}
	b.base = redissub.New(redissub.Options[*link]{
		Package: "redisshard", ErrClosed: ErrClosed, ErrAway: ErrAway,
		Client: client, Timeout: b.timeout, Log: b.log, Keep: b.keep, Leave: b.leave,
		Command: func(topic, msg string) rueidis.Completed {
			return client.B().Spublish().Channel(topic).Message(msg).Build()
		},
	})
	return b
}

// Dialect returns the format of the sharded adapter of @socket.io/redis-adapter.
func (b *Bus) Dialect() cluster.Dialect { return b.dialect }

// Stats returns the counters.
func (b *Bus) Stats() Stats {
	c := &b.base.Count
	return Stats{c.Published.Load(), c.Failed.Load(), c.Received.Load(), c.Reconnects.Load(), b.moves.Load()}
}

// Publish sends msg to all who subscribe to topic. It returns nil when Redis has it. It
// returns an error at once while Redis refuses connections, and after Options.PublishTimeout
// (or ctx) where it is silent, or the server of a slot has no successor yet; the message may
// have been sent then.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	var before func()
	if _, goodbyes := b.dialect.side.All(); topic == goodbyes {
		// Who says goodbye is not counted among those who answer any more by the time that others hear it.
		before = func() { b.base.GiveUp(ctx, b.dialect.prefix+"#") }
	}
	return b.base.Publish(ctx, topic, msg, before)
}

// Subscribe calls deliver for each message on topic. It waits until Redis has confirmed the
// subscription, and returns an error when ctx ends before, or 5 seconds have passed. Many that
// subscribe at once share their round trips.
func (b *Bus) Subscribe(ctx context.Context, topic string, deliver func(topic string, msg []byte)) (cluster.Subscription, error) {
	return b.base.Subscribe(ctx, topic, deliver)
}

// Count returns how many connections subscribe to topic, on all servers together. In a Redis Cluster,
// the server of its slot must answer.
func (b *Bus) Count(ctx context.Context, topic string) (int, error) {
	return b.base.Asked(ctx, func(ctx context.Context) (int, error) {
		if b.cluster {
			return b.countAll(ctx, topic)
		}
		return count(ctx, b.client, topic)
	})
}

// countAll adds up what the servers of a Redis Cluster count.
func (b *Bus) countAll(ctx context.Context, topic string) (int, error) {
	slots, err := b.where.get(ctx, b.client)
	if err != nil {
		return 0, err
	}
	owner := slots.owner(slotOf(topic))
	nodes := b.client.Nodes()
	if nodes[owner] == nil {
		b.where.forget("")
		return 0, fmt.Errorf("the client does not know the server %q of the channel yet", owner)
	}
	masters := slots.masters()
	counts := make([]int, len(masters))
	errs := make([]error, len(masters))
	var wg sync.WaitGroup
	for i, addr := range masters {
		if node := nodes[addr]; node != nil {
			wg.Go(func() { counts[i], errs[i] = count(ctx, node, topic) })
		}
	}
	wg.Wait()
	total := 0
	for i, addr := range masters {
		if errs[i] != nil && addr == owner {
			b.where.forget("")
			return 0, errs[i]
		}
		total += counts[i]
	}
	return total, nil
}

func count(ctx context.Context, node rueidis.Client, topic string) (int, error) {
	return redissub.NumSub(ctx, node, "SHARDNUMSUB", topic)
}

// Close ends all subscriptions and waits for them. The client stays open. Close may be called twice.
func (b *Bus) Close() error { return b.base.Close() }
