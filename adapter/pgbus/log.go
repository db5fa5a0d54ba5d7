package pgbus

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/recovery"
)

// A Log is a cluster.Bus, and a cluster.Log, on a table of PostgreSQL, in Atoll's own format. Every
// message is a row, so that who was away reads what it missed. It has two connections of its
// own, and takes others from the pool for what is asked for. Any number of goroutines may use it.
type Log struct {
	o        LogOptions
	pool     *pgxpool.Pool
	table    string // quoted, like the following
	state    string
	sessions string
	lock     int64 // the advisory lock of those who append
	writer   *writer
	reader   *listener

	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	tasks  sync.WaitGroup
	count  counters
	chores sync.Once

	creations gather[creation]
	takings   gather[taking]

	mu     sync.Mutex
	topics map[string][]*follower // by channel; the slices are replaced, never changed
	closed bool
	schema bool // the tables are there
	seen   int64

	// The reader's.
	placed bool  // pos is set
	pos    int64 // the last row that was delivered, or passed over
}

var (
	_ cluster.Log       = (*Log)(nil)
	_ cluster.Ender     = (*Log)(nil)
	_ recovery.Sessions = (*Log)(nil)
)

// NewLog returns a Log on the database of pool, which stays open when the Log is closed. It does
// not talk to PostgreSQL yet.
func NewLog(pool *pgxpool.Pool, o *LogOptions) *Log {
	l := &Log{o: o.withDefaults(), pool: pool, topics: make(map[string][]*follower)}
	l.table, l.state, l.sessions = quoted(l.o.Table), beside(l.o.Table, "_state"), beside(l.o.Table, "_sessions")
	l.lock = lockOf("append", l.o.Table)
	l.ctx, l.stop = context.WithCancel(context.Background())
	params := map[string]string{}
	if l.o.Async {
		params["synchronous_commit"] = "off"
	}
	l.writer = &writer{
		ctx: l.ctx, timeout: l.o.Timeout, log: l.o.Logger, tasks: &l.tasks, wake: make(chan struct{}, 1), write: l.write,
		connect: func(ctx context.Context) (*pgx.Conn, error) {
			c, err := connect(ctx, pool, params, nil)
			if err == nil {
				if err = l.prepare(ctx, c); err != nil {
					closeConn(c)
				}
			}
			return c, err
		},
	}
	l.creations = gather[creation]{log: l, perform: l.createAll}
	l.takings = gather[taking]{log: l, perform: l.takeAll}
	r := newListener()
	r.ctx, r.timeout, r.keepAlive, r.log, r.tasks = l.ctx, l.o.Timeout, l.o.KeepAlive, l.o.Logger, &l.tasks
	r.connect = func(ctx context.Context, f func(*pgconn.Notification)) (*pgx.Conn, error) {
		return connect(ctx, pool, nil, f)
	}
	r.notify = func(ctx context.Context, channel string) error { return l.writer.send(ctx, &letter{channel: channel}) }
	r.before, r.ready, r.handle, r.test = l.before, l.ready, l.handle, l.catchUp
	l.reader = r
	return l
}

// Stats returns the counters.
func (l *Log) Stats() Stats { return l.count.stats() }

// Kept reports true: all topics are kept.
func (l *Log) Kept(string) bool { return true }

// channel returns the channel of a topic.
func (l *Log) channel(topic string) string { return hashed("atoll-log-", l.o.Table, topic) }

// Publish is Append.
func (l *Log) Publish(ctx context.Context, topic string, msg []byte) error {
	_, err := l.Append(ctx, topic, msg)
	return err
}

// Append writes msg as a row. It returns when PostgreSQL has committed it, with the number of the row. It
// returns an error at once while PostgreSQL is known to be away, and after Options.Timeout
// (or ctx) where it is silent; the message may have been written then.
func (l *Log) Append(ctx context.Context, topic string, msg []byte) (offset string, err error) {
	x := &letter{channel: l.channel(topic), topic: topic, data: append([]byte{}, msg...)}
	if base64.StdEncoding.EncodedLen(len(msg)) <= maxPayload-maxNumber {
		x.tail = " " + base64.StdEncoding.EncodeToString(msg)
	}
	if err := l.writer.send(ctx, x); err != nil {
		l.count.failed.Add(1)
		return "", fmt.Errorf("pgbus: append: %w", err)
	}
	l.count.published.Add(1)
	return strconv.FormatInt(x.id, 10), nil
}

// maxNumber is how many bytes the number of a row takes, and the space behind it.
const maxNumber = 20

