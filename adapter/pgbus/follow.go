package pgbus

import (
	"context"
	"encoding/base64"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atollhq/atoll/cluster"
)

// A follower gets what is appended to one topic.
type follower struct {
	log     *Log
	topic   string
	channel string
	once    sync.Once

	mu      sync.Mutex // held during deliver, which only queues
	deliver func(topic, offset string, msg []byte)
	begun   bool // the reader listens for it; what is older is not for it
}

// Subscribe is Follow without offsets. Where messages were trimmed before they could be read,
// nobody is told but the log and Stats.
func (l *Log) Subscribe(ctx context.Context, topic string, deliver func(topic string, msg []byte)) (cluster.Subscription, error) {
	return l.Follow(ctx, topic, func(topic, _ string, msg []byte) {
		if msg != nil {
			deliver(topic, msg)
		}
	})
}

// Follow calls deliver for each message that is appended to topic from now on. It waits until
// PostgreSQL has confirmed that it listens, and returns an error when ctx ends before, or
// PostgreSQL is away, or cannot be used like this ([ErrPooler]).
func (l *Log) Follow(ctx context.Context, topic string, deliver func(topic, offset string, msg []byte)) (cluster.Subscription, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("pgbus: follow %q: %w", topic, context.Cause(ctx))
	}
	f := &follower{log: l, topic: topic, channel: l.channel(topic), deliver: deliver}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, ErrClosed
	}
	l.chores.Do(func() { l.tasks.Go(l.trim) })
	l.topics[f.channel] = append(slices.Clip(l.topics[f.channel]), f)
	l.mu.Unlock()

	wait, cancel := context.WithTimeout(ctx, 2*l.o.Timeout)
	defer cancel()
	if err := l.reader.want(wait, f.channel); err != nil {
		l.remove(f)
		return nil, fmt.Errorf("pgbus: follow %q: %w", topic, err)
	}
	f.mu.Lock()
	f.begun = true
	f.mu.Unlock()
	return f, nil
}

// Close ends the subscription. deliver is not called any more when it returns.
func (f *follower) Close() error {
	f.once.Do(func() {
		f.log.reader.unwant(f.channel)
		f.log.remove(f)
	})
	return nil
}

func (l *Log) remove(f *follower) {
	l.mu.Lock()
	rest := slices.DeleteFunc(slices.Clone(l.topics[f.channel]), func(other *follower) bool { return other == f })
	if l.topics[f.channel] = rest; len(rest) == 0 {
		delete(l.topics, f.channel)
	}
	l.mu.Unlock()
	f.mu.Lock()
	f.deliver = nil
	f.mu.Unlock()
}

// dispatch delivers a row; msg is nil for what is no longer kept. late says that the row comes from the
// table and not with a notification: then it may be older than a follower.
func (l *Log) dispatch(channel string, id int64, msg []byte, late bool) {
	l.mu.Lock()
	fs := l.topics[channel]
	l.mu.Unlock()
	offset := strconv.FormatInt(id, 10)
	for _, f := range fs {
		f.mu.Lock()
		if f.deliver != nil && (f.begun || !late) {
			f.deliver(f.topic, offset, msg)
		}
		f.mu.Unlock()
	}
}

// advance takes note that all up to a row was delivered.
func (l *Log) advance(id int64) {
	l.pos = id
	l.mu.Lock()
	l.seen = id
	l.mu.Unlock()
}

// handle takes notifications from the connection, in the order of the rows.
func (l *Log) handle(ctx context.Context, c *pgx.Conn, ns []*pgconn.Notification) error {
	l.count.received.Add(uint64(len(ns)))
	for _, n := range ns {
		text, data, inline := strings.Cut(n.Payload, " ")
		id, ok := number(text)
		if !ok || id <= l.pos {
			continue // nobody's, or read from the table meanwhile
		}
		var msg []byte
		var err error
		if inline {
			msg, err = base64.StdEncoding.DecodeString(data)
		}
		if !inline || err != nil {
			err = c.QueryRow(ctx, "SELECT data FROM "+l.table+" WHERE id = $1", id).Scan(&msg)
			if err == pgx.ErrNoRows {
				l.missing(id)
				msg, err = nil, nil
			} else if msg == nil {
				msg = []byte{}
			}
		}
		if err != nil {
			return err
		}
		l.dispatch(n.Channel, id, msg, false)
		l.advance(id)
	}
	return nil
}

func (l *Log) missing(id int64) {
	l.count.missing.Add(1)
	l.o.Logger.Warn("pgbus: messages were no longer kept when they could be read", "table", l.o.Table, "up to", id)
}

