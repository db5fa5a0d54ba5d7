package redisbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/cluster"
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

// maxMessage is the largest message that a Redis takes as it is installed (proto-max-bulk-len).
const maxMessage = 512 << 20

// MaxMessage implements cluster.Limiter.
func (b *Bus) MaxMessage() int { return maxMessage }

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
	client  rueidis.Client
	prefix  string
	dialect cluster.Dialect
	classic *Dialect // the dialect, where it is the official one
	timeout time.Duration
	log     *slog.Logger

	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	tasks sync.WaitGroup

	away  atomic.Bool // a publication was not answered in time, and a probe runs
	count counters

	wake chan struct{} // holds a token when the keeper has something to do

	mu      sync.Mutex
	started bool // the keeper runs
	closed  bool
	topics  map[string]*topic // what somebody wants, or the connection has
	dirty   []*topic          // where the keeper should look
	refused []*topic          // what Redis did not let it subscribe to; the keeper's alone
	slot    string            // in a Redis Cluster: a key of the server that has the subscriptions; the keeper's alone
}

type counters struct{ published, failed, received, reconnects atomic.Uint64 }

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
		timeout: o.publishTimeout(),
		log:     o.logger(),
		topics:  make(map[string]*topic),
		wake:    make(chan struct{}, 1),
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b
}

// Dialect returns the format of @socket.io/redis-adapter, or cluster.Native where the Bus was made by
// NewNative.
func (b *Bus) Dialect() cluster.Dialect { return b.dialect }

// Stats returns the counters.
func (b *Bus) Stats() Stats {
	return Stats{b.count.published.Load(), b.count.failed.Load(), b.count.received.Load(), b.count.reconnects.Load()}
}

// Publish sends msg to all who subscribe to topic. It returns nil when Redis has it. It
// returns an error at once while Redis refuses connections, and after Options.PublishTimeout
// (or ctx) where Redis is silent; the message may have been sent then.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	err := b.publish(ctx, topic, msg)
	if err != nil {
		b.count.failed.Add(1)
		return fmt.Errorf("redisbus: publish: %w", err)
	}
	b.count.published.Add(1)
	return nil
}

func (b *Bus) publish(ctx context.Context, topic string, msg []byte) error {
	if b.ctx.Err() != nil {
		return ErrClosed
	}
	if b.away.Load() {
		return ErrAway
	}
	if len(msg) > maxMessage {
		return fmt.Errorf("%d bytes: %w", len(msg), cluster.ErrTooLarge)
	}
	if b.classic != nil && topic == b.classic.goodbyes() {
		b.stopAnswering(ctx)
	}
	// The command may outlive the call when ctx ends first, so it has a copy of msg.
	cmd := b.client.B().Publish().Channel(topic).Message(string(msg)).Build()
	if b.client.Mode() == rueidis.ClientModeCluster {
		cmd = cmd.SetSlot(b.prefix) // one connection, one order
	}
	timeout := b.timeout + time.Duration(len(msg)>>10)*time.Millisecond
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	err := b.client.Do(limited, cmd).Error()
	// The client may notice the deadline before the context does; a shorter one of the caller's says nothing about Redis.
	if err != nil && ctx.Err() == nil && time.Since(start) > timeout*9/10 &&
		(errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)) {
		b.probe()
		return fmt.Errorf("%w for %v", ErrAway, timeout)
	}
	return err
}

// probe has Publish fail at once until Redis answers.
func (b *Bus) probe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || !b.away.CompareAndSwap(false, true) {
		return
	}
	b.tasks.Go(func() {
		defer b.away.Store(false)
		b.log.Warn("redisbus: Redis does not answer; messages are not sent until it does", "waited", b.timeout)
		for pause := firstPause; b.ctx.Err() == nil; pause = min(2*pause, longestPause) {
			ctx, cancel := context.WithTimeout(b.ctx, b.timeout)
			err := b.client.Do(ctx, b.client.B().Ping().Build()).Error()
			cancel()
			if err == nil {
				b.log.Info("redisbus: Redis answers again")
				return
			}
			b.sleep(pause)
		}
	})
}

// sleep waits for d, or until the Bus is closed.
func (b *Bus) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-b.ctx.Done():
	}
}

// Count returns how many connections subscribe to topic, on all nodes of Redis together.
func (b *Bus) Count(ctx context.Context, topic string) (int, error) {
	if b.ctx.Err() != nil {
		return 0, ErrClosed
	}
	if b.away.Load() {
		return 0, fmt.Errorf("redisbus: count: %w", ErrAway)
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	total := 0
	for _, node := range b.client.Nodes() {
		// Arbitrary, because the client would repeat its own NUMSUB until ctx ends.
		reply, err := node.Do(ctx, node.B().Arbitrary("PUBSUB", "NUMSUB").Args(topic).Build()).ToArray()
		if err == nil && len(reply) != 2 {
			err = fmt.Errorf("PUBSUB NUMSUB answered with %d values", len(reply))
		}
		var n int64
		if err == nil {
			n, err = reply[1].AsInt64()
		}
		if err != nil {
			return 0, fmt.Errorf("redisbus: count: %w", err)
		}
		total += int(n)
	}
	return total, nil
}

// Close ends all subscriptions and waits for them. The client stays open. Close may be called twice.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.closed = true
	var subs []*subscription
	for _, t := range b.topics {
		subs = append(subs, t.subs...)
	}
	b.mu.Unlock()
	b.stop()
	for _, s := range subs {
		s.Close()
	}
	b.tasks.Wait()
	return nil
}
