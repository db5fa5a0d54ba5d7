package cluster

import (
	"context"
	"errors"
	"time"
)

const (
	maxSpans  = 64        // in one question for what is missing
	maxParts  = 1024      // in one answer
	maxAhead  = 1 << 20   // numbers that a sender may use while its answer is on its way
	batchSize = 128 << 10 // bytes of messages in one answer, or one message
)

// A plea is what one sender is to be asked for.
type plea struct {
	to    sender
	spans []Span
}

// A pace says how long to wait for what.
type pace struct {
	holds  bool          // what is behind a hole is held, unless it comes from a log
	early  time.Duration // how late, where a lane begins and its mark did not come on it
	grace  time.Duration // how late a message may come of itself
	retry  time.Duration // between two questions
	wait   time.Duration // until numbers are given up
	unable time.Duration // and those of a Publisher, which nobody can ask
}

// paceOf returns the times of a node.
func paceOf(o *Options) pace {
	beat := o.Heartbeat
	p := pace{holds: o.RepairWait >= 0, early: max(beat/4, 250*time.Millisecond), grace: max(beat/50, time.Millisecond), retry: max(beat/4, time.Millisecond), wait: o.RepairWait, unable: o.RepairWait / 4}
	if p.wait < 0 {
		p.wait, p.unable = beat, beat
	}
	return p
}

// step moves time on by dt, in which the bus worked if alive is true: it performs what found no room
// before, gives up what did not come, and returns what is to be asked for. open tells
// whether anything is still missing.
func (h *hold) step(now time.Time, dt time.Duration, alive, ask bool, p pace) (pleas map[sender]*plea, open bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.open {
		h.drain(l)
		if l.since.IsZero() {
			continue
		}
		if len(l.held) > 0 && l.held[0].first == l.next { // only room is missing
			continue
		}
		late := now.Sub(l.since)
		early := p.grace
		if !h.one {
			early = p.early // its goroutines may be on their way to the medium, and nobody asks them
		}
		if l.next < l.early && late >= early {
			h.fill(l, l.next, l.early-1, missed)
			continue
		}
		if late < p.grace || l.next < l.early {
			continue
		}
		if alive {
			l.waited += dt
		}
		able := ask && l.from.id != Emitter
		limit := p.wait
		if l.from.id == Emitter {
			limit = p.unable
		}
		if (l.unordered || h.log && len(l.held) == 0) && p.holds && !h.trims(now) {
			limit *= 8 // the log has it, or is to have it: who is slow to read has lost nothing
		}
		if l.waited >= limit {
			h.fill(l, l.next, min(l.upTo, l.known)-1, missed)
			if !l.since.IsZero() {
				h.progress(l)
			}
			continue
		}
		if !able || !l.asked.IsZero() && now.Sub(l.asked) < max(l.retry, p.retry) {
			continue
		}
		x := pleas[l.from]
		if x == nil {
			if pleas == nil {
				pleas = make(map[sender]*plea)
			}
			x = &plea{to: l.from}
			pleas[l.from] = x
		}
		if len(x.spans) < maxSpans {
			x.spans = l.missing(x.spans)
			if l.asks++; l.asks > 1 { // perhaps the answer is on its way, and slow
				l.retry = min(2*max(l.retry, p.retry), max(p.retry, p.wait/4))
			}
			l.asked = now
		}
	}
	return pleas, len(h.open) > 0
}

// missing appends what is missing, up to maxSpans runs in all.
func (l *inlane) missing(to []Span) []Span {
	first := l.next
	for i := 0; i <= len(l.held) && len(to) < maxSpans; i++ {
		end := l.known // behind the hole
		if i < len(l.held) {
			end = l.held[i].first
		}
		if first < end {
			to = append(to, Span{Lane: l.lane, First: first, Last: end - 1})
		}
		if i < len(l.held) {
			first = l.held[i].last + 1
		}
	}
	return to
}

