package cluster

import (
	"context"
	"iter"
)

// A Bus carries messages between nodes. It does not look into them. This is all that
// an adapter's author writes; clustertest holds the tests that each must pass.
//
// All methods may be called by any number of goroutines at once.
type Bus interface {
	// Publish sends msg to all who subscribe to topic, at most once. It may reach the
	// publisher too. Messages of one goroutine keep their order, on all topics together
	// where the medium can. It returns nil once the medium has the message, and an error
	// at once while the medium is away; it does not buffer for later. msg is the
	// caller's again when Publish returns.
	Publish(ctx context.Context, topic string, msg []byte) error

	// Subscribe calls deliver for each message on topic, in each publisher's order, never
	// twice at a time, from when it returns. deliver only queues; it does not call the
	// Bus; msg is its to keep, not to change. A lost connection is the Bus's to mend.
	Subscribe(ctx context.Context, topic string, deliver func(topic string, msg []byte)) (Subscription, error)

	// Close ends all subscriptions and waits for them. What New was given stays open.
	Close() error
}

// A Subscription is ended by its Close, which waits until deliver has returned for the last time.
type Subscription interface{ Close() error }

// A Counter is a Bus that can say how many subscribe to a topic. A dialect without
// membership needs it to know how many answers to expect.
type Counter interface {
	Count(ctx context.Context, topic string) (int, error)
}

// An Attender is a Bus that can say whether anybody subscribes to a topic, and that of which it says nobody does is
// so: the process that did is dead, or its connection is.
type Attender interface {
	Attended(ctx context.Context, topic string) (bool, error)
}

// A Speaker is a Bus whose clusters speak a dialect of their own. Other buses carry Native.
type Speaker interface {
	Dialect() Dialect
}

// A Log is a Bus that keeps what is published on some of its topics, in one order that is the same
// for all, so that who was away can read what it missed. Offsets are opaque text without spaces.
type Log interface {
	Bus

	// Kept reports whether the messages on topic are kept.
	Kept(topic string) bool

	// Append is Publish on a topic that is kept. It returns the message's place, which
	// Follow and Since tell too.
	Append(ctx context.Context, topic string, msg []byte) (offset string, err error)

	// Follow is Subscribe on a topic that is kept. deliver gets every message from when Follow
	// returns, one's own too, in the order of the log, each once, whatever happens to the
	// connection meanwhile. Where some are no longer kept when they could be read at last,
	// deliver is called with the offset of the last of them and a nil msg.
	Follow(ctx context.Context, topic string, deliver func(topic, offset string, msg []byte)) (Subscription, error)

	// Since yields what is kept on topic behind offset, in order, up to what was there when
	// it was called. Where something behind offset is no longer kept, or offset is none of the
	// log's, it yields an error that wraps ErrTrimmed, first.
	Since(ctx context.Context, topic, offset string) iter.Seq2[Record, error]

	// Compare returns -1, 0 or 1 where a is before, at or behind b. Clients say from where they want to go on, so they may be
	// anything: what is no offset is before all that are.
	Compare(a, b string) int
}

// An Ender is a Log that can say where a topic's log ends: the offset of its last message, or what
// else Since takes to mean "behind all that is there now". Every Log should be one: without
// it nothing can be recovered before a node has seen its first message.
type Ender interface {
	End(ctx context.Context, topic string) (offset string, err error)
}

// A Record is a message in a Log.
type Record struct {
	Offset string
	Data   []byte
}
