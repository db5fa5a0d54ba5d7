package forward

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A message over the cluster's carrier: version (1 byte), kind (1 byte), and
//
//	hello    nonce, instance (8 bytes each)
//	card     nonce, instance, and what writeCard writes
//	asks     session, number (8 bytes each), bytes of frames
//	answers  likewise
//	reset    session
//	bye      instance: it forwards no more, and is not to be asked until it answers a greeting again
//
// A session is one of asks one way and answers the other; it is made by its first message, number 1. The bytes of
// all messages of a session, one way, are one sequence of frames. A number that is not the next says that a
// message was lost: then the session is over, and all that was under way with it.
const (
	mailVersion = 1

	mailHello   = 1
	mailCard    = 2
	mailAsks    = 3
	mailAnswers = 4
	mailReset   = 5
	mailBye     = 6

	mailHead   = 2 + 8 + 8
	maxMessage = 128 << 10 // of one message
	maxMail    = 64 << 20  // bytes of messages that may wait to be read
	sendWithin = 5 * time.Second
	tellWithin = time.Second
)

// A mailroom holds messages that wait to be read.
type mailroom struct {
	wake chan struct{} // holds a token while there may be something

	mu     sync.Mutex
	mails  []mail
	bytes  int
	closed bool
	lost   uint64
}

type mail struct {
	from string
	data []byte
}

func (m *mailroom) init() { m.wake = make(chan struct{}, 1) }

// put is what the node calls.
func (m *mailroom) put(from string, data []byte) {
	m.mu.Lock()
	if m.closed || m.bytes > 0 && m.bytes+len(data) > maxMail {
		m.lost++
		m.mu.Unlock()
		return
	}
	m.mails = append(m.mails, mail{from, data})
	m.bytes += len(data) + 64
	m.mu.Unlock()
	signal(m.wake)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (m *mailroom) take(spare []mail) (mails []mail, lost uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	mails, lost = m.mails, m.lost
	m.mails, m.bytes, m.lost = spare[:0], 0, 0
	return mails, lost
}

func (m *mailroom) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.mails = true, nil
}

// readMail reads messages until Close.
func (p *Peers) readMail() {
	var mails []mail
	for {
		select {
		case <-p.mail.wake:
		case <-p.ctx.Done():
			return
		}
		var lost uint64
		mails, lost = p.mail.take(mails)
		p.count.dropped.Add(lost)
		p.count.carrierIn.Add(uint64(len(mails)))
		for i := range mails {
			p.read(mails[i].from, mails[i].data)
			mails[i] = mail{}
		}
	}
}

// read takes in one message. Whatever it is, it does not wait.
func (p *Peers) read(from string, data []byte) {
	x := p.view.Load().peers[from]
	r := reader{b: data}
	version, kind, session := r.byte(), r.byte(), r.uint64()
	if r.err != nil || version != mailVersion || x == nil {
		return
	}
	switch kind {
	case mailHello:
		x.helloed(session, r.uint64())
	case mailCard:
		x.carded(session, &r)
	case mailAsks:
		x.asks(session, r.uint64(), r.b)
	case mailAnswers:
		x.answers(session, r.uint64(), r.b)
	case mailReset:
		x.reset(session)
	case mailBye:
		x.bye(session)
	}
}

// A session is the pipe of a line over the carrier.
type session struct {
	x    *peer
	kind byte
	id   uint64

	sent uint64 // writer's: the number of the last message
	buf  []byte

	want   uint64 // readMail's: the number of the next message
	parser parser
}

func (s *session) write(b []byte) error {
	p := s.x.p
	limit := min(maxMessage, p.node.SendLimit()) - mailHead
	if limit <= 0 {
		return fmt.Errorf("forward: messages of %d bytes are too small", p.node.SendLimit())
	}
	for len(b) > 0 {
		n := min(len(b), limit)
		s.sent++
		s.buf = append(s.buf[:0], mailVersion, s.kind)
		s.buf = binary.BigEndian.AppendUint64(s.buf, s.id)
		s.buf = binary.BigEndian.AppendUint64(s.buf, s.sent)
		s.buf = append(s.buf, b[:n]...)
		if err := p.send(p.ctx, s.x.id, s.buf); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// close tells the other end, unless it told us or is gone.
func (s *session) close(cause error) {
	if cause != errReset && cause != errLeft {
		s.x.tellReset(s.id)
	}
}

// tellReset tells the node that a session is over.
func (x *peer) tellReset(id uint64) { x.tell(appendReset(id)) }

// tell sends a last message, also while Close waits.
func (x *peer) tell(data []byte) {
	x.p.group.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), tellWithin)
		defer cancel()
		x.p.count.carrierOut.Add(1)
		x.p.node.Send(ctx, x.id, data)
	})
}

