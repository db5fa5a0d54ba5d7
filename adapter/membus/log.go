package membus

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atollhq/atoll/cluster"
)

// A LogBus is a Bus that keeps what is published on some topics: a cluster.Log. What it
// keeps, the hub keeps, so it outlives the bus. Faults do not touch what is kept: it is
// neither dropped nor repeated, but while the hub or the bus is down, or the bus is frozen, it
// is not read.
type LogBus struct {
	*Bus
	kept func(topic string) bool
	max  int

	followers []*following // guarded by mu
}

// LogOptions are the settings of a LogBus. A nil *LogOptions means all defaults.
type LogOptions struct {
	Options

	// Kept says which topics are kept. If nil, those that end in ".all".
	Kept func(topic string) bool

	// MaxLen is how many messages of a topic are kept. If zero, 100,000.
	MaxLen int
}

var (
	_ cluster.Log   = (*LogBus)(nil)
	_ cluster.Ender = (*LogBus)(nil)
)

// NewLog returns a bus on hub that keeps messages.
func NewLog(hub *Hub, o *LogOptions) *LogBus {
	if o == nil {
		o = &LogOptions{}
	}
	b := &LogBus{Bus: New(hub, &o.Options), kept: o.Kept, max: o.MaxLen}
	if b.kept == nil {
		b.kept = func(topic string) bool { return strings.HasSuffix(topic, ".all") }
	}
	if b.max <= 0 {
		b.max = 100_000
	}
	return b
}

// A tape is what is kept of one topic. Offsets count from 1.
type tape struct {
	mu      sync.Mutex
	first   int64 // the offset of msgs[0]
	msgs    [][]byte
	readers map[*following]struct{}
}

func (h *Hub) tape(topic string) *tape {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tapes[topic]
	if t == nil {
		if h.tapes == nil {
			h.tapes = make(map[string]*tape)
		}
		t = &tape{first: 1, readers: make(map[*following]struct{})}
		h.tapes[topic] = t
	}
	return t
}

// Trim drops what is kept on topic, but for the last keep messages.
func (h *Hub) Trim(topic string, keep int) {
	t := h.tape(topic)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trim(keep)
}

func (t *tape) trim(keep int) {
	if n := len(t.msgs) - keep; n > 0 {
		clear(t.msgs[:n])
		t.msgs, t.first = t.msgs[n:], t.first+int64(n)
	}
}

// at returns the message at offset, or the first one kept behind it; a nil one where there is none yet.
func (t *tape) at(offset int64) (msg []byte, found int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found = max(offset, t.first)
	if i := found - t.first; i < int64(len(t.msgs)) {
		return t.msgs[i], found
	}
	return nil, found
}

func (t *tape) end() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first + int64(len(t.msgs)) - 1
}

func offsetOf(n int64) string { return strconv.FormatInt(n, 10) }

func parseOffset(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0 && s == offsetOf(n)
}

// up waits while the bus is frozen, and returns an error while it or the hub is down.
func (b *LogBus) up(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	if b.hub.down {
		return ErrDown
	}
	return nil
}

// Kept implements cluster.Log.
func (b *LogBus) Kept(topic string) bool { return b.kept(topic) }

