package natsbus

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/recovery"
)

// A Log is a Bus that keeps what is said to all nodes in a stream of JetStream, and the sessions of
// clients in another. It implements cluster.Log and recovery.Sessions, and everything that
// a Bus is. What is for one node or one room does not pass the log.
type Log struct {
	*Bus
	o        LogOptions
	js       jetstream.JetStream
	kept     string           // the topic that is kept
	sessions string           // begins the topics of sessions
	writer   string           // tells this Log from all others
	ttls     bool             // the server knows a time to live for each message
	store    jetstream.Stream // of sessions

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
	ctx, cancel := l.overLink(ctx, apiTimeout)
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
// most, and one more for each MiB: after an error it may have.
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
	ctx, cancel := l.overLink(ctx, appendTimeout+time.Duration(len(msg)>>10)*time.Millisecond)
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

// Since implements cluster.Log. While JetStream is away it waits until ctx ends, or for five seconds.
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
	var e epoch
	var state jetstream.StreamState
	limit, cancel := l.limit(ctx)
	err := l.patiently(limit, func(ctx context.Context) (err error) {
		e, state, err = l.look(ctx)
		return err
	})
	cancel()
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
	setup, cancel := l.overLink(ctx, apiTimeout)
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
