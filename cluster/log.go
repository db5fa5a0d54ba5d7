package cluster

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// Keeps reports whether the cluster's bus is a Log and its format numbers the messages, so that
// Keep and Since work.
func (n *Node) Keeps() bool {
	_, laner := n.dialect.(Laner)
	return n.logbook.log != nil && (laner || n.native)
}

// Keep tells op to all nodes through the log. op, which must be an Emit, comes back to this node's
// Receiver like to all others', with its Offset, in the order of the log; Keep returns when that has been
// performed. So every node performs what is kept in the same order. Without a deadline in
// ctx it waits for Options.AskTimeout.
//
// After an error op was not performed on this node, and will not be: the caller may do so
// without an offset. Others may have got it. Keep must not be called by Do or a hook.
func (n *Node) Keep(ctx context.Context, op *Op) (offset string, err error) {
	if op.Kind != Emit {
		return "", fmt.Errorf("cluster: keep: %v: only an emit is kept: %w", op.Kind, ErrUnsupported)
	}
	if n.isClosed() {
		return "", ErrClosed
	}
	if !n.Keeps() {
		return "", fmt.Errorf("cluster: keep: this bus keeps nothing: %w", ErrUnsupported)
	}
	if _, err := n.keptTopic(op.Namespace); err != nil {
		return "", fmt.Errorf("cluster: keep: %w", err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, n.o.AskTimeout)
		defer cancel()
	}
	m := &Message{Kind: Tell, Namespace: op.Namespace, Op: op}
	s, err := n.write(m)
	if err != nil {
		return "", fmt.Errorf("cluster: keep: %w", err)
	}
	k := &keeping{done: make(chan struct{})}
	at := n.placeOf(m)
	n.logbook.expect(at, k)
	if err = n.ship(ctx, Tell, s); err == nil {
		select {
		case <-k.done:
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-n.ctx.Done():
			err = ErrClosed
		}
	}
	n.recycle(s.data)
	if err != nil && k.giveUp() {
		n.logbook.forget(at)
		return "", fmt.Errorf("cluster: keep: %w", err)
	}
	<-k.done // it is being performed now, or was: whatever else went wrong, it is in the log
	return k.offset, nil
}

// Since yields the Emits that are kept in a namespace behind offset, all nodes' and this one's, in order,
// without those that are volatile: as far at least as this node has taken them in. One that its sender appended
// twice, because it could not know that it was there already, it yields once, and not where this node performed
// it before offset. The last pair may be an error; it wraps ErrTrimmed where something is no longer kept.
//
// However many call it at once, the log is read once: what came out of it last stays in memory
// (Options.LogTail). So the operations are others', too, and must not be changed.
func (n *Node) Since(ctx context.Context, namespace, offset string) iter.Seq2[*Op, error] {
	return func(yield func(*Op, error) bool) {
		topic, err := n.keptTopic(namespace)
		if err != nil {
			yield(nil, fmt.Errorf("cluster: since: %w", err))
			return
		}
		rs, ok, err := n.recent(ctx, topic, offset)
		if err != nil {
			yield(nil, fmt.Errorf("cluster: since: %w", err))
			return
		}
		for _, r := range rs {
			if r.op == nil || r.op.Namespace != namespace || r.twice.Load() || n.logbook.isRepeat(entry{topic, r.offset}) {
				continue
			}
			if !yield(r.op, nil) {
				return
			}
		}
		if ok {
			return
		}
		select {
		case n.logbook.direct <- struct{}{}:
			defer func() { <-n.logbook.direct }()
		case <-ctx.Done():
			yield(nil, fmt.Errorf("cluster: since: %w", context.Cause(ctx)))
			return
		}
		seen := make(map[laneID]*numbers)
		for r, err := range n.logbook.log.Since(ctx, topic, offset) {
			if err != nil {
				yield(nil, fmt.Errorf("cluster: since: %w", err))
				return
			}
			m, err := n.decode("", topic, r.Data)
			if err != nil {
				n.malformed(topic, r.Data, err)
				continue
			}
			if m == nil || m.Kind != Tell || n.twice(m, topic, seen) || n.logbook.isRepeat(entry{topic, r.Offset}) {
				continue
			}
			if !replayed(m.Op) || m.Op.Namespace != namespace {
				continue
			}
			m.Op.Offset = r.Offset
			if !yield(m.Op, nil) {
				return
			}
		}
	}
}

