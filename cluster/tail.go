package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

const (
	tailStays  = 5 * time.Minute // after somebody has asked for something
	recordSize = 256             // what a record takes beside its data
	fillLimit  = time.Minute
	fewSenders = 1024 // in a tail
	directly   = 4    // who needs more than a tail holds reads the log alone: so many at once
)

// A tail is what was read last of a topic of the log, in memory, for those who come back. It begins with the first who
// does, from then on gets all that the node follows, and is extended backwards as far as somebody needs, by one read
// for all who wait. So when thousands come at once, the log is read once. When nobody has asked for a
// while, or the log is not what it was, the tail is over, and the next who asks begins another one.
type tail struct {
	topic string
	limit int64

	mu      sync.Mutex
	start   string // what is behind it, up to end, is here
	end     string
	records []*keptRecord // readers hold parts of it: appended to, but else replaced
	given   int           // up since records was made
	first   int64         // the number of records[0]; it may be negative
	bytes   int64
	used    time.Time
	over    bool
	wants   []*want // that wait for what is before start
	filling bool    // fill runs
	full    string  // what is behind it, up to end, is more than limit; empty where that is not known
	trimmed string  // what is behind it is no longer kept; empty where that is not known
	decoded int64   // the number of the first record that is not; who changes it has reading, too

	reading sync.Mutex // before mu. It guards the rest, and who has it alone puts records before others
	seen    map[laneID]*numbers
	lanes   int // more of them in seen are worth a look at which are still needed
}

// A keptRecord is a message of a log.
type keptRecord struct {
	offset string
	size   int64
	data   []byte // nil once it is decoded
	op     *Op    // nil where it is for nobody who comes back
	lane   laneID
	number uint64
	twice  atomic.Bool // it stands before this one, too
}

// A want is somebody who waits for what is behind an offset.
type want struct {
	offset string
	done   chan struct{}
	err    error // set before done is closed
}

func newRecord(offset string, data []byte) *keptRecord {
	return &keptRecord{offset: offset, data: data, size: recordSize + int64(len(data))}
}

// came adds what the node follows; where data is nil, what is up to offset is no longer kept.
func (b *logbook) came(topic, offset string, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.followed == nil {
		b.followed = make(map[string]string)
	}
	b.followed[topic] = offset
	if t := b.tails[topic]; t != nil && !t.add(b.log, offset, data) {
		delete(b.tails, topic)
	}
}

// leave says that the node does not follow topic any more, or not yet.
func (b *logbook) leave(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.followed, topic)
	if t := b.tails[topic]; t != nil {
		t.mu.Lock()
		t.over = true
		t.mu.Unlock()
		delete(b.tails, topic)
	}
}

// rest gives up the tails that nobody has needed for a while; on their topics perhaps nothing comes.
func (b *logbook) rest(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for topic, t := range b.tails {
		t.mu.Lock()
		if t.over = t.over || t.idle(now); t.over {
			delete(b.tails, topic)
		}
		t.mu.Unlock()
	}
}

// idle reports whether nobody has asked for a while. t.mu is held.
func (t *tail) idle(now time.Time) bool { return now.Sub(t.used) > tailStays && len(t.wants) == 0 }

// tail returns the tail of topic; nil where nothing of it was followed yet.
func (b *logbook) tail(topic string, limit int64) *tail {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, at := b.tails[topic], b.followed[topic]
	if t != nil || at == "" || limit <= 0 {
		return t
	}
	t = &tail{topic: topic, limit: limit, start: at, end: at, used: time.Now(), seen: make(map[laneID]*numbers), lanes: fewSenders}
	if b.tails == nil {
		b.tails = make(map[string]*tail)
	}
	b.tails[topic] = t
	return t
}

// add reports false where the tail is over.
func (t *tail) add(log Log, offset string, data []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	order := log.Compare(offset, t.end)
	if order < 0 || data == nil || t.idle(time.Now()) {
		t.over = true
		return false
	}
	if order > 0 {
		r := newRecord(offset, data)
		t.records = append(t.records, r)
		t.bytes += r.size
		t.end = offset
		t.shrink()
	}
	return true
}

// shrink gives up the oldest records. t.mu is held.
func (t *tail) shrink() {
	k := 0
	for ; t.bytes > t.limit && k < len(t.records); k++ {
		t.bytes -= t.records[k].size
		t.start = t.records[k].offset
		t.full = t.start
	}
	t.records = t.records[k:]
	t.first += int64(k)
	if t.given += k; t.given > len(t.records)/4+16 {
		t.records, t.given = slices.Clone(t.records), 0 // else the array would hold them
	}
}

// A whereabouts says where the records behind an offset are.
type whereabouts int

const (
	inTail whereabouts = iota
	beforeTail
	inLog // only: they are too many for a tail, or the node has not followed as far
	noLonger
)

// where says where the records behind offset are. t.mu is held.
func (t *tail) where(log Log, offset string) whereabouts {
	switch {
	case log.Compare(offset, t.end) > 0:
		return inLog
	case log.Compare(offset, t.start) >= 0:
		return inTail
	case t.full != "" && log.Compare(offset, t.full) <= 0:
		return inLog
	case t.trimmed != "" && log.Compare(offset, t.trimmed) <= 0:
		return noLonger
	}
	return beforeTail
}

