package cluster

// slots say of the last numbers of a lane where their messages are kept.
type slots struct {
	first  uint64 // the lowest number that has a slot; those before are gone
	end    uint64 // behind the highest
	ring   []slot // of number k at k modulo its length, a power of two
	failed int    // slots in the state failed
	hint   uint64 // no failed one is before it
}

type slot struct {
	data  []byte // as of a Part; in a chunk
	state slotState
}

type slotState uint8

const (
	gone    slotState = iota // no longer kept
	pending                  // being written
	flying                   // kept, and being published
	kept
	failed // kept, and could not be published yet
	void   // no message has the number
)

const maxSlots = 1 << 18

func (s *slots) at(k uint64) *slot {
	if k < s.first || k >= s.end {
		return nil
	}
	return &s.ring[k&uint64(len(s.ring)-1)]
}

// extend makes a slot for number k, which follows the highest.
func (s *slots) extend(k uint64) {
	if s.first == s.end {
		s.first, s.end = k, k
	}
	if n := s.end - s.first; n >= maxSlots {
		s.set(s.first, gone)
		s.trim()
	} else if n == uint64(len(s.ring)) {
		ring := make([]slot, max(4, 2*len(s.ring)))
		for i := s.first; i < s.end; i++ {
			ring[i&uint64(len(ring)-1)] = *s.at(i)
		}
		s.ring = ring
	}
	s.end = k + 1
	*s.at(k) = slot{state: pending}
}

// shrink gives back the room of a time when more was kept. Each lane has its own, and what is kept of
// all of them together is what is bounded.
func (s *slots) shrink() {
	n := int(s.end - s.first)
	switch {
	case n == 0:
		s.ring = nil
	case len(s.ring) > 64 && n < len(s.ring)/8:
		ring := make([]slot, len(s.ring)/4)
		for i := s.first; i < s.end; i++ {
			ring[i&uint64(len(ring)-1)] = *s.at(i)
		}
		s.ring = ring
	}
}

// set changes the state of number k, if it has a slot. Only what is kept or failed has data.
func (s *slots) set(k uint64, to slotState) {
	x := s.at(k)
	if x == nil {
		return
	}
	if x.state == failed {
		s.failed--
	}
	x.state = to
	switch to {
	case failed:
		if s.failed++; s.failed == 1 || k < s.hint {
			s.hint = k
		}
	case gone, void:
		x.data = nil
	}
}

// trim gives up the slots at the beginning that keep nothing.
func (s *slots) trim() {
	for s.first < s.end {
		if x := s.at(s.first); x.state != gone && x.state != void {
			return
		}
		s.first++
	}
}

// firstFailed returns the lowest number that could not be published, 0 if there is none.
func (s *slots) firstFailed() uint64 {
	if s.failed == 0 {
		return 0
	}
	for k := max(s.hint, s.first); k < s.end; k++ {
		if s.at(k).state == failed {
			s.hint = k
			return k
		}
	}
	return 0
}

// A keeper keeps messages, up to a number of bytes; for a new one it gives up the oldest.
// Their bytes stand in chunks that are used again, so that keeping costs a copy and no allocation.
type keeper struct {
	limit  int64
	bytes  int64
	chunks []*chunk // the oldest first
	spare  *chunk
}

type chunk struct {
	buf   []byte
	notes []note
}

// A note says whose bytes are in a chunk.
type note struct {
	lane   *outlane
	number uint64
}

const (
	chunkSize = 64 << 10
	noteSize  = 48 // of a note and a slot
)

// put keeps a message, whose bytes are those of a and b together. It returns false if it is too large.
func (k *keeper) put(l *outlane, number uint64, a, b []byte) bool {
	x := l.slots.at(number)
	if x == nil {
		return false
	}
	size := len(a) + len(b)
	if int64(size+noteSize) > k.limit {
		l.slots.set(number, gone)
		return false
	}
	c := k.room(size)
	at := len(c.buf)
	c.buf = append(append(c.buf, a...), b...)
	c.notes = append(c.notes, note{l, number})
	k.bytes += noteSize
	x.data, x.state = c.buf[at:len(c.buf):len(c.buf)], flying
	for k.bytes > k.limit && len(k.chunks) > 1 {
		k.evict()
	}
	return true
}

// room returns a chunk that has room for size bytes.
func (k *keeper) room(size int) *chunk {
	if n := len(k.chunks); n > 0 {
		if c := k.chunks[n-1]; cap(c.buf)-len(c.buf) >= size {
			return c
		}
	}
	normal := int(min(chunkSize, max(k.limit/16, 256)))
	var c *chunk
	if size <= normal && k.spare != nil {
		c, k.spare = k.spare, nil
	} else {
		c = &chunk{buf: make([]byte, 0, max(size, normal))}
	}
	k.bytes += int64(cap(c.buf))
	k.chunks = append(k.chunks, c)
	return c
}

