package pgbus

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/official"
)

type subscription struct {
	bus     *Bus
	topic   string
	channel string
	once    sync.Once
	mu      sync.Mutex // held during deliver, which only queues
	deliver func(topic string, msg []byte)
}

// Subscribe calls deliver for each message on topic. It waits until PostgreSQL has confirmed
// that it listens, and returns an error when ctx ends before, or PostgreSQL is away, or cannot
// be used like this ([ErrPooler]).
func (b *Bus) Subscribe(ctx context.Context, topic string, deliver func(topic string, msg []byte)) (cluster.Subscription, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("pgbus: subscribe %q: %w", topic, context.Cause(ctx))
	}
	s := &subscription{bus: b, topic: topic, channel: b.channel(topic), deliver: deliver}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, ErrClosed
	}
	b.chores.Do(func() {
		b.tasks.Go(b.cry)
		if b.o.KeepAttachments > 0 {
			b.tasks.Go(b.clean)
		}
	})
	b.topics[s.channel] = append(slices.Clip(b.topics[s.channel]), s)
	b.mu.Unlock()

	wait, cancel := context.WithTimeout(ctx, 2*b.o.Timeout)
	defer cancel()
	var err error
	if node, namespace, ok := b.dialect.present(topic); ok {
		err = b.enter(wait, node, namespace)
	} else {
		err = b.reader.want(wait, s.channel)
	}
	if err != nil {
		b.remove(s)
		return nil, fmt.Errorf("pgbus: subscribe %q: %w", topic, err)
	}
	return s, nil
}

// remove forgets a subscription.
func (b *Bus) remove(s *subscription) {
	b.mu.Lock()
	rest := slices.DeleteFunc(slices.Clone(b.topics[s.channel]), func(other *subscription) bool { return other == s })
	if b.topics[s.channel] = rest; len(rest) == 0 {
		delete(b.topics, s.channel)
	}
	b.mu.Unlock()
	s.mu.Lock()
	s.deliver = nil
	s.mu.Unlock()
}

// Close ends the subscription. deliver is not called any more when it returns. Who gives up a
// namespace says so before.
func (s *subscription) Close() error {
	s.once.Do(func() {
		b := s.bus
		namespace, ok := b.namespace(s.topic)
		_, there, presence := b.dialect.present(s.topic)
		if presence {
			namespace, ok = there, true
		}
		if ok && b.ctx.Err() == nil {
			if ls := b.farewell(namespace); ls != nil {
				ctx, cancel := context.WithTimeout(b.ctx, time.Second)
				b.writer.send(ctx, ls...) // without it, others find out by themselves
				cancel()
			}
		}
		if !presence {
			b.reader.unwant(s.channel)
		}
		b.remove(s)
	})
	return nil
}

// stub returns what stands for a message that lies in a row: what is before the number of the
// row, and what is behind it.
func stub(msg []byte) (head, tail string) {
	h := official.Header{Attachment: "0"}
	h.Kind, h.UID = headOf(msg)
	all := string(h.AppendJSON(nil))
	i := strings.LastIndex(all, `"0"`)
	return all[:i+1], all[i+2:]
}

// handle takes notifications from the connection, in order. Rows are read over it too.
func (b *Bus) handle(ctx context.Context, c *pgx.Conn, ns []*pgconn.Notification) error {
	b.count.received.Add(uint64(len(ns)))
	rows := make(map[int64][]byte)
	for i, n := range ns {
		if n.Channel == b.echo.channel {
			b.echo.heard(n.Payload)
			continue
		}
		subs := b.subscribers(n.Channel)
		if len(subs) == 0 {
			continue
		}
		id, row, own := b.rowOf(n, subs[0].topic)
		if own {
			continue
		}
		if !row {
			b.dispatch(n.Channel, subs, b.message(n, subs[0].topic))
			continue
		}
		msg, ok := rows[id]
		if !ok {
			clear(rows)
			if err := b.fetch(ctx, c, b.upcoming(ns[i:]), rows); err != nil {
				return err
			}
			msg = rows[id]
		}
		if msg == nil {
			b.count.missing.Add(1)
			b.o.Logger.Warn("pgbus: a message was removed from the table before it was read", "table", b.o.Table, "id", id)
			continue
		}
		b.dispatch(n.Channel, subs, msg)
	}
	return nil
}