// recent returns the records of topic behind offset, up to the last that the node has followed. It returns false where they
// are to be read from the log.
func (n *Node) recent(ctx context.Context, topic, offset string) (rs []*keptRecord, ok bool, err error) {
	for {
		t := n.logbook.tail(topic, n.o.LogTail)
		if t == nil {
			return nil, false, nil
		}
		n.decodeTail(t)
		w := &want{offset: offset, done: make(chan struct{})}
		fill := false
		t.mu.Lock()
		t.used = time.Now()
		at := t.where(n.logbook.log, offset)
		switch {
		case t.over:
			t.mu.Unlock()
			continue
		case at == inTail:
			rs = t.behind(n.logbook.log, offset)
		case at == beforeTail:
			t.wants = append(t.wants, w)
			fill, t.filling = !t.filling, true
		}
		t.mu.Unlock()
		switch at {
		case inTail:
			return rs, true, nil
		case inLog:
			return nil, false, nil
		case noLonger:
			return nil, false, fmt.Errorf("what is behind %.64q is known to be gone: %w", offset, ErrTrimmed)
		}
		if fill && !n.begin(func() { n.fill(t) }) {
			return nil, false, ErrClosed
		}
		select {
		case <-w.done:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case <-n.ctx.Done():
			return nil, false, ErrClosed
		}
		if w.err != nil {
			return nil, false, w.err
		}
	}
}

// begin calls f in a goroutine of the node. It reports false where that is closed.
func (n *Node) begin(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.tasks.Go(f)
	return true
}

// behind returns the decoded records behind offset. t.mu is held.
func (t *tail) behind(log Log, offset string) []*keptRecord {
	rs := t.records[:max(t.decoded-t.first, 0)]
	return rs[sort.Search(len(rs), func(i int) bool { return log.Compare(rs[i].offset, offset) > 0 }):]
}

// decodeTail decodes the records that are there.
func (n *Node) decodeTail(t *tail) {
	t.reading.Lock()
	defer t.reading.Unlock()
	t.mu.Lock()
	from := max(t.decoded, t.first)
	old, rs := t.records[:from-t.first], t.records[from-t.first:]
	t.mu.Unlock()
	if len(t.seen) > t.lanes { // of nodes and emitters that are gone, most of them
		t.seen = make(map[laneID]*numbers)
		n.decodeRecords(t.topic, old, t.seen)
		t.lanes = max(fewSenders, 2*len(t.seen))
	}
	n.decodeRecords(t.topic, rs, t.seen)
	t.mu.Lock()
	t.decoded = from + int64(len(rs))
	t.mu.Unlock()
}

// decodeRecords decodes those of rs that are not yet, and marks those that were seen before. For those of a tail, reading
// is held.
func (n *Node) decodeRecords(topic string, rs []*keptRecord, seen map[laneID]*numbers) {
	for _, r := range rs {
		if r.data != nil {
			m, err := n.decode("", topic, r.data)
			switch {
			case err != nil:
				n.malformed(topic, r.data, err)
			case m != nil && m.Kind == Tell:
				r.lane, r.number = n.laneOf(m, topic), m.Number
				if replayed(m.Op) {
					r.op = m.Op
					r.op.Offset = r.offset
				}
			}
			r.data = nil
		}
		if r.number > 0 && seenBefore(r.lane, r.number, seen) {
			r.twice.Store(true)
		}
	}
}

// fill reads from the log what is wanted of it, until nothing is.
func (n *Node) fill(t *tail) {
	log := n.logbook.log
	for {
		t.mu.Lock()
		var done []*want
		from := ""
		rest := t.wants[:0]
		for _, w := range t.wants {
			if t.over || t.where(log, w.offset) != beforeTail {
				done = append(done, w)
				continue
			}
			if rest = append(rest, w); len(rest) == 1 || log.Compare(w.offset, from) < 0 {
				from = w.offset
			}
		}
		clear(t.wants[len(rest):])
		t.wants = rest
		t.filling = len(rest) > 0
		more, start, room := t.filling, t.start, t.limit-t.bytes
		t.mu.Unlock()
		for _, w := range done {
			close(w.done)
		}
		if !more {
			return
		}
		err := n.extend(t, from, start, room)
		if err == nil {
			continue
		}
		t.mu.Lock()
		failed := t.wants
		t.wants = nil
		t.mu.Unlock()
		for _, w := range failed {
			w.err = err
			close(w.done)
		}
	}
}

// extend reads what is behind from, up to start, and puts it before what the tail has: the last of it, where all
// is more than there is room for.
func (n *Node) extend(t *tail, from, start string, room int64) error {
	log := n.logbook.log
	ctx, cancel := context.WithTimeout(n.ctx, fillLimit)
	defer cancel()
	var rs []*keptRecord
	size, cut := int64(0), ""
	for r, err := range log.Since(ctx, t.topic, from) {
		if errors.Is(err, ErrTrimmed) {
			t.mu.Lock()
			t.trimmed = from
			t.mu.Unlock()
			return nil
		}
		if err != nil {
			return err
		}
		if log.Compare(r.Offset, start) > 0 {
			break
		}
		x := newRecord(r.Offset, r.Data)
		rs = append(rs, x)
		for size += x.size; size > room && len(rs) > 0; rs = rs[1:] {
			size -= rs[0].size
			cut = rs[0].offset
			rs[0] = nil
		}
	}
	t.reading.Lock()
	defer t.reading.Unlock()
	t.mu.Lock()
	old := t.records[:max(t.decoded-t.first, 0)]
	t.mu.Unlock()
	// Before they are in the tail: who reads it meanwhile finds decoded what was decoded.
	seen := make(map[laneID]*numbers)
	n.decodeRecords(t.topic, rs, seen)
	n.decodeRecords(t.topic, old, seen)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.start != start {
		return nil // it has grown over its limit meanwhile
	}
	if t.start = from; cut != "" {
		t.start, t.full = cut, cut
	}
	t.records, t.given = slices.Concat(rs, t.records), 0
	t.decoded = max(t.decoded, t.first)
	t.first -= int64(len(rs))
	t.bytes += size
	t.seen, t.lanes = seen, max(fewSenders, 2*len(seen))
	t.shrink()
	return nil
}