// twice reports whether m was seen before among what is read.
func (n *Node) twice(m *Message, topic string, seen map[laneID]*numbers) bool {
	return m.Number > 0 && seenBefore(n.laneOf(m, topic), m.Number, seen)
}

// seenBefore reports whether a number of a lane is among those that were seen. It is from now on.
func seenBefore(lane laneID, number uint64, seen map[laneID]*numbers) bool {
	if number > maxNumber {
		return false
	}
	if seen[lane] == nil {
		seen[lane] = new(numbers)
	}
	return !seen[lane].first(number)
}

// replayed reports whether op is for those too who come back later.
func replayed(op *Op) bool { return op != nil && op.Kind == Emit && op.Flags&Volatile == 0 }

// Position returns the offset of the last kept operation that the node's Receiver has
// performed where the operations of a namespace are kept, or of the end of the log when the
// node began to follow it. What it has not performed is behind that. It is empty where nothing is kept, and
// where the log cannot tell its end (Ender) and nothing has come yet.
func (n *Node) Position(namespace string) string {
	topic, err := n.keptTopic(namespace)
	if err != nil {
		return ""
	}
	b := &n.logbook
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at[topic]
}

// Bus returns the bus that the node was made with.
func (n *Node) Bus() Bus { return n.bus }

var errNothingKept = fmt.Errorf("this bus keeps no operations of the namespace: %w", ErrUnsupported)

// keptTopic returns the topic on which the emits of a namespace are kept.
func (n *Node) keptTopic(namespace string) (string, error) {
	log := n.logbook.log
	if log == nil {
		return "", errNothingKept
	}
	topic, _, err := n.dialect.Encode(&Message{
		Kind: Tell, From: n.self.ID, Namespace: namespace,
		Op: &Op{Kind: Emit, Namespace: namespace, Data: []byte(`["x"]`)},
	})
	if err == nil && !log.Kept(topic) {
		err = errNothingKept
	}
	return topic, err
}

// A logbook is what a node knows of a Log.
type logbook struct {
	log Log // nil where the bus is none

	mu  sync.Mutex
	own map[place]*keeping // what Keep waits for
	at  map[string]string  // of each topic: the offset of what was performed last

	followed map[string]string // of each topic: the offset of what came last
	tails    map[string]*tail
	direct   chan struct{} // a token for each who reads the log alone

	repeats map[entry]struct{} // what is in the log once more than it should
	ring    []entry            // the same, the last maxRepeats
	oldest  int                // in ring
}

// An entry is a message in the log.
type entry struct{ topic, offset string }

const maxRepeats = 4096

// repeat notes that what stands at e was performed before.
func (b *logbook) repeat(e entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.repeats == nil {
		b.repeats = make(map[entry]struct{})
	}
	if len(b.ring) < maxRepeats {
		b.ring = append(b.ring, e)
	} else {
		delete(b.repeats, b.ring[b.oldest])
		b.ring[b.oldest] = e
		b.oldest = (b.oldest + 1) % maxRepeats
	}
	b.repeats[e] = struct{}{}
}

func (b *logbook) isRepeat(e entry) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.repeats[e]
	return ok
}

// A place tells a message of this node from all others.
type place struct {
	lane   string
	number uint64
}

func (n *Node) placeOf(m *Message) place {
	p := place{number: m.Number}
	if l, ok := n.dialect.(Laner); ok {
		p.lane = l.Lane(m)
	}
	return p
}

// A keeping is what Keep waits for: to be performed, until it gives up.
type keeping struct {
	taken  atomic.Bool // by the loop, or by Keep that gave up
	done   chan struct{}
	offset string
}

// giveUp reports whether it will not be performed.
func (k *keeping) giveUp() bool { return k.taken.CompareAndSwap(false, true) }

