package pgbus

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atollhq/atoll/cluster"
)

// A Bus is a cluster.Bus on PostgreSQL, in the format of @socket.io/postgres-adapter. It has two
// connections of its own, one that listens and one that publishes, and takes one from
// the pool now and then. One Bus is for one node. Any number of goroutines may use it.
type Bus struct {
	o       Options
	pool    *pgxpool.Pool
	dialect *Dialect
	table   string // quoted
	writer  *writer
	reader  *listener

	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	tasks sync.WaitGroup

	count  counters
	looked atomic.Bool  // the table was there, or its lack was reported
	stored atomic.Int64 // when this node last put something into the table, or looked for it there, in Unix nanoseconds
	echo   echo
	chores sync.Once // starts what runs in the background

	mu     sync.Mutex
	topics map[string][]*subscription // by channel; the slices are replaced, never changed
	closed bool
}

type counters struct{ published, failed, received, reconnects, missing atomic.Uint64 }

// Stats is what a Bus or a Log has counted.
type Stats struct {
	Published  uint64 // messages that PostgreSQL took
	Failed     uint64 // messages that PostgreSQL did not take, or did not say so in time
	Received   uint64 // notifications that came
	Reconnects uint64 // times that the connection that listens was made anew
	Missing    uint64 // Bus: messages whose row was removed before it was read; Log: times that messages were no longer kept
}

var (
	_ cluster.Bus     = (*Bus)(nil)
	_ cluster.Speaker = (*Bus)(nil)
	_ cluster.Counter = (*Bus)(nil)
)

// New returns a Bus on the database of pool, which stays open when the Bus is closed. It does not
// talk to PostgreSQL yet.
func New(pool *pgxpool.Pool, o *Options) *Bus {
	b := &Bus{o: o.withDefaults(), pool: pool, topics: make(map[string][]*subscription)}
	b.dialect = NewDialect(o)
	b.table = quoted(b.o.Table)
	b.ctx, b.stop = context.WithCancel(context.Background())
	b.writer = &writer{
		ctx: b.ctx, timeout: b.o.Timeout, log: b.o.Logger, tasks: &b.tasks, wake: make(chan struct{}, 1), write: b.write,
		connect: func(ctx context.Context) (*pgx.Conn, error) {
			c, err := connect(ctx, pool, nil, nil)
			if err == nil {
				b.prepare(ctx, c)
			}
			return c, err
		},
	}
	r := newListener()
	r.ctx, r.timeout, r.keepAlive, r.log, r.tasks = b.ctx, b.o.Timeout, b.o.KeepAlive, b.o.Logger, &b.tasks
	r.connect = func(ctx context.Context, f func(*pgconn.Notification)) (*pgx.Conn, error) {
		return connect(ctx, pool, nil, f)
	}
	r.notify = func(ctx context.Context, channel string) error { return b.writer.send(ctx, &letter{channel: channel}) }
	r.ready, r.handle = b.ready, b.handle
	r.test = func(ctx context.Context, c *pgx.Conn) error { return r.command(ctx, c, "SELECT 1") }
	b.reader = r
	b.echo.channel = "atoll-echo-" + rand.Text()
	return b
}

// Dialect returns the format of @socket.io/postgres-adapter.
func (b *Bus) Dialect() cluster.Dialect { return b.dialect }

// PostgresBus returns b, also where b is embedded.
func (b *Bus) PostgresBus() *Bus { return b }

// Stats returns the counters.
func (b *Bus) Stats() Stats { return b.count.stats() }

func (c *counters) stats() Stats {
	return Stats{c.published.Load(), c.failed.Load(), c.received.Load(), c.reconnects.Load(), c.missing.Load()}
}

// Publish sends msg to all who subscribe to topic. It returns nil when PostgreSQL has it. It
// returns an error at once while PostgreSQL is known to be away, and after Options.Timeout
// (or ctx) where it is silent; the message may have been sent then.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	var ls []*letter
	if _, goodbyes := b.dialect.side.All(); topic == goodbyes {
		for namespace := range b.dialect.crowd.all() {
			ls = append(ls, b.farewell(namespace)...)
		}
	}
	err := b.writer.send(ctx, append(ls, b.letter(topic, msg))...)
	if err != nil {
		b.count.failed.Add(1)
		return fmt.Errorf("pgbus: publish: %w", err)
	}
	b.count.published.Add(1)
	if namespace, ok := b.namespace(topic); ok {
		b.dialect.crowd.said(namespace)
	}
	return nil
}