// answered takes in what an Again says besides its messages. Where it brought something (news says on which lanes) and
// something is still missing, that is asked for at once. What brings nothing answers a question that was put again:
// if it were followed by one too, slow answers would make ever more questions.
func (h *hold) answered(m *Message, news map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	from := sender{m.From, m.Life}
	for _, x := range m.Marks {
		if l := h.lanes[laneID{from, x.Lane}]; l != nil && x.Next > 0 && l.known > x.Next && l.known-x.Next > maxAhead {
			h.deny(l, x.Next)
		}
	}
	for _, s := range m.Spans {
		l := h.lanes[laneID{from, s.Lane}]
		if l == nil || s.First > s.Last {
			continue
		}
		if s.Coming && l.unordered && !h.trims(time.Now()) {
			h.progress(l) // the log has it, or will
		} else if s.Coming && !l.unordered && l.patience > 0 {
			l.patience--
			h.progress(l)
		} else if !s.Coming {
			what := missed
			if s.Void {
				what = never
			}
			if h.fill(l, max(s.First, l.early), s.Last, what) {
				news[s.Lane] = true
			}
		}
	}
	for lane := range news {
		if l := h.lanes[laneID{from, lane}]; l != nil && !l.since.IsZero() {
			l.came()
			l.asked = time.Time{}
			l.since = time.Time{}.Add(1) // no grace: what was asked for has come
		}
	}
	signal(h.wake)
}

// deny takes back that numbers from next on were used: somebody else has said so. h.mu is held.
func (h *hold) deny(l *inlane, next uint64) {
	l.known = max(l.next, next)
	i := l.find(l.known)
	for j := i; j < len(l.held); j++ {
		h.bytes -= l.held[j].work.size
	}
	clear(l.held[i:])
	l.held = l.held[:i]
	h.progress(l)
	h.drain(l)
}

// mend looks after what is missing, while something is.
func (n *Node) mend() {
	p := paceOf(&n.o)
	step := min(p.grace, 20*time.Millisecond)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var last, heard time.Time
	for {
		select {
		case <-n.hold.wake:
		case <-timer.C:
		case <-n.ctx.Done():
			return
		}
		now := time.Now()
		if last.IsZero() {
			last, heard = now, now
		}
		if n.heardAny.Swap(false) {
			heard = now
		}
		// While the bus is away nothing can come, and nothing is given up.
		alive := !n.away.Load() && (now.Sub(heard) <= n.o.Heartbeat+n.o.Heartbeat/4 || !n.echo.Load())
		pleas, open := n.hold.step(now, min(now.Sub(last), 2*step), alive, n.o.RepairWait > 0 && !n.mute.Load(), p)
		for _, x := range pleas {
			n.plead(x)
		}
		if last = now; !open {
			last = time.Time{}
			timer.Stop()
			continue
		}
		timer.Reset(step)
	}
}

// tidy forgets what is no longer needed, and tells what could not be told where it happened.
func (n *Node) tidy(now time.Time, swept *time.Time, full *uint64) {
	if now.Sub(*swept) > time.Minute {
		*swept = now
		n.hold.sweep(now)
		n.logbook.rest(now)
	}
	if d := n.hold.count.dropped.Load() + n.count.dropped.Load(); d != *full {
		*full = d
		n.warn("dropped", "cluster: operations of other nodes come faster than they can be performed; some were dropped", "MaxQueue", n.o.MaxQueue)
	}
}

// attend says that the node listens to what goes to all in a namespace, and neglect that it does no more.
func (n *Node) attend(namespace string) {
	if lane, ok := n.laneOfNamespace(namespace); ok {
		n.hold.listen(lane)
	}
}

func (n *Node) neglect(namespace string) {
	if lane, ok := n.laneOfNamespace(namespace); ok {
		n.hold.ignore(lane)
	}
}

func (n *Node) laneOfNamespace(namespace string) (string, bool) {
	if n.native || !n.numbers {
		return "", false
	}
	op := &Op{Kind: Emit, Namespace: namespace}
	return n.dialect.(Laner).Lane(&Message{Kind: Tell, From: n.self.ID, Namespace: namespace, Op: op}), true
}

// plead asks a sender for what is missing.
func (n *Node) plead(x *plea) {
	n.post(&Message{Kind: Missing, To: x.to.id, ToLife: x.to.life, Spans: x.spans}, nil)
}