// message returns the message that is in a notification on a topic.
func (b *Bus) message(n *pgconn.Notification, topic string) []byte {
	if _, ok := b.namespace(topic); ok {
		return []byte(n.Payload)
	}
	msg, err := base64.StdEncoding.DecodeString(n.Payload)
	if err != nil {
		return []byte(n.Payload) // whoever reads it finds out that it is none
	}
	return msg
}

// rowOf returns the number of the row that a notification stands for, and whether this node
// has written it.
func (b *Bus) rowOf(n *pgconn.Notification, topic string) (id int64, row, own bool) {
	text := n.Payload
	if namespace, ok := b.namespace(topic); ok {
		if !strings.Contains(text, `"attachmentId"`) {
			return 0, false, false
		}
		var h struct {
			UID          string      `json:"uid"`
			AttachmentID json.Number `json:"attachmentId"` // the official adapter writes it as text
		}
		if json.Unmarshal([]byte(text), &h) != nil {
			return 0, false, false
		}
		text, own = h.AttachmentID.String(), b.dialect.crowd.own(namespace, h.UID)
	} else if text, ok = strings.CutPrefix(text, rowMark); !ok {
		return 0, false, false
	}
	id, err := strconv.ParseInt(text, 10, 64)
	return id, err == nil, own && err == nil
}

// rowsAtOnce is how many rows are read by one query: each may have many megabytes.
const rowsAtOnce = 8

// upcoming returns the numbers of the next rows that notifications stand for.
func (b *Bus) upcoming(ns []*pgconn.Notification) (ids []int64) {
	for _, n := range ns {
		if len(ids) == rowsAtOnce {
			break
		}
		subs := b.subscribers(n.Channel)
		if len(subs) == 0 {
			continue
		}
		if id, row, own := b.rowOf(n, subs[0].topic); row && !own {
			ids = append(ids, id)
		}
	}
	return ids
}

// subscribers returns who subscribes to what goes over a channel: to topics of one kind.
func (b *Bus) subscribers(channel string) []*subscription {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.topics[channel]
}

func (b *Bus) fetch(ctx context.Context, c *pgx.Conn, ids []int64, rows map[int64][]byte) error {
	b.stored.Store(time.Now().UnixNano())
	found, err := c.Query(ctx, "SELECT id, payload FROM "+b.table+" WHERE id = ANY($1)", ids)
	if err == nil {
		var id int64
		var payload []byte
		_, err = pgx.ForEachRow(found, []any{&id, &payload}, func() error {
			rows[id] = append([]byte{}, payload...)
			return nil
		})
	}
	if code(err) != "" && !c.IsClosed() {
		b.o.Logger.Warn("pgbus: messages could not be read from the table", "table", b.o.Table, "err", err)
		return nil // they count as missing
	}
	return err
}

// dispatch delivers a message. Where several namespaces share a channel, one that does not
// say its namespace is for the one whose name is the channel's.
func (b *Bus) dispatch(channel string, subs []*subscription, msg []byte) {
	for _, s := range subs {
		if s.topic != channel && b.shared(s.topic) {
			if h, _, err := (official.Options{}).Decode("", "", msg); err == nil && h.Namespace == "" {
				continue
			}
		}
		s.mu.Lock()
		if s.deliver != nil {
			s.deliver(s.topic, msg)
		}
		s.mu.Unlock()
	}
}

// shared reports whether the channel of a topic may be another's too.
func (b *Bus) shared(topic string) bool {
	_, ok := b.namespace(topic)
	return ok && sendable(topic) && len(topic) > maxName
}
