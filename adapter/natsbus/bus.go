// Package natsbus carries a cluster over NATS: with the server embedded in each node
// ([Embed]: nothing else is installed, and nodes on one machine find each other without
// configuration), or over an existing NATS cluster ([Connect], [New]).
//
// It speaks [cluster.Native]. A [Bus] uses core NATS: what is published while a node is away is not kept by
// NATS, but nodes send it to each other again (cluster.Options.Resend).
//
// # With a log
//
// [OpenLog] makes of a Bus a [Log], which keeps what is told to all nodes in a stream of JetStream, and
// the sessions of clients in another: then nothing is lost while NATS keeps what it took, all nodes perform
// it in the same order, and clients can come back to any node with everything they missed, also
// when the process that they were connected to was killed (atoll.Options.Recovery).
//
// It costs a round trip to JetStream for each operation that is for all, and that it is stored. With an
// external NATS server, JetStream must be switched on (nats-server -js). The embedded one needs
// EmbedOptions.Store: for the nodes of one machine, one of them keeps the store and another takes
// over within a second of its end; for three machines and more, each keeps it.
//
//	             stored on         survives
//	external     the servers       what its operator has arranged: one of three servers, with Replicas 3
//	one machine  one directory     the death of any process; not that of the machine's disk
//	machines     three of them     the death of any one of them, with everything it had
//
// JetStream syncs to disk every two minutes: where all the machines that hold a message lose power at
// once, what they stored since then may be lost.
package natsbus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	neturl "net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atollhq/atoll/cluster"
)

var (
	// ErrAway is wrapped by the errors of Publish and Subscribe while there is no connection.
	ErrAway = errors.New("natsbus: not connected")
	// ErrClosed is what Publish and Subscribe return after Close.
	ErrClosed = errors.New("natsbus: the bus is closed")
)

const (
	subscribeTimeout = 5 * time.Second // where the caller's context has no deadline
	closeTimeout     = 2 * time.Second // for what was published to go out
	maxPending       = 256 << 20       // bytes that may wait in the client for one subscription
)

// Options are a bus's settings. A nil *Options means all defaults.
type Options struct {
	// Cluster is the name of the cluster, which begins all subjects: 1 to 64 letters,
	// digits, "-" and "_". If empty, "atoll".
	Cluster string
}

func (o *Options) cluster() string {
	if o == nil || o.Cluster == "" {
		return "atoll"
	}
	return o.Cluster
}

// A Bus implements cluster.Bus and cluster.Speaker on a connection to NATS.
type Bus struct {
	conn    *nats.Conn
	store   *nats.Conn // to the store of this machine; nil where the log is where conn leads
	owned   bool       // the connection is closed with the bus
	cluster string
	dialect cluster.Dialect
	routed  func() []string // names of the servers that ours has routes to; nil where not known

	ctx   context.Context // ends when Close begins
	stop  context.CancelFunc
	tasks sync.WaitGroup

	gone       atomic.Uint64 // messages dropped by subscriptions that have ended
	answerOnce sync.Mutex

	mu     sync.Mutex
	subs   map[*subscription]struct{}
	answer *nats.Subscription // answers the question "do you hear me?"
	closed bool

	wave      *wave // that has yet to begin; nil where nobody waits for one
	spreading bool  // spreadAll runs
}

var (
	_ cluster.Bus     = (*Bus)(nil)
	_ cluster.Speaker = (*Bus)(nil)
)

