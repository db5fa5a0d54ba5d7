package atoll

import (
	"bytes"
	"encoding/json"
	"sync"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/engine/wire"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/protocol"
)

// A message is a Socket.IO packet, encoded once for all who will get it.
type message struct {
	head wire.Packet
	all  []wire.Packet // head and attachments, where there are attachments
}

func (m *message) send(c *engine.Conn, volatile bool) error {
	switch {
	case volatile && m.all == nil:
		c.SendVolatile(m.head)
		return nil
	case volatile:
		c.SendVolatile(m.all...)
		return nil
	case m.all == nil:
		return c.Send(m.head)
	}
	return c.Send(m.all...)
}

// size is about how many bytes m takes while it waits.
func (m *message) size() int {
	const overhead = 128
	n := overhead + len(m.head.Data)
	for i := range m.all {
		n += len(m.all[i].Data)
	}
	return n
}

// newMessage encodes p. It copies what p holds, except the attachments.
func newMessage(p *protocol.Packet) message {
	buf := make([]byte, wire.Headroom, wire.Headroom+24+len(p.Namespace)+len(p.Data))
	m := message{head: wire.Seal(p.Append(buf), false)}
	if len(p.Attachments) > 0 {
		m.all = make([]wire.Packet, 1, 1+len(p.Attachments))
		m.all[0] = m.head
		for _, a := range p.Attachments {
			b := make([]byte, wire.Headroom, wire.Headroom+len(a))
			m.all = append(m.all, wire.Seal(append(b, a...), true))
		}
	}
	return m
}

// A scratch buffer holds the JSON of a packet that is about to be encoded.
var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

const maxScratch = 64 << 10

func putScratch(buf *[]byte, data []byte) {
	if cap(data) <= maxScratch {
		*buf = data[:0]
		scratch.Put(buf)
	}
}

// eventMessage encodes an event for one namespace; id is negative where no ack is wanted.
func eventMessage(nsp string, id int64, name string, args []any) (message, error) {
	buf := scratch.Get().(*[]byte)
	data, attachments, err := event.AppendEvent((*buf)[:0], nil, name, args...)
	if err != nil {
		putScratch(buf, data)
		return message{}, err
	}
	m := newMessage(&protocol.Packet{Type: protocol.Event, Namespace: nsp, ID: id, Data: data, Attachments: attachments})
	putScratch(buf, data)
	return m, nil
}

// ackMessage encodes the answer to the event with the given id.
func ackMessage(nsp string, id int64, args []any) (message, error) {
	buf := scratch.Get().(*[]byte)
	data := append((*buf)[:0], '[')
	data, attachments, err := event.Append(data, nil, args...)
	data = append(data, ']')
	if err != nil {
		putScratch(buf, data)
		return message{}, err
	}
	m := newMessage(&protocol.Packet{Type: protocol.Ack, Namespace: nsp, ID: id, Data: data, Attachments: attachments})
	putScratch(buf, data)
	return m, nil
}

// offsetMessage encodes the event of an operation for clients that can be recovered: with its offset as
// one argument more. They take whatever string comes last in an event for an offset, its name too; so one
// that has none, and ends in a string, ends in null.
//
// See https://socket.io/docs/v4/connection-state-recovery
func offsetMessage(op *cluster.Op, offset string) message {
	n := len(op.Data)
	if n == 0 || op.Data[n-1] != ']' || offset == "" && !bytes.HasSuffix(op.Data, []byte(`"]`)) {
		return opMessage(op, protocol.NoID)
	}
	buf := scratch.Get().(*[]byte)
	data := append(append((*buf)[:0], op.Data[:n-1]...), ',')
	if offset == "" {
		data = append(data, "null"...)
	} else {
		data = appendQuoted(data, offset)
	}
	data = append(data, ']')
	longer := *op
	longer.Data = data
	m := opMessage(&longer, protocol.NoID)
	putScratch(buf, data)
	return m
}

// opMessage encodes the event of an operation.
func opMessage(op *cluster.Op, id int64) message {
	m := newMessage(&protocol.Packet{Type: protocol.Event, Namespace: op.Namespace, ID: id, Data: op.Data, Attachments: op.Attachments})
	if op.Flags&cluster.NoCompress != 0 {
		m.head.Plain = true
		for i := range m.all {
			m.all[i].Plain = true
		}
	}
	return m
}

// appendQuoted appends s as a JSON string.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			q, _ := json.Marshal(s) // a string has always an encoding
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// eventName is the name of an event in its JSON array.
func eventName(data []byte) string {
	name, _, _, _ := protocol.SplitEvent(data) // we, or another server, encoded it
	return string(name)
}
