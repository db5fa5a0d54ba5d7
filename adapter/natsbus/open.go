package natsbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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
	openTimeout       = 30 * time.Second
	openTry           = 3 * time.Second
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

// ErrNoJetStream is wrapped by OpenLog where the servers run without JetStream.
var ErrNoJetStream = errors.New("natsbus: JetStream is not switched on")

// OpenLog makes a Log of bus, which it closes at its end. Servers that are only finding each other it gives
// half a minute, or until ctx ends. It makes the streams ATOLL-<cluster>-LOG and
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
	l := &Log{Bus: bus, o: opts, js: js, kept: bus.cluster + ".all", sessions: bus.cluster + ".session.", writer: rand.Text()}
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

// open makes the streams. The servers may only be finding each other, so it tries for a while.
func (l *Log) open(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	began := time.Now()
	for {
		try, cancel := context.WithTimeout(limit, openTry)
		err := l.tryOpen(try)
		cancel()
		switch {
		case err == nil || errors.Is(err, ErrNoJetStream) || refused(err):
			return err
		case errors.Is(err, nats.ErrNoResponders) && time.Since(began) > apiTimeout:
			return noJetStream(err)
		}
		select {
		case <-limit.Done():
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