// post sends a message of repair, from the outbox. It has refused called, where that is not nil, if the bus finds
// it too large.
func (n *Node) post(m *Message, refused func()) {
	topic, data, err := n.encode(m)
	if errors.Is(err, ErrUnsupported) && m.Kind == Missing {
		n.mute.Store(true)
	}
	if err == nil {
		n.outbox.send(n, letter{topic, data, refused})
	}
}

// repeat answers a node that misses something.
func (n *Node) repeat(m *Message) {
	if m.ToLife != n.life || len(m.Spans) > maxSpans {
		return
	}
	n.resend(sender{m.From, m.Life}, m.Spans, int(n.batch.Load()))
}

// resend sends a node what it misses, about size bytes at most. If that is more than the bus carries, it sends less,
// then and later.
func (n *Node) resend(to sender, wanted []Span, size int) {
	a := &Message{Kind: Again, To: to.id, ToLife: to.life}
	n.outlet.repeat(a, to, wanted, size)
	parts := len(a.Parts)
	n.count.resent.Add(uint64(parts))
	var refused func()
	if parts > 1 {
		refused = func() {
			n.batch.Store(int64(size / 2))
			n.resend(to, wanted, size/2)
		}
	} else if parts == 1 {
		lane, k := a.Parts[0].Lane, a.Parts[0].Number
		refused = func() { n.resendAlone(to, lane, k) }
	}
	n.post(a, refused)
}

// resendAlone sends a message again that is too large with what stands around it in an Again: as it was sent first, to
// all. Who has it drops it; but nodes that know no numbers would not, so where there may be some it is given up.
func (n *Node) resendAlone(to sender, lane string, k uint64) {
	l, data := n.outlet.copyOf(lane, to, k)
	if l == nil {
		return
	}
	err := ErrTooLarge
	if n.native {
		err = n.republish(l, k, data)
	}
	if errors.Is(err, ErrTooLarge) {
		n.outlet.giveUp(l, k) // who misses it is told so, and need not wait
	}
}

// again takes in what another node sends again.
func (n *Node) again(m *Message) {
	from := sender{m.From, m.Life}
	news := make(map[string]bool)
	for i := range m.Parts {
		x := &m.Parts[i]
		part, err := decodePart(m.From, m.Life, x.Number, x.Data)
		if err != nil || x.Number == 0 {
			n.count.malformed.Add(1)
			continue
		}
		if n.accept(part, "", laneID{from, x.Lane}, len(x.Data), true) {
			news[x.Lane] = true
		}
	}
	n.hold.answered(m, news)
}

// catchUp publishes what could not be published, in order, until there is no more of it.
func (n *Node) catchUp() {
	var buf []byte
	for n.ctx.Err() == nil {
		l, k, data := n.outlet.overdue(buf)
		if l == nil {
			n.mu.Lock()
			again := n.outlet.late.Load()
			if !again {
				close(n.catching)
				n.catching = nil
			}
			n.mu.Unlock()
			if again {
				continue
			}
			return
		}
		buf = data
		if err := n.republish(l, k, data); err == nil {
			n.outlet.published(l, k)
			continue
		} else if errors.Is(err, ErrTooLarge) { // the bus came back with another limit
			n.outlet.giveUp(l, k)
			n.warn("large", "cluster: what was told is too large for the bus and was given up", "err", err)
			continue
		} else if n.ctx.Err() == nil {
			n.warn("away", "cluster: the bus is away: what was told waits", "err", err)
		}
		select {
		case <-time.After(n.o.Heartbeat / 10):
		case <-n.ctx.Done():
		}
	}
}

func (n *Node) republish(l *outlane, k uint64, data []byte) error {
	m, err := decodePart(n.self.ID, n.life, k, append([]byte(nil), data...))
	if err != nil {
		n.outlet.drop(l, k)
		return err
	}
	m.Age = l.old()
	topic, data, err := n.encode(m)
	if err != nil {
		n.outlet.drop(l, k)
		return err
	}
	ctx, cancel := context.WithTimeout(n.ctx, sendDeadline)
	defer cancel()
	err = n.publish(ctx, topic, data)
	n.recycle(data)
	return err
}