func (b *logbook) expect(at place, k *keeping) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.own == nil {
		b.own = make(map[place]*keeping)
	}
	b.own[at] = k
}

func (b *logbook) forget(at place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.own, at)
}

// expects reports whether Keep waits for anything.
func (b *logbook) expects() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.own) > 0
}

// claim returns what waits at a place, once.
func (b *logbook) claim(at place) *keeping {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.own[at]
	delete(b.own, at)
	return k
}

// reached says that everything on topic up to offset was performed.
func (b *logbook) reached(topic, offset string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at == nil {
		b.at = make(map[string]string)
	}
	b.at[topic] = offset
}

// displace forgets how far topic was performed.
func (b *logbook) displace(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.at, topic)
}

// send publishes a message, and appends it where it is kept.
func send(ctx context.Context, bus Bus, topic string, data []byte) error {
	if log, ok := bus.(Log); ok && log.Kept(topic) {
		_, err := log.Append(ctx, topic, data)
		return err
	}
	return bus.Publish(ctx, topic, data)
}

// listen subscribes to topic, and follows it where it is kept.
func (n *Node) listen(ctx context.Context, topic string) (Subscription, error) {
	b := &n.logbook
	if b.log == nil || !b.log.Kept(topic) {
		return n.bus.Subscribe(ctx, topic, n.receive)
	}
	if e, ok := b.log.(Ender); ok {
		// Before it follows: what comes in between is behind the position, though it is not performed.
		end, err := e.End(ctx, topic)
		if err != nil {
			return nil, err
		}
		b.reached(topic, end)
	}
	b.leave(topic)
	s, err := b.log.Follow(ctx, topic, n.follow)
	if err != nil {
		return nil, err
	}
	return &pursuit{s, b, topic}, nil
}

// A pursuit is what follows a topic of a log.
type pursuit struct {
	Subscription
	book  *logbook
	topic string
}

// Close implements Subscription.
func (p *pursuit) Close() error {
	err := p.Subscription.Close()
	p.book.leave(p.topic)
	return err
}

// follow takes a message from the log. It decodes and queues, and does not wait.
func (n *Node) follow(topic, offset string, data []byte) {
	n.logbook.came(topic, offset, data)
	if data == nil {
		n.trimmed(topic)
	} else if m := n.incoming(topic, offset, data); m == nil && n.logbook.expects() {
		n.ownCopy(topic, offset, data)
	}
	n.inbox.last(work{topic: topic, offset: offset}, func(w *work) bool {
		return w.op == nil && w.hook == nil && w.topic == topic
	})
}

// ownCopy takes what Keep has appended: every node performs it at its place in the log.
func (n *Node) ownCopy(topic, offset string, data []byte) {
	m, err := n.decode("", topic, data)
	if err != nil || m == nil || m.Kind != Tell || m.From != n.self.ID || m.Life != n.life || m.Op == nil {
		return
	}
	k := n.logbook.claim(n.placeOf(m))
	if k == nil {
		return // told, not kept; or given up
	}
	k.offset = offset
	if replayed(m.Op) {
		m.Op.Offset = offset
	}
	n.inbox.put(work{op: m.Op, from: m.From, topic: topic, offset: offset, kept: k}, 0) // its caller waits, so these are few
}

// fulfil performs what Keep waits for, unless it gave up.
func (n *Node) fulfil(w *work) {
	if !w.kept.taken.CompareAndSwap(false, true) {
		return
	}
	w2 := *w
	w2.kept = nil
	n.perform(&w2)
	n.logbook.reached(w.topic, w.offset)
	close(w.kept.done)
}

// trimmed takes note of messages that the log has dropped before they were read. How many of each sender
// they were, the numbers of what follows tell.
func (n *Node) trimmed(topic string) {
	n.count.trimmed.Add(1)
	n.hold.trim(time.Now())
	n.warn("trimmed", "cluster: the log no longer keeps messages that this node had yet to read: keep more of it", "topic", topic)
	if f := n.o.OnGap; f != nil {
		n.inbox.put(work{hook: func() { f("", 0, 0) }}, 0)
	}
}
