package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atollhq/atoll/cluster"
)

const (
	followBeat  = 500 * time.Millisecond // between two signs of life of a consumer
	followDeaf  = 4 * followBeat         // after this much silence it is made anew
	followStays = 30 * time.Second       // how long the server keeps a consumer that nobody hears
	followPause = 20 * time.Millisecond  // between two tries, at first
	followRest  = time.Second            // and at last
)

// A follower reads the log, message by message, whatever happens to the connection and the servers: it
// knows the place of the last message that it has, and asks for those behind it.
type follower struct {
	log   *Log
	topic string
	stop  context.CancelFunc
	done  chan struct{} // closed when run has ended

	// These are run's, and the deliveries' of the reading that is current.
	epoch   epoch
	seq     uint64
	deliver func(topic, offset string, msg []byte)
}

// Follow implements cluster.Log.
func (l *Log) Follow(ctx context.Context, topic string, deliver func(topic, offset string, msg []byte)) (cluster.Subscription, error) {
	if !l.Kept(topic) {
		return nil, fmt.Errorf("natsbus: follow: the topic %q is not kept: %w", topic, cluster.ErrUnsupported)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l.ctx.Err() != nil {
		return nil, ErrClosed
	}
	if err := connected(l.js.Conn()); err != nil {
		return nil, err
	}
	f := &follower{log: l, topic: topic, done: make(chan struct{}), deliver: deliver}
	e, state, err := l.look(ctx)
	if err != nil {
		return nil, err
	}
	f.epoch, f.seq = e, state.LastSeq
	var run context.Context
	run, f.stop = context.WithCancel(l.ctx)
	l.mu.Lock()
	closed := l.ctx.Err() != nil
	if !closed {
		l.tasks.Go(func() { f.run(run) })
	}
	l.mu.Unlock()
	if closed {
		f.stop()
		return nil, ErrClosed
	}
	return f, nil
}

// Close implements cluster.Subscription.
func (f *follower) Close() error {
	f.stop()
	<-f.done
	return nil
}

func (f *follower) run(ctx context.Context) {
	defer close(f.done)
	l := f.log
	status := l.js.Conn().StatusChanged(nats.CONNECTED, nats.RECONNECTING)
	defer l.js.Conn().RemoveStatusListener(status)
	away := false
	for pause := followPause; ctx.Err() == nil; {
		began := time.Now()
		err := f.read(ctx, status, func() {
			if away {
				l.o.Logger.Info("natsbus: the log is back", "stream", l.streamName())
			}
			away = false
		})
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > followDeaf {
			pause = followPause
		}
		if !away && err != nil && !errors.Is(err, errAgain) {
			away = true
			l.o.Logger.Warn("natsbus: the log is away; what is said meanwhile is read from it when it is back", "stream", l.streamName(), "err", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, followRest)
	}
}

// errAgain says that a reading is to be begun anew: something is missing from it.
var errAgain = errors.New("messages are missing")

// read reads the log from behind the last message until something breaks. It calls works as soon
// as it does.
func (f *follower) read(ctx context.Context, status <-chan nats.Status, works func()) error {
	l := f.log
	conn := l.js.Conn()
	if conn.Status() != nats.CONNECTED {
		for drained := false; !drained; { // until the connection is back
			select {
			case s, ok := <-status:
				if !ok {
					return ErrClosed
				}
				drained = s == nats.CONNECTED
			case <-time.After(followRest):
				drained = true
			case <-ctx.Done():
				return nil
			}
		}
	}
	e, state, err := l.look(ctx)
	if err != nil {
		return err
	}
	f.skip(e, state)

	r := &reading{f: f, broken: make(chan error, 1), heard: time.Now()}
	inbox := nats.NewInbox()
	sub, err := conn.Subscribe(inbox, r.receive)
	if err != nil {
		return l.explain(err)
	}
	sub.SetPendingLimits(-1, maxPending)
	defer func() {
		sub.Unsubscribe()
		r.end()
	}()
	setup, cancel := l.overLink(ctx, apiTimeout)
	c, err := l.js.CreatePushConsumer(setup, l.streamName(), jetstream.ConsumerConfig{
		DeliverSubject: inbox, AckPolicy: jetstream.AckNonePolicy,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: f.nextOf(r),
		MemoryStorage: true, Replicas: 1, InactiveThreshold: followStays, IdleHeartbeat: followBeat, FlowControl: true,
	})
	cancel()
	if err != nil {
		return l.explain(err)
	}
	defer l.forget(c.CachedInfo().Name)
	works()
	tick := time.NewTicker(followBeat)
	defer tick.Stop()
	for {
		select {
		case err := <-r.broken:
			return err
		case <-tick.C:
			if r.silent() > followDeaf {
				return fmt.Errorf("no sign of life for %v: %w", followDeaf, ErrAway)
			}
		case s, ok := <-status:
			if !ok {
				return ErrClosed
			}
			if s == nats.CONNECTED && conn.Status() == nats.CONNECTED && r.silent() < followBeat {
				continue // an old word
			}
			return errAgain
		case <-ctx.Done():
			return nil
		}
	}
}

// skip says what is no longer there, before anything is read.
func (f *follower) skip(e epoch, state jetstream.StreamState) {
	before := state.FirstSeq - min(state.FirstSeq, 1)
	switch {
	case f.epoch != e: // another stream has the name now
		f.epoch, f.seq = e, before
	case f.seq > state.LastSeq: // its end was lost, and the numbers will be used again
		f.seq = state.LastSeq
	case f.seq < before:
		f.seq = before
	default:
		return
	}
	f.deliver(f.topic, offsetOf(f.epoch, f.seq), nil)
}

// A reading is what one consumer sends.
type reading struct {
	f      *follower
	broken chan error

	mu       sync.Mutex
	ended    bool
	consumed uint64 // the consumer's own number of the last message
	heard    time.Time
}

func (f *follower) nextOf(r *reading) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return f.seq + 1
}

// end waits for the last delivery.
func (r *reading) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

func (r *reading) silent() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.heard)
}