// bye takes in that an instance of the node forwards no more. A link ends by itself, behind the answers that are on it.
func (x *peer) bye(instance uint64) {
	x.mu.Lock()
	if x.card.instance != instance {
		x.mu.Unlock()
		return
	}
	x.greeted, x.card = false, card{}
	x.pause = 0
	x.back()
	via := x.via.end()
	x.mu.Unlock()
	if via != nil {
		via.fail(errBye)
	}
}

var errBye = errors.New("forward: the other node forwards no more")

func appendReset(id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{mailVersion, mailReset}, id)
}

// send sends a message over the carrier.
func (p *Peers) send(ctx context.Context, to string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	p.count.carrierOut.Add(1)
	return p.node.Send(ctx, to, data)
}

var errReset = fmt.Errorf("%w: the other node says so", errBroken)

// take takes in a message of the session. handle gets the frames. It returns an error when the session is over.
func (s *session) take(number uint64, data []byte, handle func(frame) error) error {
	switch {
	case number < s.want: // it came twice
		return nil
	case number > s.want:
		return fmt.Errorf("%w: %d messages were lost", errBroken, number-s.want)
	}
	s.want++
	return s.parser.feed(data, handle)
}

// A via is a session that asks.
type via struct {
	session
	out *outbound
}

func newVia(x *peer) *via {
	var b [8]byte
	rand.Read(b[:])
	v := &via{session: session{x: x, kind: mailAsks, id: binary.BigEndian.Uint64(b[:]), want: 1}}
	v.out = newOutbound(x.p, x, &v.session, true)
	return v
}

func (v *via) end() *outbound {
	if v == nil {
		return nil
	}
	return v.out
}

// An inVia is a session that answers.
type inVia struct {
	session
	in *inbound
}

func (v *inVia) end() *inbound {
	if v == nil {
		return nil
	}
	return v.in
}

// asks takes in what the node asks over the carrier.
func (x *peer) asks(id, number uint64, data []byte) {
	x.mu.Lock()
	v, old := x.inVia, (*inVia)(nil)
	if v == nil || v.id != id {
		if number != 1 || x.left != nil {
			tell := !x.replying && x.left == nil
			x.replying = x.replying || tell
			x.mu.Unlock()
			if tell {
				x.once(func() { x.p.send(x.p.ctx, x.id, appendReset(id)) })
			}
			return
		}
		old = v
		v = &inVia{session: session{x: x, kind: mailAnswers, id: id, want: 1}}
		v.in = newInbound(x.p, x, &v.session)
		x.inVia = v
	}
	x.mu.Unlock()
	if old != nil {
		old.in.fail(errReset)
	}
	v.in.heard.Store(x.p.tick.Load())
	if err := v.take(number, data, v.in.frame); err != nil {
		v.in.fail(err)
	}
}

// once runs f in a goroutine, for which x.replying was set.
func (x *peer) once(f func()) {
	done := func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.replying = false
	}
	if !x.p.group.Go(func() { defer done(); f() }) {
		done()
	}
}

// answers takes in what the node answers over the carrier.
func (x *peer) answers(id, number uint64, data []byte) {
	x.mu.Lock()
	v := x.via
	x.mu.Unlock()
	if v == nil || v.id != id {
		return
	}
	v.out.heard.Store(x.p.tick.Load())
	if err := v.take(number, data, v.out.frame); err != nil {
		v.out.fail(err)
	}
}

// reset takes in that a session is over.
func (x *peer) reset(id uint64) {
	x.mu.Lock()
	v, in := x.via, x.inVia
	x.mu.Unlock()
	if v != nil && v.id == id {
		v.out.fail(errReset)
	}
	if in != nil && in.id == id {
		in.in.fail(errReset)
	}
}
