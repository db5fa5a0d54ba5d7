package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A sheet is a Tell or an Ask that is written, numbered and kept, and yet to be published.
type sheet struct {
	topic   string
	data    []byte
	lane    *outlane // nil where it has no number
	number  uint64
	kept    bool
	waiting bool // some of its lane before it could not be published yet
}

// say writes and publishes a Tell or an Ask.
func (n *Node) say(ctx context.Context, m *Message) error {
	s, err := n.write(m)
	if err != nil {
		return err
	}
	err = n.ship(ctx, m.Kind, s)
	n.recycle(s.data)
	return err
}

// write writes a Tell or an Ask. After it, ship must follow, and recycle.
func (n *Node) write(m *Message) (s sheet, err error) {
	m.From, m.Life = n.self.ID, n.life
	d, isNative := n.dialect.(native)
	if isNative {
		if err := check(m); err != nil {
			return s, err // before a number is spent on it
		}
		s.topic = d.topic(m)
	}
	if n.numbers {
		lane, to, quiet := "", sender{}, false
		switch {
		case m.To != "":
			lane, to, quiet = directLane, sender{m.To, m.ToLife}, true
		case !isNative:
			lane = n.dialect.(Laner).Lane(m)
		case m.Routed:
			lane, quiet = s.topic, true
		}
		s.lane, m.Number, s.waiting = n.outlet.number(lane, to, quiet)
		s.number = m.Number
		if quiet && s.lane != nil {
			m.Age = s.lane.old()
		}
	}
	var body []byte
	if isNative {
		var at int
		s.data, at = d.appendTo(buffer(sizeOf(m)), s.topic, m)
		if body = s.data[at:]; d.seal != nil {
			body = body[:len(body)-sealSize]
		}
	} else {
		if s.topic, s.data, err = n.dialect.Encode(m); err != nil {
			if s.lane != nil {
				n.outlet.drop(s.lane, s.number)
			}
			return s, err
		}
		if s.lane != nil && n.o.Resend > 0 && check(m) == nil {
			body = appendBody(buffer(sizeOf(m)), m)
			defer func() { release(body) }()
		}
	}
	if s.lane != nil && body != nil {
		s.kept = n.outlet.keep(s.lane, s.number, m, body)
	}
	return s, nil
}

// ship publishes what was written. Where that fails it keeps what was told for later, and returns an
// error that wraps ErrDelayed.
func (n *Node) ship(ctx context.Context, kind MessageKind, s sheet) error {
	err := n.inTurn(ctx, kind, s)
	if err == nil {
		if err = n.publish(ctx, s.topic, s.data); err == nil || s.lane == nil {
			if s.kept {
				n.outlet.published(s.lane, s.number)
			}
			return err
		}
	}
	switch {
	case kind == Ask || errors.Is(err, ErrTooLarge):
		n.outlet.drop(s.lane, s.number) // nobody waits for it any more
	case s.kept && n.outlet.fail(s.lane, s.number):
		n.lag()
		return fmt.Errorf("%w: %w", ErrDelayed, err)
	}
	return err
}

// inTurn returns an error where a message must not be published yet: in a log its place is behind those of its
// lane that wait. A question waits for them.
func (n *Node) inTurn(ctx context.Context, kind MessageKind, s sheet) error {
	log := n.logbook.log
	if s.lane == nil || log == nil || !log.Kept(s.topic) {
		return nil
	}
	if !s.lane.logged.Load() {
		s.lane.logged.Store(true)
	}
	switch {
	case !s.waiting:
	case kind == Ask:
		return n.caughtUp(ctx)
	case s.kept:
		return errWaiting
	}
	return nil
}

var errWaiting = errors.New("others before it wait for the bus")

// lag has what could not be published published later.
func (n *Node) lag() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed && n.catching == nil {
		n.catching = make(chan struct{})
		n.tasks.Go(n.catchUp)
	}
}

// caughtUp waits until all is published that could not be before. It returns an error at once where the bus is
// still away.
func (n *Node) caughtUp(ctx context.Context) error {
	n.mu.Lock()
	catching := n.catching
	n.mu.Unlock()
	if catching == nil {
		return nil
	}
	if n.away.Load() {
		return errWaiting
	}
	select {
	case <-catching:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-n.ctx.Done():
		return ErrClosed
	}
}

// encode writes m, which is neither told nor asked, as a message of this node; or what was told or asked
// once more, with the number that it has.
func (n *Node) encode(m *Message) (topic string, data []byte, err error) {
	m.From, m.Life = n.self.ID, n.life
	if n.numbers && (m.Kind == Heartbeat || m.Kind == Goodbye) {
		n.tellQuiet(n.outlet.marks(m))
	}
	d, ok := n.dialect.(native)
	if !ok {
		return n.dialect.Encode(m)
	}
	if err := check(m); err != nil {
		return "", nil, err
	}
	topic = d.topic(m)
	data, _ = d.appendTo(buffer(sizeOf(m)), topic, m)
	return topic, data, nil
}

// tellQuiet tells how far the lanes are to which not all listen.
func (n *Node) tellQuiet(ms []*Message) {
	for _, m := range ms {
		n.post(m, nil)
	}
}

// buffers holds what messages are written in.
var buffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}

const smallBuffer = 4 << 10

func buffer(size int) []byte {
	if size > smallBuffer {
		return make([]byte, 0, size)
	}
	return buffers.Get().(*[smallBuffer]byte)[:0]
}

func release(b []byte) {
	if cap(b) == smallBuffer {
		buffers.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	}
}

// recycle takes back what write or encode returned, once it is published: it is ours again.
func (n *Node) recycle(data []byte) {
	if n.native {
		release(data)
	}
}
