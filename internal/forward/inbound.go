package forward

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
)

var errClientGone = errors.New("forward: the client went")

// An inbound is the end of a line that answers.
type inbound struct {
	line

	served map[uint32]*served // guarded by line.mu
	asked  map[uint32]context.CancelFunc
}

func newInbound(p *Peers, peer *peer, out pipe) *inbound {
	in := &inbound{served: make(map[uint32]*served), asked: make(map[uint32]context.CancelFunc)}
	in.leaving = make(chan struct{})
	in.init(p, peer, out, in.ended)
	return in
}

// active returns how much is under way. in.mu is held.
func (in *inbound) active() int { return len(in.served) + len(in.asked) }

// ended is what fail calls.
func (in *inbound) ended(cause error) {
	in.peer.lostInbound(in)
	in.mu.Lock()
	if in.active() > 0 {
		in.p.count.breaks.Add(1)
	}
	left := make([]*served, 0, len(in.served))
	for _, s := range in.served {
		left = append(left, s)
	}
	clear(in.served)
	for _, cancel := range in.asked {
		cancel()
	}
	clear(in.asked)
	in.mu.Unlock()
	for _, s := range left {
		s.gone(cause)
	}
}

// frame takes in what the other node says.
func (in *inbound) frame(f frame) error {
	switch f.kind {
	case kindPing:
		in.say(kindPing, 0)
		return nil
	case kindLeave:
		select {
		case <-in.leaving: // the reader alone closes it
		default:
			close(in.leaving)
		}
		return nil
	case kindHead:
		return in.request(f)
	case kindAsk:
		return in.ask(f)
	}
	in.mu.Lock()
	s, cancel := in.served[f.id], in.asked[f.id]
	in.mu.Unlock()
	switch {
	case f.kind == kindAbort && cancel != nil:
		cancel()
		return nil
	case s == nil: // it has ended
		return nil
	}
	switch f.kind {
	case kindBody:
		if len(f.payload) == 0 {
			return errMalformed
		}
		return s.receive(f.payload[1:], f.payload[0])
	case kindAbort:
		s.gone(errClientGone)
		return nil
	case kindCredit:
		return readCredit(&s.stream, f.payload)
	}
	return errMalformed
}

// request begins to serve a request.
func (in *inbound) request(f frame) error {
	h, err := readRequest(f.payload)
	if err != nil {
		return err
	}
	if len(h.body) > window {
		return errWindow
	}
	s, err := newServed(in, f.id, &h)
	if err != nil {
		return err
	}
	in.mu.Lock()
	switch {
	case in.dead:
		in.mu.Unlock()
		s.ctx.cancel()
		return in.cause
	case in.served[f.id] != nil || in.asked[f.id] != nil || in.active() >= 2*maxCalls:
		in.mu.Unlock()
		s.ctx.cancel()
		return fmt.Errorf("%w: a request too many", errMalformed)
	}
	in.served[f.id] = s
	in.mu.Unlock()
	in.p.count.in.Add(1)
	if !in.p.group.enter() {
		return ErrClosed
	}
	go s.serve()
	return nil
}

// ask begins to answer a question.
func (in *inbound) ask(f frame) error {
	r := reader{b: f.payload}
	method := r.string()
	if r.err != nil || len(r.b) > maxAsk {
		return errMalformed
	}
	body := append([]byte(nil), r.b...)
	ctx, cancel := context.WithCancel(context.Background())
	in.mu.Lock()
	if in.dead || in.asked[f.id] != nil || in.served[f.id] != nil || in.active() >= 2*maxCalls {
		in.mu.Unlock()
		cancel()
		return fmt.Errorf("%w: a question too many", errMalformed)
	}
	in.asked[f.id] = cancel
	in.mu.Unlock()
	if !in.p.group.Go(func() { in.reply(ctx, f.id, method, body) }) {
		cancel()
		return ErrClosed
	}
	return nil
}

// reply answers a question.
func (in *inbound) reply(ctx context.Context, id uint32, method string, body []byte) {
	answer, err := in.p.askHere(ctx, in.peer.id, method, body)
	in.mu.Lock()
	if cancel := in.asked[id]; cancel != nil {
		delete(in.asked, id)
		cancel()
	}
	in.rest()
	if in.await() {
		start := len(in.pending)
		b := appendFrame(in.pending, kindAsk, id)
		if err != nil {
			b = append(append(b, 1), cutTo(err.Error(), 1000)...)
		} else {
			b = append(append(b, 0), answer...)
		}
		in.pending = endFrame(b, start)
	}
	in.release(true)
}

func cutTo(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// rest notes that something ended. in.mu is held.
func (in *inbound) rest() {
	if in.active() == 0 {
		in.idle = in.p.tick.Load()
	}
}

// remove takes s off the table. in.mu is held.
func (in *inbound) remove(s *served) {
	if in.served[s.id] == s {
		delete(in.served, s.id)
		in.rest()
	}
}

// appendAnswerFrame appends an answer's head, with what there is of its body. A head that is too large for a frame breaks the
// answer off, and not the line.
func appendAnswerFrame(b []byte, id uint32, flags byte, status int, h http.Header, body []byte) []byte {
	scratch := buffers.Get().(*buffer)
	start := len(b)
	b = appendAnswer(appendFrame(b, kindHead, id), flags, status, h, scratch[:0])
	buffers.Put(scratch)
	if len(b)-start > maxHead {
		return appendEmpty(b[:start], kindAbort, id)
	}
	return endFrame(append(b, body...), start)
}

// appendAskFrame appends a question.
func appendAskFrame(b []byte, id uint32, method string, body []byte) []byte {
	start := len(b)
	b = appendFrame(b, kindAsk, id)
	b = binary.AppendUvarint(b, uint64(len(method)))
	return endFrame(append(append(b, method...), body...), start)
}