// write appends rows in one transaction. Whoever appends holds a lock until it has committed, so
// rows become visible in the order of their numbers, and PostgreSQL sends the notifications in
// that order too.
func (l *Log) write(ctx context.Context, c *pgx.Conn, ls []*letter) error {
	err := l.writeOnce(ctx, c, ls)
	if code(err) == undefinedTable {
		if err = l.migrate(ctx, c); err == nil {
			err = l.writeOnce(ctx, c, ls)
		}
	}
	return err
}

func (l *Log) writeOnce(ctx context.Context, c *pgx.Conn, ls []*letter) error {
	batch := &pgx.Batch{}
	batch.Queue("SELECT pg_advisory_xact_lock($1)", l.lock)
	for _, x := range ls {
		if x.data == nil {
			batch.Queue("SELECT pg_notify($1, $2)", x.channel, x.payload)
			continue
		}
		batch.Queue("WITH r AS (INSERT INTO "+l.table+" (topic, data) VALUES ($1, $2) RETURNING id) SELECT id, pg_notify($3, id || $4::text) FROM r",
			[]byte(x.topic), x.data, x.channel, x.tail).QueryRow(func(row pgx.Row) error { return row.Scan(&x.id, nil) })
	}
	return c.SendBatch(ctx, batch).Close()
}

// prepare makes the tables where they are missing. Where the log has gone back behind what this node has
// seen, because the server lost what it had not written to disk, it goes on behind that.
func (l *Log) prepare(ctx context.Context, c *pgx.Conn) error {
	l.mu.Lock()
	done, seen := l.schema, l.seen
	l.mu.Unlock()
	if !done {
		if err := l.migrate(ctx, c); err != nil {
			return err
		}
		l.mu.Lock()
		l.schema = true
		l.mu.Unlock()
	}
	if seen == 0 {
		return nil
	}
	var sequence string
	err := c.QueryRow(ctx, "SELECT pg_get_serial_sequence($1, 'id')", l.table).Scan(&sequence)
	if err == nil {
		_, err = c.Exec(ctx, "SELECT setval($1::regclass, $2) WHERE $2 > (SELECT last_value FROM "+sequence+")", sequence, seen)
	}
	return err
}

// End returns the number of the last row of all topics.
func (l *Log) End(ctx context.Context, _ string) (offset string, err error) {
	var end int64
	err = l.query(ctx, l.o.Timeout, func(ctx context.Context, c *pgxpool.Conn) error {
		return c.QueryRow(ctx, l.endQuery()).Scan(&end)
	})
	if err != nil {
		return "", fmt.Errorf("pgbus: end: %w", err)
	}
	return strconv.FormatInt(end, 10), nil
}

func (l *Log) endQuery() string {
	return "SELECT greatest(trimmed, (SELECT max(id) FROM " + l.table + ")) FROM " + l.state
}

// query does something on a connection of the pool, with the tables there, within a time.
func (l *Log) query(ctx context.Context, limit time.Duration, f func(context.Context, *pgxpool.Conn) error) error {
	if l.ctx.Err() != nil {
		return ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.ctx, func() { cancel(ErrClosed) })()
	ctx, stop := context.WithTimeout(ctx, limit)
	defer stop()
	c, err := l.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	defer c.Release()
	if err = f(ctx, c); code(err) == undefinedTable {
		if err = l.migrate(ctx, c.Conn()); err == nil {
			err = f(ctx, c)
		}
	}
	if err != nil && code(err) == "" && ctx.Err() == nil && c.Conn().IsClosed() {
		err = fmt.Errorf("%w: %w", ErrAway, err)
	}
	return err
}

// Compare compares two offsets of the log as numbers; what is none is before all others.
func (l *Log) Compare(a, b string) int {
	x, okX := number(a)
	y, okY := number(b)
	switch {
	case !okX || !okY:
		return boolInt(okX) - boolInt(okY)
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// number reads an offset.
func number(offset string) (int64, bool) {
	n, err := strconv.ParseInt(offset, 10, 64)
	return n, err == nil && n >= 0 && offset[0] != '+'
}

// Close ends all subscriptions and waits for them. The pool stays open. Close may be called twice.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	var all []*follower
	for _, fs := range l.topics {
		all = append(all, fs...)
	}
	l.mu.Unlock()
	l.stop()
	l.writer.close()
	l.reader.close()
	var errs []error
	for _, f := range slices.Clone(all) {
		errs = append(errs, f.Close())
	}
	l.tasks.Wait()
	return errors.Join(errs...)
}
