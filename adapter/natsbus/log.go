package natsbus

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/recovery"
)

// LogOptions are the settings of a Log. A nil *LogOptions means all defaults. All nodes of a cluster
// should have the same; who opens the Log last decides.
type LogOptions struct {
	// MaxAge is how long messages are kept: the longest absence after which a client gets what
	// it missed. If zero, 10 minutes.
	MaxAge time.Duration

	// MaxBytes is how many bytes of messages are kept; the oldest go first. If zero, 256 MiB.
	MaxBytes int64

	// Replicas is on how many servers messages and sessions lie: 1, 3 or 5. With 3 one server may
	// die and nothing stops; with 1 the log stops until the server is back. If zero, 3
	// where JetStream runs on three servers or more, and 1 elsewhere.
	Replicas int

	// Memory keeps messages and sessions in memory instead of on disk: they are lost when all servers
	// that have them end.
	Memory bool

	// SessionAge is how long a session is kept at most, whatever its time to live is. If zero, one day.
	SessionAge time.Duration

	// Logger is told when the log is away and when it is back. If nil, slog.Default().
	Logger *slog.Logger
}

const (
	defaultMaxAge     = 10 * time.Minute
	defaultMaxBytes   = 256 << 20
	defaultSessionAge = 24 * time.Hour
	bestReplicas      = 3
	apiTimeout        = 5 * time.Second // for one question to JetStream
	appendTimeout     = 2 * time.Second
)

func (o *LogOptions) withDefaults() (LogOptions, error) {
	var c LogOptions
	if o != nil {
		c = *o
	}
	if c.MaxAge <= 0 {
		c.MaxAge = defaultMaxAge
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if c.SessionAge <= 0 {
		c.SessionAge = defaultSessionAge
	}
	if c.Replicas < 0 || c.Replicas > 5 {
		return c, fmt.Errorf("LogOptions.Replicas is %d: it must be 1, 3 or 5", c.Replicas)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// A Log is a Bus that keeps what is said to all nodes in a stream of JetStream, and the sessions of
// clients in another. It implements cluster.Log and recovery.Sessions, and everything that
// a Bus is. What is for one node or one room does not pass the log.
type Log struct {
	*Bus
	o        LogOptions
	js       jetstream.JetStream
	kept     string // the topic that is kept
	sessions string // begins the topics of sessions
	ttls     bool   // the server knows a time to live for each message

	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu    sync.Mutex
	epoch epoch           // of the stream, as it was last seen
	last  uint64          // the highest sequence of epoch that was seen
	link  context.Context // ends when the connection breaks
	cut   context.CancelCauseFunc
}

var (
	_ cluster.Log       = (*Log)(nil)
	_ cluster.Ender     = (*Log)(nil)
	_ recovery.Sessions = (*Log)(nil)
)

// ErrNoJetStream is wrapped by OpenLog where the servers run without JetStream.
var ErrNoJetStream = errors.New("natsbus: JetStream is not switched on")

// OpenLog makes a Log of bus, which it closes at its end. It makes the streams ATOLL-<cluster>-LOG and
// ATOLL-<cluster>-SESSIONS, or brings those that are there in line with o.
func OpenLog(ctx context.Context, bus *Bus, o *LogOptions) (*Log, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("natsbus: open log: %w", err)
	}
	js, err := jetstream.New(bus.logConn(), jetstream.WithPublishAsyncTimeout(apiTimeout), jetstream.WithPublishAsyncMaxPending(1<<20))
	if err != nil {
		return nil, fmt.Errorf("natsbus: open log: %w", err)
	}
	l := &Log{Bus: bus, o: opts, js: js, kept: bus.cluster + ".all", sessions: bus.cluster + ".session."}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.link, l.cut = context.WithCancelCause(l.ctx)
	status := js.Conn().StatusChanged(nats.CONNECTED, nats.RECONNECTING)
	l.tasks.Go(func() { l.watch(status) })
	if err := l.open(ctx); err != nil {
		l.stop()
		l.tasks.Wait()
		return nil, fmt.Errorf("natsbus: open log: %w", err)
	}
	return l, nil
}

// watch has those who wait for an answer over a connection that broke wait no more: it will not come.
func (l *Log) watch(status chan nats.Status) {
	conn := l.js.Conn()
	defer conn.RemoveStatusListener(status)
	for {
		select {
		case s, ok := <-status:
			if !ok {
				return
			}
			if s != nats.RECONNECTING {
				continue
			}
			l.mu.Lock()
			l.cut(fmt.Errorf("%w: the connection broke", ErrAway))
			l.link, l.cut = context.WithCancelCause(l.ctx)
			l.mu.Unlock()
		case <-l.ctx.Done():
			return
		}
	}
}

// overLink returns a context like ctx that ends after d, and when the connection breaks.
func (l *Log) overLink(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	l.mu.Lock()
	link := l.link
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, d)
	linked, broken := context.WithCancelCause(ctx)
	stop := context.AfterFunc(link, func() { broken(context.Cause(link)) })
	return linked, func() {
		stop()
		broken(nil)
		cancel()
	}
}

func (l *Log) streamName() string  { return "ATOLL-" + l.cluster + "-LOG" }
func (l *Log) sessionName() string { return "ATOLL-" + l.cluster + "-SESSIONS" }

func (l *Log) storage() jetstream.StorageType {
	if l.o.Memory {
		return jetstream.MemoryStorage
	}
	return jetstream.FileStorage
}

func (l *Log) logConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: l.streamName(), Description: "what the nodes of an Atoll cluster tell each other",
		Subjects: []string{subject(l.kept)}, Storage: l.storage(), Replicas: replicas,
		MaxAge: l.o.MaxAge, MaxBytes: l.o.MaxBytes, Discard: jetstream.DiscardOld, Duplicates: time.Second,
	}
}

