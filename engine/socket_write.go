package engine

import (
	"time"

	"github.com/atollhq/atoll/engine/wire"
)

// A remainder is what is left of an outbox when a socket takes no more.
type remainder struct {
	o       *outbox
	next    int // the first packet of which nothing was written
	b, tail []byte
	buf     *buffer // that b lies in; may be nil
}

// appendFrame appends a packet, or a control frame in the guise of one.
func appendFrame(b []byte, p *wire.Packet) []byte {
	switch p.Type {
	case typeWSClose, typeWSPong:
		return wire.AppendControl(b, wire.Op(p.Type&0x0f), p.Data)
	}
	return wire.AppendFrame(b, p)
}

// fill gathers what to write next, from packet i on: as many small frames as buf holds, or one
// large frame, which is not copied. tail, if there is one, belongs behind b. next is the packet that follows.
func fill(ps []wire.Packet, i int, buf []byte) (b, tail []byte, next int) {
	if f := ps[i].Frame(); f != nil && i == len(ps)-1 {
		return f, nil, i + 1
	}
	b = buf[:0]
	for ; i < len(ps); i++ {
		p := &ps[i]
		if len(b)+len(p.Data)+wire.Headroom <= len(buf) {
			b = appendFrame(b, p)
			continue
		}
		if len(b) > 0 {
			break
		}
		if f := p.Frame(); f != nil {
			return f, nil, i + 1
		}
		return wire.AppendFrameHeader(b, p), p.Data, i + 1
	}
	return b, nil, i
}

// write writes o as far as the socket takes it without waiting, and returns what is left.
func (k *socket) write(o *outbox) (*remainder, error) {
	buf := getBuffer()
	total := 0
	for i := 0; i < len(o.ps); {
		b, tail, next := fill(o.ps, i, buf[:])
		n, err := k.try(b)
		if err == nil && n == len(b) && len(tail) > 0 {
			m := 0
			if m, err = k.try(tail); m > 0 {
				n += m
				tail = tail[m:]
			}
		}
		total += n
		if err != nil {
			putBuffer(buf)
			return nil, err
		}
		left := b[min(n, len(b)):]
		if len(left)+len(tail) > 0 {
			k.c.srv.bytesOut.Add(uint64(total))
			return &remainder{o: o, next: next, b: left, tail: tail, buf: buf}, nil
		}
		i = next
	}
	putBuffer(buf)
	k.c.srv.bytesOut.Add(uint64(total))
	return nil, nil
}

// writeRest writes what is left of an outbox, and waits for the client where it must.
func (k *socket) writeRest(rest *remainder) error {
	if rest.buf == nil {
		rest.buf = getBuffer()
	}
	defer putBuffer(rest.buf)
	for {
		for _, b := range [...][]byte{rest.b, rest.tail} {
			if len(b) == 0 {
				continue
			}
			n, err := k.conn.Write(b)
			k.c.srv.bytesOut.Add(uint64(n))
			if err != nil {
				return err
			}
		}
		if rest.next == len(rest.o.ps) {
			return nil
		}
		rest.b, rest.tail, rest.next = fill(rest.o.ps, rest.next, rest.buf[:])
	}
}

// writeBye writes a frame outside of the queue, at the end of a connection or before
// a session uses it. The caller is the only writer. It does not wait longer than byeTimeout.
func (k *socket) writeBye(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if k.raw != nil {
		_, err := k.try(b)
		return err
	}
	k.conn.SetWriteDeadline(time.Now().Add(byeTimeout))
	_, err := k.conn.Write(b)
	if err == nil {
		err = k.conn.SetWriteDeadline(time.Time{})
	}
	return err
}