// fail ends the reading. r.mu is held.
func (r *reading) fail(err error) {
	r.ended = true
	select {
	case r.broken <- err:
	default:
	}
}

// The headers of messages that are no messages.
const (
	headerStatus  = "Status"
	statusControl = "100"
	headerLast    = "Nats-Last-Consumer"
	headerStalled = "Nats-Consumer-Stalled"
)

func (r *reading) receive(m *nats.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.heard = time.Now()
	if status := m.Header.Get(headerStatus); status != "" && len(m.Data) == 0 {
		r.control(m, status)
		return
	}
	meta, err := m.Metadata()
	if err != nil {
		r.fail(fmt.Errorf("a message without its place: %w", err))
		return
	}
	if meta.Sequence.Consumer != r.consumed+1 {
		r.fail(errAgain)
		return
	}
	r.consumed++
	f := r.f
	seq := meta.Sequence.Stream
	switch {
	case seq <= f.seq:
		return
	case seq > f.seq+1: // those between went before they could be read
		f.seq = seq - 1
		f.deliver(f.topic, offsetOf(f.epoch, f.seq), nil)
	}
	f.seq = seq
	data := m.Data
	if data == nil {
		data = []byte{} // nil means something else
	}
	f.deliver(f.topic, offsetOf(f.epoch, seq), data)
}

// control takes a sign of life, or a question whether we keep up.
func (r *reading) control(m *nats.Msg, status string) {
	if status != statusControl {
		r.fail(fmt.Errorf("the consumer ended: %s %s: %w", status, m.Header.Get("Description"), errAgain))
		return
	}
	if m.Reply != "" {
		m.Respond(nil)
	} else if stalled := m.Header.Get(headerStalled); stalled != "" {
		r.f.log.js.Conn().Publish(stalled, nil)
	}
	if last, err := strconv.ParseUint(m.Header.Get(headerLast), 10, 64); err == nil && last != r.consumed {
		r.fail(errAgain)
	}
}
