package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/atollhq/atoll/engine/wire"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/protocol"
)

var (
	_ event.Emitter = (*Socket)(nil)
	_ event.Asker   = (*Socket)(nil)
)

// Emit sends an event to the server. It does not wait: nil says that the event is on its
// way, or waits in the buffer for the connection. The arguments are encoded before it
// returns, as event.Append does. The errors are ErrClosed, ErrBufferFull,
// ErrTooLarge, the cause of a ctx that has ended, and what cannot be encoded.
func (s *Socket) Emit(ctx context.Context, name string, args ...any) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, err := s.emit(name, args, false, nil)
	return err
}

// Volatile returns an Emitter for events that are dropped where they would have to
// wait: without a connection, or while another write is under way.
func (s *Socket) Volatile() event.Emitter { return volatile{s} }

type volatile struct{ s *Socket }

func (v volatile) Emit(ctx context.Context, name string, args ...any) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, err := v.s.emit(name, args, true, nil)
	return err
}

// Ask sends an event and waits for the server's answer. It ends with ctx, with Options.AckTimeout
// where ctx has no deadline (then the error is ErrAckTimeout), and, with a
// *DisconnectError, when the connection is lost after the event was sent. An event that waits
// for the connection goes on waiting. The other errors are those of Emit.
func (s *Socket) Ask(ctx context.Context, name string, args ...any) (event.Args, error) {
	if _, ok := ctx.Deadline(); !ok && s.link.cfg.AckTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.link.cfg.AckTimeout, ErrAckTimeout)
		defer cancel()
	}
	if ctx.Err() != nil {
		return event.Args{}, context.Cause(ctx)
	}
	a := &ask{answer: make(chan answer, 1)}
	id, err := s.emit(name, args, false, a)
	if err != nil {
		return event.Args{}, err
	}
	select {
	case r := <-a.answer:
		return r.args, r.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	delete(s.asks, id)
	s.buffer = slices.DeleteFunc(s.buffer, func(o outgoing) bool {
		if o.id == id {
			s.buffered -= o.size
		}
		return o.id == id
	})
	s.mu.Unlock()
	select {
	case r := <-a.answer:
		return r.args, r.err
	default:
		return event.Args{}, context.Cause(ctx)
	}
}

// emit sends an event, or puts it into the buffer. With a, the answer goes there.
func (s *Socket) emit(name string, args []any, volatile bool, a *ask) (int64, error) {
	if protocol.Reserved(name) {
		return 0, fmt.Errorf("client: the event name %q is reserved", name)
	}
	data, attachments, err := event.AppendEvent(nil, nil, name, args...)
	if err != nil {
		return 0, err
	}
	p := protocol.Packet{Type: protocol.Event, Namespace: s.nsp, ID: protocol.NoID, Data: data, Attachments: attachments}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	if volatile && (!s.connected || !s.sess.ready()) {
		return 0, nil
	}
	if a != nil {
		p.ID = s.nextID
		s.nextID++
	}
	packets := messages(&p)
	err = ErrClosed
	if s.connected {
		err = s.sess.send(packets...)
	}
	if errors.Is(err, ErrClosed) { // or it has just ended
		err = s.keep(p.ID, packets)
	}
	if err == nil && a != nil {
		s.asks[p.ID] = a
	}
	return p.ID, err
}

// keep puts packets into the buffer. s.mu is held.
func (s *Socket) keep(id int64, packets []wire.Packet) error {
	size := 0
	for i := range packets {
		size += overhead + len(packets[i].Data)
	}
	if s.buffered+size > s.link.cfg.MaxBuffer {
		return ErrBufferFull
	}
	s.buffered += size
	s.buffer = append(s.buffer, outgoing{id, packets, size})
	return nil
}

// textPacket returns p, which has no attachments, as a packet of the layer below.
func textPacket(p *protocol.Packet) wire.Packet {
	return wire.Packet{Type: wire.Message, Data: p.Append(nil)}
}

// messages returns p as packets of the layer below. It copies the attachments.
func messages(p *protocol.Packet) []wire.Packet {
	packets := make([]wire.Packet, 1, 1+len(p.Attachments))
	packets[0] = textPacket(p)
	for _, a := range p.Attachments {
		packets = append(packets, wire.Packet{Type: wire.Message, Binary: true, Data: bytes.Clone(a)})
	}
	return packets
}

// settle gives an answer to who asked. s.mu is held.
func (s *Socket) settle(id int64, args event.Args, err error) {
	if a := s.asks[id]; a != nil {
		delete(s.asks, id)
		a.answer <- answer{args, err}
	}
}

// settleAll gives the error to all who asked, except those whose event waits in the buffer. s.mu is held.
func (s *Socket) settleAll(err error) {
	if len(s.asks) == 0 {
		return
	}
	waiting := make(map[int64]bool, len(s.buffer))
	for i := range s.buffer {
		waiting[s.buffer[i].id] = true
	}
	for id := range s.asks {
		if !waiting[id] {
			s.settle(id, event.Args{}, err)
		}
	}
}
