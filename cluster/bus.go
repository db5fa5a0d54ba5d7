package cluster

import "context"

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

// A Speaker is a Bus whose clusters speak a dialect of their own. Other buses carry Native.
type Speaker interface {
	Dialect() Dialect
}
