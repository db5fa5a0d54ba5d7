package redissub

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/cluster"
)

// closeTimeout is how long the Close of a subscription waits for Redis.
const closeTimeout = time.Second

// Options say what a Base is to do. All but Leave are needed.
type Options[P any] struct {
	Package            string // begins all errors and what is logged
	ErrClosed, ErrAway error  // of the package
	Client             rueidis.Client
	Timeout            time.Duration // how long Publish waits for Redis, once, and a second more for each MiB
	Log                *slog.Logger

	// Command returns the command that publishes msg.
	Command func(topic, msg string) rueidis.Completed

	// Keep is the keeper. It makes what Redis has what is wanted, whenever there is a token in Base.Wake, until the
	// Tasks are stopped. It runs from the first Subscribe on.
	Keep func()

	// Leave, unless it is nil, is told instead of the list of topics that are subscribed to and that nobody wants
	// any more. Base.Mu is held.
	Leave func(t *Topic[P])
}

// A Base is a bus without its keeper. P is what the keeper knows of a topic. Any number of goroutines may use it.
type Base[P any] struct {
	Tasks *Tasks
	Guard Guard
	Count Counters
	Wake  chan struct{} // holds a token when the keeper has something to do

	o Options[P]

	Mu      sync.Mutex
	Topics  map[string]*Topic[P] // what somebody wants, or a connection has
	Listed  []*Topic[P]          // what the keeper should see to
	started bool                 // the keeper runs
	closed  bool
}

// Counters are what a bus has counted.
type Counters struct {
	Published, Failed, Received atomic.Uint64 // messages
	Reconnects                  atomic.Uint64 // the keeper's
}

// New returns a Base. It does not talk to Redis yet.
func New[P any](o Options[P]) *Base[P] {
	b := &Base[P]{
		Tasks:  NewTasks(),
		Wake:   make(chan struct{}, 1),
		o:      o,
		Topics: make(map[string]*Topic[P]),
	}
	b.Guard = Guard{
		Tasks: b.Tasks, Timeout: o.Timeout, ErrAway: o.ErrAway, Package: o.Package, Log: o.Log,
		Ping: func(ctx context.Context) error {
			return o.Client.Do(ctx, o.Client.B().Ping().Build()).Error()
		},
	}
	return b
}

// Publish sends msg to all who subscribe to topic. It returns nil when Redis has it. It calls before first, unless that is nil,
// if there is any prospect that Redis will have it.
func (b *Base[P]) Publish(ctx context.Context, topic string, msg []byte, before func()) error {
	err := b.publish(ctx, topic, msg, before)
	if err != nil {
		b.Count.Failed.Add(1)
		return fmt.Errorf("%s: publish: %w", b.o.Package, err)
	}
	b.Count.Published.Add(1)
	return nil
}

func (b *Base[P]) publish(ctx context.Context, topic string, msg []byte, before func()) error {
	switch {
	case b.Tasks.Closed():
		return b.o.ErrClosed
	case b.Guard.Away():
		return b.o.ErrAway
	case len(msg) > MaxMessage:
		return fmt.Errorf("%d bytes: %w", len(msg), cluster.ErrTooLarge)
	}
	if before != nil {
		before()
	}
	// The command may outlive the call when ctx ends first, so it has a copy of msg.
	cmd := b.o.Command(topic, string(msg))
	return b.Guard.Do(ctx, len(msg), func(ctx context.Context) error { return b.o.Client.Do(ctx, cmd).Error() })
}

// Asked returns what count returns, unless the bus is closed or Redis is silent. ctx ends when it should have answered.
func (b *Base[P]) Asked(ctx context.Context, count func(ctx context.Context) (int, error)) (int, error) {
	if b.Tasks.Closed() {
		return 0, b.o.ErrClosed
	}
	if b.Guard.Away() {
		return 0, fmt.Errorf("%s: count: %w", b.o.Package, b.o.ErrAway)
	}
	ctx, cancel := context.WithTimeout(ctx, b.o.Timeout)
	defer cancel()
	n, err := count(ctx)
	if err != nil {
		return 0, fmt.Errorf("%s: count: %w", b.o.Package, err)
	}
	return n, nil
}

// Close ends all subscriptions and waits for them, and for the Tasks. The client stays open. It may be called twice.
func (b *Base[P]) Close() error {
	b.Mu.Lock()
	b.closed = true
	var subs []*subscription[P]
	for _, t := range b.Topics {
		subs = append(subs, t.subs...)
	}
	b.Mu.Unlock()
	b.Tasks.Stop()
	for _, s := range subs {
		s.Close()
	}
	b.Tasks.Close()
	return nil
}