// letter says how a message is to be sent; it keeps nothing of msg.
func (b *Bus) letter(topic string, msg []byte) *letter {
	l := &letter{channel: b.channel(topic)}
	if _, ok := b.namespace(topic); ok {
		if fits(msg) {
			l.payload = string(msg)
			return l
		}
		l.data = slices.Clone(msg)
		l.payload, l.tail = stub(msg)
	} else if base64.StdEncoding.EncodedLen(len(msg)) <= maxPayload {
		l.payload = base64.StdEncoding.EncodeToString(msg)
		return l
	} else {
		l.data = slices.Clone(msg)
		l.payload = rowMark
	}
	if l.data == nil {
		l.data = []byte{}
	}
	return l
}

// rowMark begins the notification of a message that is none of the official format, and lies in
// a row. It does not occur in base64.
const rowMark = "@"

// fits reports whether an official message can be a notification.
func fits(msg []byte) bool {
	return len(msg) > 0 && msg[0] == '{' && len(msg) <= maxPayload && utf8.Valid(msg) && !slices.Contains(msg, 0)
}

// namespace returns the namespace whose messages go over a topic.
func (b *Bus) namespace(topic string) (string, bool) {
	return strings.CutPrefix(topic, b.o.Prefix+"#")
}

// channel returns the channel of a topic. That of a namespace is the one where Node.js nodes listen, also
// where the name is too long and PostgreSQL has cut it for them: then several namespaces
// share it. All others have one of their own.
func (b *Bus) channel(topic string) string {
	if !sendable(topic) {
		return hashed("atoll-topic-", topic)
	}
	if _, ok := b.namespace(topic); ok {
		return clip(topic)
	}
	if len(topic) > maxName || topic == "" || strings.HasPrefix(topic, "atoll-") {
		return hashed("atoll-topic-", topic)
	}
	return topic
}

// write sends letters in one transaction.
func (b *Bus) write(ctx context.Context, c *pgx.Conn, ls []*letter) error {
	err := b.writeOnce(ctx, c, ls)
	if code(err) == undefinedTable {
		if err = b.migrate(ctx, c); err == nil {
			err = b.writeOnce(ctx, c, ls)
		}
	}
	return err
}

func (b *Bus) writeOnce(ctx context.Context, c *pgx.Conn, ls []*letter) error {
	batch := &pgx.Batch{}
	for _, l := range ls {
		if l.data == nil {
			batch.Queue("SELECT pg_notify($1, $2)", l.channel, l.payload)
			continue
		}
		batch.Queue("WITH a AS (INSERT INTO "+b.table+" (payload) VALUES ($1) RETURNING id) SELECT pg_notify($2, $3::text || id || $4::text) FROM a",
			l.data, l.channel, l.payload, l.tail)
		b.stored.Store(time.Now().UnixNano())
	}
	return c.SendBatch(ctx, batch).Close()
}

// Count returns whether the node that a topic names (see Dialect.Topics) is in a namespace: 1, or 0.
func (b *Bus) Count(ctx context.Context, topic string) (int, error) {
	node, namespace, ok := b.dialect.present(topic)
	if !ok {
		return 0, fmt.Errorf("pgbus: count %q: PostgreSQL does not tell who listens: %w", topic, cluster.ErrUnsupported)
	}
	if err := b.listened(ctx, namespace); err != nil {
		return 0, err
	}
	if _, there := b.dialect.crowd.in(namespace, node); there {
		return 1, nil
	}
	return 0, nil
}

// Close ends all subscriptions and waits for them. The pool stays open. Close may be called twice.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.closed = true
	var subs []*subscription
	for _, s := range b.topics {
		subs = append(subs, s...)
	}
	b.mu.Unlock()
	b.stop()
	b.writer.close()
	b.reader.close()
	for _, s := range subs {
		s.Close()
	}
	b.tasks.Wait()
	return nil
}