// open makes the streams. The servers may only be finding each other, so it tries until ctx ends,
// or for five seconds.
func (l *Log) open(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	for {
		err := l.tryOpen(limit)
		if err == nil || errors.Is(err, ErrNoJetStream) || refused(err) {
			return err
		}
		select {
		case <-limit.Done():
			if errors.Is(err, nats.ErrNoResponders) {
				err = noJetStream(err)
			}
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (l *Log) tryOpen(ctx context.Context) error {
	replicas := l.o.Replicas
	if replicas == 0 {
		replicas = bestReplicas
	}
	s, err := l.js.CreateOrUpdateStream(ctx, l.logConfig(replicas))
	if err != nil && l.o.Replicas == 0 && tooFewServers(err) {
		replicas = 1
		s, err = l.js.CreateOrUpdateStream(ctx, l.logConfig(replicas))
	}
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return noJetStream(err)
	case err != nil:
		return err
	}
	l.see(s.CachedInfo())
	return l.openSessions(ctx, replicas)
}

func noJetStream(err error) error {
	return fmt.Errorf("%w: %w: start the NATS server with -js, or set EmbedOptions.Store", ErrNoJetStream, err)
}

// Codes of JetStream's errors, which its client has no names for.
const (
	codeNoPeers       = 10005
	codeNoReplication = 10074
	codeUnavailable   = 10008
	codeWrongSequence = 10071
	codeNoTTL         = 10166
)

func codeOf(err error) jetstream.ErrorCode {
	var e *jetstream.APIError
	if errors.As(err, &e) {
		return e.ErrorCode
	}
	return 0
}

func tooFewServers(err error) bool {
	code := codeOf(err)
	return code == codeNoPeers || code == codeNoReplication
}

// refused reports whether JetStream says no for ever.
func refused(err error) bool {
	var e *jetstream.APIError
	return errors.As(err, &e) && e.Code >= 400 && e.Code < 500 && !tooFewServers(err)
}

// see takes note of what the stream is now.
func (l *Log) see(info *jetstream.StreamInfo) (epoch, jetstream.StreamState) {
	e := epoch(info.Created.UnixNano())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch != e {
		l.epoch, l.last = e, 0
	}
	l.last = max(l.last, info.State.LastSeq)
	return e, info.State
}

// look asks what the stream is now. Where it is gone, it makes it anew.
func (l *Log) look(ctx context.Context) (epoch, jetstream.StreamState, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	s, err := l.js.Stream(ctx, l.streamName())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err = l.tryOpen(ctx); err == nil {
			s, err = l.js.Stream(ctx, l.streamName())
		}
	}
	if err != nil {
		return 0, jetstream.StreamState{}, fmt.Errorf("natsbus: log: %w", l.explain(err))
	}
	e, state := l.see(s.CachedInfo())
	return e, state, nil
}

// Kept implements cluster.Log: what is said to all nodes is kept.
func (l *Log) Kept(topic string) bool { return topic == l.kept }

// Publish implements cluster.Bus.
func (l *Log) Publish(ctx context.Context, topic string, msg []byte) error {
	if topic != l.kept {
		return l.Bus.Publish(ctx, topic, msg)
	}
	_, err := l.Append(ctx, topic, msg)
	return err
}

// Append implements cluster.Log. It returns when JetStream has stored msg, after two seconds at
// most: after an error it may have.
func (l *Log) Append(ctx context.Context, topic string, msg []byte) (offset string, err error) {
	if !l.Kept(topic) {
		return "", fmt.Errorf("natsbus: append: the topic %q is not kept: %w", topic, cluster.ErrUnsupported)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := l.fits(msg); err != nil {
		return "", err
	}
	if l.ctx.Err() != nil {
		return "", ErrClosed
	}
	if err := connected(l.js.Conn()); err != nil {
		return "", err
	}
	ctx, cancel := l.overLink(ctx, appendTimeout)
	defer cancel()
	ack, err := l.js.PublishMsg(ctx, &nats.Msg{Subject: subject(topic), Data: msg}, jetstream.WithRetryAttempts(0))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return "", fmt.Errorf("natsbus: append: %w", l.explain(err))
	}
	l.mu.Lock()
	again := ack.Sequence <= l.last && l.last-ack.Sequence > maxBehind
	e := l.epoch
	if !again {
		l.last = max(l.last, ack.Sequence)
	}
	l.mu.Unlock()
	if again { // the numbers begin anew: it is another stream
		if e, _, err = l.look(ctx); err != nil {
			return "", err
		}
	}
	return offsetOf(e, ack.Sequence), nil
}

// maxBehind is how many messages of others may overtake the answer to an Append.
const maxBehind = 100_000

// End implements cluster.Ender.
func (l *Log) End(ctx context.Context, topic string) (offset string, err error) {
	if !l.Kept(topic) {
		return "", fmt.Errorf("natsbus: the topic %q is not kept: %w", topic, cluster.ErrUnsupported)
	}
	e, state, err := l.look(ctx)
	if err != nil {
		return "", err
	}
	return offsetOf(e, state.LastSeq), nil
}

// Since implements cluster.Log.
func (l *Log) Since(ctx context.Context, topic, offset string) iter.Seq2[cluster.Record, error] {
	return func(yield func(cluster.Record, error) bool) {
		if err := l.since(ctx, topic, offset, func(r cluster.Record) bool { return yield(r, nil) }); err != nil {
			yield(cluster.Record{}, fmt.Errorf("natsbus: since: %w", err))
		}
	}
}

// batch is how many messages, and how many bytes of them, are read at a time.
const (
	readMessages = 256
	readPause    = 2 * time.Second // how long the next may take
)

func (l *Log) since(ctx context.Context, topic, offset string, yield func(cluster.Record) bool) error {
	if !l.Kept(topic) {
		return fmt.Errorf("the topic %q is not kept: %w", topic, cluster.ErrUnsupported)
	}
	e, state, err := l.look(ctx)
	if err != nil {
		return err
	}
	at, seq, ok := parseOffset(offset)
	switch {
	case !ok || at != e || seq > state.LastSeq:
		return fmt.Errorf("%q is no offset of this log: %w", offset, cluster.ErrTrimmed)
	case seq+1 < state.FirstSeq:
		return fmt.Errorf("the log begins at %s, behind what follows %s: %w", offsetOf(e, state.FirstSeq), offset, cluster.ErrTrimmed)
	case seq == state.LastSeq:
		return nil
	}
	return l.read(ctx, e, seq, state.LastSeq, yield)
}

// read yields the messages behind seq, up to last.
func (l *Log) read(ctx context.Context, e epoch, seq, last uint64, yield func(cluster.Record) bool) error {
	setup, cancel := context.WithTimeout(ctx, apiTimeout)
	c, err := l.js.CreateConsumer(setup, l.streamName(), jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: seq + 1,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: 10 * time.Second,
	})
	cancel()
	if err != nil {
		return l.explain(err)
	}
	defer l.forget(c.CachedInfo().Name)
	for seq < last {
		limit, cancel := context.WithTimeout(ctx, readPause)
		batch, err := c.Fetch(int(min(readMessages, last-seq)), jetstream.FetchContext(limit))
		if err != nil {
			cancel()
			return l.explain(err)
		}
		before := seq
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				cancel()
				return err
			}
			if meta.Sequence.Stream != seq+1 {
				cancel()
				return fmt.Errorf("messages before %s went while they were read: %w", offsetOf(e, meta.Sequence.Stream), cluster.ErrTrimmed)
			}
			seq++
			if !yield(cluster.Record{Offset: offsetOf(e, seq), Data: m.Data()}) {
				cancel()
				return nil
			}
		}
		cancel()
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if seq == before {
			return fmt.Errorf("the log was silent for %v: %w", readPause, ErrAway)
		}
	}
	return nil
}

// forget removes a consumer, which would go by itself later.
func (l *Log) forget(consumer string) {
	if l.js.Conn().Status() != nats.CONNECTED {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, time.Second)
	defer cancel()
	l.js.DeleteConsumer(ctx, l.streamName(), consumer)
}

// Close ends all subscriptions and waits for them, and closes the Bus.
func (l *Log) Close() error {
	l.stop()
	l.tasks.Wait()
	return l.Bus.Close()
}
