package pgbus

import (
	"context"
	"fmt"
	"runtime"
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
	calls   map[uint64]*call // that were not heard yet
	waiting *call            // is about to be sent
}

// A call is one notification, for all who came before it was sent.
type call struct {
	number uint64
	done   chan struct{} // closed when it was heard, or err is set
	err    error
}

// join returns the next call, and whether it is for the caller to send it.
func (e *echo) join() (c *call, first bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting != nil {
		return e.waiting, false
	}
	e.number++
	e.waiting = &call{number: e.number, done: make(chan struct{})}
	if e.calls == nil {
		e.calls = make(map[uint64]*call)
	}
	e.calls[e.number] = e.waiting
	return e.waiting, true
}

// sent says that nobody can join a call any more.
func (e *echo) sent(c *call) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting == c {
		e.waiting = nil
	}
}

// end ends a call; once.
func (e *echo) end(number uint64, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.calls[number]; c != nil {
		c.err = err
		delete(e.calls, number)
		close(c.done)
	}
}

// heard takes in an echo.
func (e *echo) heard(payload string) {
	if n, err := strconv.ParseUint(payload, 10, 64); err == nil {
		e.end(n, nil)
	}
}

// listened returns when all that was said in a namespace before the call was heard, and
// everybody had time to say that he is there.
func (b *Bus) listened(ctx context.Context, namespace string) error {
	if rest := b.dialect.crowd.wait(namespace); rest > 0 && !sleep(ctx, rest) {
		return context.Cause(ctx)
	}
	if b.ctx.Err() != nil {
		return ErrClosed
	}
	if !b.reader.connected() {
		return fmt.Errorf("pgbus: %w", ErrAway)
	}
	c, first := b.echo.join()
	if first {
		runtime.Gosched() // a question asks for each node at once: one call is for all
		b.echo.sent(c)
		b.mu.Lock()
		if b.closed {
			b.mu.Unlock()
			b.echo.end(c.number, ErrClosed)
			return ErrClosed
		}
		b.tasks.Go(func() { b.call(c) })
		b.mu.Unlock()
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// call sends a call and waits until it is heard.
func (b *Bus) call(c *call) {
	ctx, cancel := context.WithTimeout(b.ctx, b.o.Timeout)
	defer cancel()
	err := b.writer.send(ctx, &letter{channel: b.echo.channel, payload: strconv.FormatUint(c.number, 10)})
	if err == nil {
		select {
		case <-c.done:
			return
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", ErrAway, context.Cause(ctx))
		}
	}
	b.echo.end(c.number, err)
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