// Append implements cluster.Log.
func (b *LogBus) Append(ctx context.Context, topic string, msg []byte) (string, error) {
	if err := b.up(ctx); err != nil {
		return "", err
	}
	t := b.hub.tape(topic)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.msgs = append(t.msgs, append([]byte{}, msg...))
	offset := t.first + int64(len(t.msgs)) - 1
	t.trim(b.max)
	for f := range t.readers {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
	return offsetOf(offset), nil
}

// Publish implements cluster.Bus. On a topic that is kept it is Append.
func (b *LogBus) Publish(ctx context.Context, topic string, msg []byte) error {
	if b.kept(topic) {
		_, err := b.Append(ctx, topic, msg)
		return err
	}
	return b.Bus.Publish(ctx, topic, msg)
}

// Subscribe implements cluster.Bus. On a topic that is kept it is Follow.
func (b *LogBus) Subscribe(ctx context.Context, topic string, deliver func(topic string, msg []byte)) (cluster.Subscription, error) {
	if !b.kept(topic) {
		return b.Bus.Subscribe(ctx, topic, deliver)
	}
	return b.Follow(ctx, topic, func(topic, _ string, msg []byte) {
		if msg != nil {
			deliver(topic, msg)
		}
	})
}

// End implements cluster.Ender.
func (b *LogBus) End(ctx context.Context, topic string) (string, error) {
	if err := b.up(ctx); err != nil {
		return "", err
	}
	return offsetOf(b.hub.tape(topic).end()), nil
}

// Compare implements cluster.Log. What is no offset is before all that are.
func (b *LogBus) Compare(a, c string) int {
	place := func(s string) int64 {
		if n, ok := parseOffset(s); ok {
			return n
		}
		return -1
	}
	return cmp.Compare(place(a), place(c))
}

// Since implements cluster.Log.
func (b *LogBus) Since(ctx context.Context, topic, offset string) iter.Seq2[cluster.Record, error] {
	return func(yield func(cluster.Record, error) bool) {
		if err := b.up(ctx); err != nil {
			yield(cluster.Record{}, err)
			return
		}
		t := b.hub.tape(topic)
		from, ok := parseOffset(offset)
		last := t.end()
		t.mu.Lock()
		first := t.first
		t.mu.Unlock()
		if !ok || from > last || from+1 < first {
			yield(cluster.Record{}, fmt.Errorf("membus: behind %q: %w", offset, cluster.ErrTrimmed))
			return
		}
		for k := from + 1; k <= last; k++ {
			msg, found := t.at(k)
			if found != k {
				yield(cluster.Record{}, fmt.Errorf("membus: behind %q: %w", offset, cluster.ErrTrimmed))
				return
			}
			if !yield(cluster.Record{Offset: offsetOf(k), Data: msg}, nil) {
				return
			}
		}
	}
}

// Follow implements cluster.Log.
func (b *LogBus) Follow(ctx context.Context, topic string, deliver func(topic, offset string, msg []byte)) (cluster.Subscription, error) {
	if err := b.up(ctx); err != nil {
		return nil, err
	}
	t := b.hub.tape(topic)
	f := &following{bus: b, topic: topic, tape: t, deliver: deliver, wake: make(chan struct{}, 1), done: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		f.cancel()
		return nil, ErrClosed
	}
	b.followers = append(b.followers, f)
	t.mu.Lock()
	defer t.mu.Unlock()
	f.next = t.first + int64(len(t.msgs))
	t.readers[f] = struct{}{}
	go f.run()
	return f, nil
}

// A following reads a tape.
type following struct {
	bus     *LogBus
	topic   string
	tape    *tape
	next    int64
	deliver func(topic, offset string, msg []byte)
	ctx     context.Context
	cancel  context.CancelFunc
	wake    chan struct{} // holds a token when something was appended
	done    chan struct{}
}

const whileDown = 5 * time.Millisecond

func (f *following) run() {
	defer close(f.done)
	for f.ctx.Err() == nil {
		if err := f.bus.up(f.ctx); err != nil {
			select { // nobody says when it is back
			case <-time.After(whileDown):
			case <-f.bus.closing:
				return
			case <-f.ctx.Done():
			}
			continue
		}
		msg, found := f.tape.at(f.next)
		if found > f.next {
			f.deliver(f.topic, offsetOf(found-1), nil)
			f.next = found
			continue
		}
		if msg != nil {
			f.deliver(f.topic, offsetOf(f.next), msg)
			f.next++
			continue
		}
		select {
		case <-f.wake:
		case <-f.bus.closing:
			return
		case <-f.ctx.Done():
		}
	}
}

// Close implements cluster.Subscription.
func (f *following) Close() error {
	f.cancel()
	<-f.done
	f.tape.mu.Lock()
	delete(f.tape.readers, f)
	f.tape.mu.Unlock()
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	f.bus.followers = slices.DeleteFunc(f.bus.followers, func(x *following) bool { return x == f })
	return nil
}

// Close implements cluster.Bus. What is kept stays in the hub.
func (b *LogBus) Close() error {
	err := b.Bus.Close()
	b.mu.Lock()
	followers := slices.Clone(b.followers)
	b.mu.Unlock()
	for _, f := range followers {
		f.Close()
	}
	return err
}