// New returns a bus on conn, which stays the caller's. The connection should reconnect
// for ever (nats.MaxReconnects(-1)) and not keep what is published meanwhile
// (nats.ReconnectBufSize(-1)). New panics if the name of the cluster is not allowed.
func New(conn *nats.Conn, o *Options) *Bus {
	b := &Bus{
		conn:    conn,
		cluster: o.cluster(),
		dialect: cluster.Native(o.cluster()),
		subs:    make(map[*subscription]struct{}),
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b
}

// Connect connects to a NATS cluster at url (several with commas between) and returns a bus
// that owns the connection. Lost connections are mended for ever. extra may hold
// credentials, TLS and other options of the connection.
func Connect(ctx context.Context, url string, o *Options, extra ...nats.Option) (*Bus, error) {
	opts := append([]nats.Option{
		nats.Name("atoll"),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // counted by Stats
		timeout(ctx),
	}, extra...)
	conn, err := nats.Connect(url, opts...)
	if err != nil {
		var bad *neturl.Error
		if errors.As(err, &bad) {
			err = bad.Err // without the URL, which may hold a password
		}
		return nil, fmt.Errorf("natsbus: connect to %s: %w", redact(url), err)
	}
	b := New(conn, o)
	b.owned = true
	return b, nil
}

// reconnectDelay is how long to wait before the servers are tried again for the given time: some
// milliseconds at first, because most connections can be had again at once, up to half a second.
func reconnectDelay(attempts int) time.Duration {
	d := 8 * time.Millisecond << min(max(attempts-1, 0), 6)
	return d/2 + rand.N(d/2)
}

func timeout(ctx context.Context) nats.Option {
	d := 2 * time.Second
	if t, ok := ctx.Deadline(); ok {
		d = max(min(d, time.Until(t)), time.Millisecond)
	}
	return nats.Timeout(d)
}

// Dialect implements cluster.Speaker.
func (b *Bus) Dialect() cluster.Dialect { return b.dialect }

// Conn returns the connection that the bus uses.
func (b *Bus) Conn() *nats.Conn { return b.conn }

// Stats is what a bus has counted.
type Stats struct {
	Dropped    uint64 // messages that arrived faster than they could be queued
	Reconnects uint64 // times that the connection was lost and mended
}

// Stats returns the bus's counters.
func (b *Bus) Stats() Stats {
	s := Stats{Dropped: b.gone.Load(), Reconnects: b.conn.Stats().Reconnects}
	b.mu.Lock()
	defer b.mu.Unlock()
	for x := range b.subs {
		if n, err := x.sub.Dropped(); err == nil {
			s.Dropped += uint64(n)
		}
	}
	return s
}

// Publish implements cluster.Bus. It returns an error that wraps cluster.ErrTooLarge when
// msg is larger than the server's max_payload.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.ready(); err != nil {
		return err
	}
	if err := b.fits(msg); err != nil {
		return err
	}
	if err := b.conn.Publish(subject(topic), msg); err != nil {
		return fmt.Errorf("natsbus: publish: %w", b.explain(err))
	}
	return nil
}

// MaxMessage implements cluster.Limiter: it returns the max_payload of the server.
func (b *Bus) MaxMessage() int { return int(b.conn.MaxPayload()) }

// fits says whether the server takes a message of this size.
func (b *Bus) fits(msg []byte) error {
	if limit := b.conn.MaxPayload(); int64(len(msg)) > limit {
		return fmt.Errorf("natsbus: publish %d bytes, and the server's max_payload is %d bytes (raise it in the configuration of the NATS server): %w",
			len(msg), limit, cluster.ErrTooLarge)
	}
	return nil
}

// logConn returns the connection to where the log is.
func (b *Bus) logConn() *nats.Conn {
	if b.store != nil {
		return b.store
	}
	return b.conn
}

// ready says whether something can be sent now.
func (b *Bus) ready() error {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return ErrClosed
	}
	return connected(b.conn)
}

func connected(conn *nats.Conn) error {
	if s := conn.Status(); s != nats.CONNECTED {
		return fmt.Errorf("%w to NATS (%v)", ErrAway, s)
	}
	return nil
}

// explain makes the client's words for a lost connection ours.
func (b *Bus) explain(err error) error {
	if errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionReconnecting) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) || codeOf(err) == codeUnavailable {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return err
}

// Close implements cluster.Bus. What was published goes out first, within two seconds.
func (b *Bus) Close() error {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	subs := make([]*subscription, 0, len(b.subs))
	for s := range b.subs {
		subs = append(subs, s)
	}
	answer := b.answer
	b.answer = nil
	b.mu.Unlock()
	b.stop()
	b.tasks.Wait()
	for _, s := range subs {
		s.Close()
	}
	if answer != nil {
		answer.Unsubscribe()
	}
	if first && b.conn.Status() == nats.CONNECTED {
		b.conn.FlushTimeout(closeTimeout)
	}
	if b.owned {
		b.conn.Close()
	}
	return nil
}
