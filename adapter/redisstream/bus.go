package redisstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/redissub"
	"github.com/atollhq/atoll/recovery"
)

var (
	// ErrClosed is what the methods of a Bus return after its Close.
	ErrClosed = errors.New("redisstream: the bus is closed")

	// ErrAway is wrapped by what Publish returns while Redis is known not to answer.
	ErrAway = errors.New("redisstream: Redis does not answer")
)

// MaxMessage implements cluster.Limiter.
func (b *Bus) MaxMessage() int { return redissub.MaxMessage }

// A Bus is a cluster.Bus, a cluster.Log and a recovery.Sessions on Redis. It has a connection of its own for each
// stream that it reads and one for its channels, and shares the client's for the rest. One Bus is for one node:
// Node.js nodes count connections to know how many nodes there are. Any number of goroutines may use it.
type Bus struct {
	o        Options
	client   rueidis.Client
	dialect  *Dialect
	channels channels

	tasks  *redissub.Tasks
	ctx    context.Context   // of the tasks: ends with Close
	guards []*redissub.Guard // of each stream
	count  counters

	mu      sync.Mutex
	closed  bool
	subs    map[*subscription]struct{}
	written []id               // of each stream: the last entry that this Bus wrote
	readers map[string]*reader // by the key of their stream
	moved   chan struct{}      // closed, and made anew, when a reader has read
}

type counters struct{ appended, failed, read, reconnects, trimmed atomic.Uint64 }

// Stats is what a Bus has counted.
type Stats struct {
	Appended   uint64 // entries that Redis took
	Failed     uint64 // entries that Redis did not take, or did not say so in time
	Read       uint64 // entries that were read
	Reconnects uint64 // times that the reading of a stream went on after a failure
	Trimmed    uint64 // times that entries were trimmed before they could be read
}

var (
	_ cluster.Log       = (*Bus)(nil)
	_ cluster.Ender     = (*Bus)(nil)
	_ cluster.Speaker   = (*Bus)(nil)
	_ cluster.Counter   = (*Bus)(nil)
	_ recovery.Sessions = (*Bus)(nil)
)

// New returns a Bus on client, which stays open when the Bus is closed. It does not talk to Redis yet.
func New(client rueidis.Client, o *Options) *Bus {
	d := NewDialect(o)
	b := &Bus{
		o:       d.o,
		client:  client,
		dialect: d,
		tasks:   redissub.NewTasks(),
		subs:    make(map[*subscription]struct{}),
		written: make([]id, d.o.StreamCount),
		readers: make(map[string]*reader),
		moved:   make(chan struct{}),
	}
	b.channels = newChannels(client, &b.o)
	b.ctx = b.tasks.Context()
	for i := range d.o.StreamCount {
		b.guards = append(b.guards, b.guard(d.o.key(i)))
	}
	return b
}

// guard returns what has writes to a stream fail at once while Redis is silent. Readers try again, too, when it
// answers again.
func (b *Bus) guard(key string) *redissub.Guard {
	return &redissub.Guard{
		Tasks: b.tasks, Timeout: b.o.PublishTimeout, ErrAway: ErrAway,
		Package: "redisstream", Log: b.o.Logger.With("stream", key),
		Ping: func(ctx context.Context) error {
			return b.client.Do(ctx, b.client.B().Type().Key(key).Build()).Error()
		},
		Back: func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, r := range b.readers {
				r.kick()
			}
		},
	}
}

// Dialect returns the format of @socket.io/redis-streams-adapter.
func (b *Bus) Dialect() cluster.Dialect { return b.dialect }

// Stats returns the counters.
func (b *Bus) Stats() Stats {
	return Stats{b.count.appended.Load(), b.count.failed.Load(), b.count.read.Load(), b.count.reconnects.Load(), b.count.trimmed.Load()}
}

// Kept reports whether topic stands for the entries of a namespace.
func (b *Bus) Kept(topic string) bool { return strings.HasPrefix(topic, keptTopic) }

// Publish sends msg to all who subscribe to topic: what stands for entries to the stream, the rest to channels. It
// returns nil when Redis has it. It returns an error at once while Redis refuses connections, and after
// Options.PublishTimeout (or ctx) where Redis is silent; the message may have been sent then.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	switch {
	case b.Kept(topic):
		_, err := b.Append(ctx, topic, msg)
		return err
	case strings.HasPrefix(topic, strayTopic), topic == allTopic:
		return fmt.Errorf("redisstream: publish: %q is only for reading: %w", topic, cluster.ErrUnsupported)
	}
	if _, goodbyes := b.dialect.side.All(); topic == goodbyes {
		b.stopAnswering()
	}
	return known(b.channels.Publish(ctx, topic, b.stamp(topic, msg)))
}

// Append writes msg, which the Dialect has encoded as an entry, to the stream of topic's namespace. The offset is the id of the entry.
// After an error the entry may have been written all the same.
func (b *Bus) Append(ctx context.Context, topic string, msg []byte) (offset string, err error) {
	at, err := b.append(ctx, topic, msg)
	if err != nil {
		b.count.failed.Add(1)
		return "", fmt.Errorf("redisstream: append: %w", err)
	}
	b.count.appended.Add(1)
	return at.String(), nil
}

func (b *Bus) append(ctx context.Context, topic string, msg []byte) (at id, err error) {
	namespace, ok := strings.CutPrefix(topic, keptTopic)
	if !ok {
		return at, fmt.Errorf("topic %q is not kept: %w", topic, cluster.ErrUnsupported)
	}
	index, _ := b.o.streamOf(namespace)
	switch {
	case b.ctx.Err() != nil:
		return at, ErrClosed
	case b.guards[index].Away():
		return at, ErrAway
	case len(msg) > redissub.MaxMessage:
		return at, fmt.Errorf("%d bytes: %w", len(msg), cluster.ErrTooLarge)
	}
	fields, err := args(string(msg)) // a copy: the command may outlive the call when ctx ends first
	if err != nil {                  // whoever reads it will say so
		fields = []string{fieldNSP, namespace, "garbage", string(msg)}
	}
	cmd := b.client.B().Arbitrary("XADD").Keys(b.o.key(index))
	if b.o.MaxLen > 0 {
		cmd = cmd.Args("MAXLEN", "~", strconv.FormatInt(b.o.MaxLen, 10))
	}
	built := cmd.Args("*").Args(fields...).Build()
	var text string
	err = b.guards[index].Do(ctx, len(msg), func(ctx context.Context) (err error) {
		text, err = b.client.Do(ctx, built).ToString()
		return err
	})
	if err != nil {
		return at, err
	}
	if at, ok = parseID(text); !ok {
		return at, fmt.Errorf("%q is no id of a stream", text)
	}
	b.mu.Lock()
	if b.written[index].before(at) {
		b.written[index] = at
	}
	b.mu.Unlock()
	return at, nil
}

// limit bounds a call that reads, or that may be repeated: the client repeats some until their context ends.
func (b *Bus) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 5*b.o.PublishTimeout)
}

// Count returns how many connections subscribe to a channel, on all nodes of Redis together.
func (b *Bus) Count(ctx context.Context, topic string) (int, error) {
	n, err := b.channels.Count(ctx, topic)
	return n, known(err)
}

// Close ends all subscriptions and waits for them. The client stays open. Close may be called twice.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.closed = true
	subs := make([]*subscription, 0, len(b.subs))
	for s := range b.subs {
		subs = append(subs, s)
	}
	b.mu.Unlock()
	b.tasks.Stop()
	err := b.channels.Close()
	for _, s := range subs {
		s.Close()
	}
	b.tasks.Close()
	return err
}
