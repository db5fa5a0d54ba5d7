package redisshard

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

// maxMessage is the largest message that a Redis takes as it is installed (proto-max-bulk-len).
const maxMessage = 512 << 20

// MaxMessage implements cluster.Limiter.
func (b *Bus) MaxMessage() int { return maxMessage }

var (
	// ErrClosed is what the methods of a Bus return after its Close.
	ErrClosed = errors.New("redisshard: the bus is closed")

	// ErrAway is wrapped by what Publish returns while Redis is known not to answer.
	ErrAway = errors.New("redisshard: Redis does not answer")
)

// A Bus is a cluster.Bus on the sharded Pub/Sub of Redis. Any number of goroutines may use it.
type Bus struct {
	client  rueidis.Client
	dialect *Dialect
	timeout time.Duration
	log     *slog.Logger
	cluster bool // the client is one of a Redis Cluster

	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	tasks sync.WaitGroup

	away  atomic.Bool // a publication was not answered in time, and a probe runs
	count counters
	wake  chan struct{} // holds a token when the keeper has something to do
	where topology

	mu      sync.Mutex
	started bool // the keeper runs
	closed  bool
	topics  map[string]*topic // what somebody wants, or a link has
	dirty   []*topic          // are to be subscribed to
	links   map[string]*link  // by the address of the server
	failed  bool              // something went wrong since the keeper looked
	worked  bool              // something was subscribed to since then
}

type counters struct{ published, failed, received, reconnects, moves atomic.Uint64 }

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
		wake:    make(chan struct{}, 1),
		topics:  make(map[string]*topic),
		links:   make(map[string]*link),
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b
}

// Dialect returns the format of the sharded adapter of @socket.io/redis-adapter.
func (b *Bus) Dialect() cluster.Dialect { return b.dialect }

// Stats returns the counters.
func (b *Bus) Stats() Stats {
	c := &b.count
	return Stats{c.published.Load(), c.failed.Load(), c.received.Load(), c.reconnects.Load(), c.moves.Load()}
}

// Publish sends msg to all who subscribe to topic. It returns nil when Redis has it. It
// returns an error at once while Redis refuses connections, and after Options.PublishTimeout
// (or ctx) where it is silent, or the server of a slot has no successor yet; the message may
// have been sent then.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	err := b.publish(ctx, topic, msg)
	if err != nil {
		b.count.failed.Add(1)
		return fmt.Errorf("redisshard: publish: %w", err)
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
	if _, goodbyes := b.dialect.side.All(); topic == goodbyes {
		b.stopAnswering(ctx)
	}
	// The command may outlive the call when ctx ends first, so it has a copy of msg.
	cmd := b.client.B().Spublish().Channel(topic).Message(string(msg)).Build()
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
		b.log.Warn("redisshard: Redis does not answer; messages are not sent until it does", "waited", b.timeout)
		for pause := firstPause; b.ctx.Err() == nil; pause = min(2*pause, longestPause) {
			ctx, cancel := context.WithTimeout(b.ctx, b.timeout)
			err := b.client.Do(ctx, b.client.B().Ping().Build()).Error()
			cancel()
			if err == nil {
				b.log.Info("redisshard: Redis answers again")
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

// Count returns how many connections subscribe to topic, on all servers together. In a Redis Cluster,
// the server of its slot must answer.
func (b *Bus) Count(ctx context.Context, topic string) (int, error) {
	if b.ctx.Err() != nil {
		return 0, ErrClosed
	}
	if b.away.Load() {
		return 0, fmt.Errorf("redisshard: count: %w", ErrAway)
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	var n int
	var err error
	if b.cluster {
		n, err = b.countAll(ctx, topic)
	} else {
		n, err = count(ctx, b.client, topic)
	}
	if err != nil {
		return 0, fmt.Errorf("redisshard: count: %w", err)
	}
	return n, nil
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

// count asks one server. The command is an arbitrary one, because the client would repeat its own until ctx ends.
func count(ctx context.Context, node rueidis.Client, topic string) (int, error) {
	reply, err := node.Do(ctx, node.B().Arbitrary("PUBSUB", "SHARDNUMSUB").Args(topic).Build()).ToArray()
	if err != nil {
		return 0, err
	}
	if len(reply) != 2 {
		return 0, fmt.Errorf("PUBSUB SHARDNUMSUB answered with %d values", len(reply))
	}
	n, err := reply[1].AsInt64()
	return int(n), err
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