// before finds the place from which on rows are delivered: before the reader listens, so that
// what is appended meanwhile is behind it. When a topic is added, what is before is read first.
func (l *Log) before(ctx context.Context, c *pgx.Conn) error {
	if l.placed {
		return l.catchUp(ctx, c)
	}
	var end int64
	if err := c.QueryRow(ctx, l.endQuery()).Scan(&end); err != nil {
		return err
	}
	l.placed = true
	l.advance(end)
	return nil
}

// ready reads what was missed.
func (l *Log) ready(ctx context.Context, c *pgx.Conn, again bool) error {
	if again {
		l.count.reconnects.Add(1)
	}
	return l.catchUp(ctx, c)
}

// catchUp reads what is behind the position from the table.
func (l *Log) catchUp(ctx context.Context, c *pgx.Conn) error {
	var end int64
	if err := c.QueryRow(ctx, l.endQuery()).Scan(&end); err != nil {
		return err
	}
	if end == l.pos {
		return nil
	}
	if end < l.pos {
		l.o.Logger.Warn("pgbus: the log was set back; what was appended meanwhile may be missing", "table", l.o.Table, "from", l.pos, "to", end)
		l.advance(end)
		return nil
	}
	var topics [][]byte
	channels := make(map[string]string)
	l.mu.Lock()
	for channel, fs := range l.topics {
		topics = append(topics, []byte(fs[0].topic))
		channels[fs[0].topic] = channel
	}
	l.mu.Unlock()
	return pgx.BeginTxFunc(ctx, c, snapshot, func(tx pgx.Tx) error {
		var trimmed int64
		if err := tx.QueryRow(ctx, "SELECT trimmed FROM "+l.state).Scan(&trimmed); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, l.endQuery()).Scan(&end); err != nil {
			return err
		}
		if trimmed > l.pos {
			l.missing(trimmed)
			for _, channel := range channels {
				l.dispatch(channel, trimmed, nil, true)
			}
			l.advance(trimmed)
		}
		rows, err := tx.Query(ctx, "SELECT id, topic, data FROM "+l.table+" WHERE id > $1 AND id <= $2 AND topic = ANY($3) ORDER BY id", l.pos, end, topics)
		if err != nil {
			return err
		}
		var id int64
		var topic, data []byte
		_, err = pgx.ForEachRow(rows, []any{&id, &topic, &data}, func() error {
			l.dispatch(channels[string(topic)], id, append([]byte{}, data...), true)
			l.advance(id)
			return nil
		})
		if err == nil {
			l.advance(end)
		}
		return err
	})
}

// snapshot is a transaction that sees one state of all tables.
var snapshot = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// sinceLimit is how long an iteration may take that has no other limit.
const sinceLimit = 10 * time.Minute

// Since yields the rows of topic behind offset. It holds a connection of the pool until the
// iteration ends, which is after ten minutes at the latest.
func (l *Log) Since(ctx context.Context, topic, offset string) iter.Seq2[cluster.Record, error] {
	return func(yield func(cluster.Record, error) bool) {
		from, ok := number(offset)
		if !ok {
			yield(cluster.Record{}, fmt.Errorf("pgbus: since: %q is no offset: %w", offset, cluster.ErrTrimmed))
			return
		}
		stopped := false
		err := l.query(ctx, sinceLimit, func(ctx context.Context, c *pgxpool.Conn) error {
			return pgx.BeginTxFunc(ctx, c.Conn(), snapshot, func(tx pgx.Tx) error {
				var trimmed, end int64
				err := tx.QueryRow(ctx, "SELECT trimmed, greatest(trimmed, (SELECT max(id) FROM "+l.table+")) FROM "+l.state).Scan(&trimmed, &end)
				if err != nil {
					return err
				}
				if from < trimmed || from > end {
					return fmt.Errorf("offset %s, the log goes from %d to %d: %w", offset, trimmed, end, cluster.ErrTrimmed)
				}
				rows, err := tx.Query(ctx, "SELECT id, data FROM "+l.table+" WHERE id > $1 AND topic = $2 ORDER BY id", from, []byte(topic))
				if err != nil {
					return err
				}
				defer rows.Close()
				for rows.Next() {
					var id int64
					var data []byte
					if err := rows.Scan(&id, &data); err != nil {
						return err
					}
					if !yield(cluster.Record{Offset: strconv.FormatInt(id, 10), Data: append([]byte{}, data...)}, nil) {
						stopped = true
						return nil
					}
				}
				return rows.Err()
			})
		})
		if err != nil && !stopped {
			yield(cluster.Record{}, fmt.Errorf("pgbus: since: %w", err))
		}
	}
}