// evict gives up the oldest chunk.
func (k *keeper) evict() {
	c := k.chunks[0]
	n := copy(k.chunks, k.chunks[1:])
	k.chunks[n] = nil
	k.chunks = k.chunks[:n]
	k.bytes -= int64(cap(c.buf)) + int64(len(c.notes))*noteSize
	for _, t := range c.notes {
		t.lane.slots.set(t.number, gone)
		t.lane.slots.trim()
		t.lane.slots.shrink()
	}
	clear(c.notes)
	if c.buf, c.notes = c.buf[:0], c.notes[:0]; cap(c.buf) <= chunkSize {
		k.spare = c
	}
}

// keep keeps a message that got a number; it reports whether it could.
func (o *outlet) keep(l *outlane, number uint64, m *Message, body []byte) bool {
	if o.kept.limit <= 0 {
		return false
	}
	var buf [1 + 1 + maxID + 10]byte
	head := appendPartHead(buf[:0], m)
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.kept.put(l, number, head, body)
}

// fail says that a message that is kept was not published. It returns false where it is kept no more.
func (o *outlet) fail(l *outlane, number uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	x := l.slots.at(number)
	if x == nil || x.state != flying {
		return false
	}
	if l.slots.failed == 0 {
		o.failed = append(o.failed, l)
	}
	l.slots.set(number, failed)
	o.late.Store(true)
	return true
}

// drop says that a message is not to be sent again: it was none, or nobody waits for it.
func (o *outlet) drop(l *outlane, number uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l.slots.set(number, void)
}

// giveUp says that a message cannot be sent again.
func (o *outlet) giveUp(l *outlane, number uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if x := l.slots.at(number); x != nil && (x.state == kept || x.state == failed) {
		l.slots.set(number, gone)
	}
}

// copyOf returns a copy of what is kept of a message; a nil lane where that is nothing. to is who misses it.
func (o *outlet) copyOf(lane string, to sender, number uint64) (*outlane, []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.findFor(lane, to)
	if l == nil {
		return nil, nil
	}
	if x := l.slots.at(number); x != nil && x.state == kept {
		return l, append([]byte(nil), x.data...)
	}
	return nil, nil
}

// findFor returns the lane that the node asker calls so, nil if there is none. o.mu is held.
func (o *outlet) findFor(lane string, asker sender) *outlane {
	if lane != directLane {
		asker = sender{}
	}
	return o.find(lane, asker)
}

// overdue returns a copy of a message that could not be published yet, in the order of its lane; a nil lane
// where there is none.
func (o *outlet) overdue(buf []byte) (l *outlane, number uint64, data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.failed) > 0 {
		l := o.failed[0]
		if k := l.slots.firstFailed(); k > 0 {
			return l, k, append(buf[:0], l.slots.at(k).data...)
		}
		o.failed = append(o.failed[:0], o.failed[1:]...)
	}
	o.late.Store(false)
	return nil, 0, buf
}

// published says that the bus has taken a message.
func (o *outlet) published(l *outlane, number uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if x := l.slots.at(number); x != nil && (x.state == failed || x.state == flying) {
		l.slots.set(number, kept)
	}
}

// repeat answers what the node asker misses, up to size bytes and at least one message. What a log has is not sent
// again, and where it is not known whether the log has it, nothing is said.
func (o *outlet) repeat(m *Message, asker sender, wanted []Span, size int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	bytes := 0
	for _, w := range wanted {
		l := o.findFor(w.Lane, asker)
		if l == nil {
			m.Marks = append(m.Marks, Mark{w.Lane, 1})
			continue
		}
		l.said = o.now
		m.Marks = append(m.Marks, Mark{w.Lane, l.last + 1})
		if o.kept.limit <= 0 || w.Last < w.First || w.First > l.last {
			continue
		}
		w.Last = min(w.Last, l.last)
		logged := l.logged.Load()
		if w.First < l.slots.first || l.slots.first == l.slots.end {
			first := w.First
			if w.First = l.slots.first; l.slots.first == l.slots.end {
				w.First = l.last + 1
			}
			if !logged {
				m.Spans = append(m.Spans, Span{Lane: w.Lane, First: first, Last: min(w.First-1, w.Last)})
			}
		}
		for k := w.First; k <= w.Last && len(m.Parts) < maxParts; k++ {
			x := l.slots.at(k)
			switch {
			case logged && x.state == gone:
			case x.state == kept && !logged:
				if bytes > 0 && bytes+len(x.data) > size {
					return
				}
				bytes += len(x.data) + 32
				m.Parts = append(m.Parts, Part{w.Lane, k, append([]byte(nil), x.data...)})
			default:
				s := Span{Lane: w.Lane, First: k, Last: k, Void: x.state == void, Coming: x.state != gone && x.state != void}
				if n := len(m.Spans); n > 0 && m.Spans[n-1] == (Span{s.Lane, m.Spans[n-1].First, k - 1, s.Void, s.Coming}) {
					m.Spans[n-1].Last = k
				} else if n < 4*maxSpans {
					m.Spans = append(m.Spans, s)
				}
			}
		}
	}
}

// size returns how many bytes are kept.
func (o *outlet) size() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.kept.bytes
}
