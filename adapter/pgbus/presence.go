package pgbus

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/tinylib/msgp/msgp"

	"github.com/atollhq/atoll/internal/official"
)

// word returns a message of presence in a namespace.
func (b *Bus) word(kind official.Kind, node, namespace string) *letter {
	return b.letter(b.dialect.all(namespace), official.Header{Kind: kind, UID: node, Namespace: namespace}.AppendJSON(nil))
}

// enter says in a namespace that the node is there. It listens already, so it hears who answers.
func (b *Bus) enter(ctx context.Context, node, namespace string) error {
	b.dialect.crowd.enter(namespace, node)
	if err := b.writer.send(ctx, b.word(official.InitialHeartbeat, node, namespace)); err != nil {
		b.dialect.crowd.leave(namespace)
		return err
	}
	return nil
}

// farewell returns what says in a namespace that the node leaves; nothing where it is not there.
func (b *Bus) farewell(namespace string) []*letter {
	if node := b.dialect.crowd.leave(namespace); node != "" {
		return []*letter{b.word(official.AdapterClose, node, namespace)}
	}
	return nil
}

// ready says everywhere that the node is there, because it may have missed who came.
func (b *Bus) ready(ctx context.Context, c *pgx.Conn, again bool) error {
	if err := b.reader.command(ctx, c, listen(b.echo.channel)); err != nil {
		return err
	}
	if !again {
		return nil
	}
	b.count.reconnects.Add(1)
	var ls []*letter
	for namespace, node := range b.dialect.crowd.all() {
		b.dialect.crowd.enter(namespace, node)
		ls = append(ls, b.word(official.InitialHeartbeat, node, namespace))
	}
	return b.writer.send(ctx, ls...)
}

// cry says that the node is there, where somebody asks or has not heard it for long.
func (b *Bus) cry() {
	next := beat
	for {
		t := time.NewTimer(next)
		select {
		case <-t.C:
		case <-b.dialect.crowd.wake:
			t.Stop()
		case <-b.ctx.Done():
			t.Stop()
			return
		}
		var spaces map[string]string
		spaces, next = b.dialect.crowd.due(time.Now())
		var ls []*letter
		for namespace, node := range spaces {
			ls = append(ls, b.word(official.Heartbeat, node, namespace))
		}
		b.writer.send(b.ctx, ls...) // where it fails, the next one follows, or a new beginning
	}
}

// An echo is a channel on which a Bus hears only itself, so that it knows that it has heard
// all that was said before.
type echo struct {
	channel string

	mu      sync.Mutex
	number  uint64
	waiting map[uint64]chan struct{}
}

// heard takes in an echo.
func (e *echo) heard(payload string) {
	n, err := strconv.ParseUint(payload, 10, 64)
	if err != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.waiting[n]; c != nil {
		close(c)
		delete(e.waiting, n)
	}
}

// sync returns when all notifications that PostgreSQL took before the call have been delivered.
func (b *Bus) sync(ctx context.Context) error {
	if !b.reader.connected() {
		return fmt.Errorf("pgbus: %w", ErrAway)
	}
	e := &b.echo
	c := make(chan struct{})
	e.mu.Lock()
	e.number++
	n := e.number
	if e.waiting == nil {
		e.waiting = make(map[uint64]chan struct{})
	}
	e.waiting[n] = c
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.waiting, n)
		e.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, b.o.Timeout)
	defer cancel()
	if err := b.writer.send(ctx, &letter{channel: e.channel, payload: strconv.FormatUint(n, 10)}); err != nil {
		return err
	}
	select {
	case <-c:
		return nil
	case <-b.ctx.Done():
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrAway, context.Cause(ctx))
	}
}

// headOf returns the kind and the sender of a message in MessagePack, as far as they can be read.
func headOf(msg []byte) (kind official.Kind, uid string) {
	n, rest, err := msgp.ReadMapHeaderBytes(msg)
	for range n {
		var key []byte
		if err != nil {
			break
		}
		if key, rest, err = msgp.ReadStringZC(rest); err != nil {
			break
		}
		switch string(key) {
		case "type":
			var k int
			k, rest, err = msgp.ReadIntBytes(rest)
			kind = official.Kind(k)
		case "uid":
			uid, rest, err = msgp.ReadStringBytes(rest)
		default:
			rest, err = msgp.Skip(rest)
		}
	}
	return kind, uid
}
