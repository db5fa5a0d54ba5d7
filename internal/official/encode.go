package official

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/jsonx/scan"
	"github.com/atollhq/atoll/internal/msgpack"
)

// Encode returns m in JSON, or in MessagePack where m has binary in it.
func Encode(m *cluster.Message) ([]byte, error) {
	if HasBinary(m) {
		return AppendMsgpack(nil, m)
	}
	return AppendJSON(nil, m)
}

// HasBinary reports whether m has binary in it, also in the data of sockets that it describes.
func HasBinary(m *cluster.Message) bool {
	if m.Op != nil {
		return len(m.Op.Attachments) > 0
	}
	if m.Answer == nil {
		return false
	}
	for i := range m.Answer.Sockets {
		if hasBuffer(m.Answer.Sockets[i].Data) {
			return true
		}
	}
	return len(m.Answer.Attachments) > 0
}

// hasBuffer reports whether JSON may have what Node.js makes of a Buffer in it.
func hasBuffer(data []byte) bool { return bytes.Contains(data, []byte(`"Buffer"`)) }

// AppendJSON appends m in JSON. Binary is written as JSON.stringify writes a Buffer, in about four
// times its size.
func AppendJSON(dst []byte, m *cluster.Message) ([]byte, error) {
	return encode(dst, m, false, true)
}

// AppendMsgpack appends m in MessagePack.
func AppendMsgpack(dst []byte, m *cluster.Message) ([]byte, error) {
	return encode(dst, m, true, true)
}

// AppendDataJSON appends the data of m alone, in JSON; the rest is in HeaderOf(m).
func AppendDataJSON(dst []byte, m *cluster.Message) ([]byte, error) {
	return encode(dst, m, false, false)
}

// AppendDataMsgpack appends the data of m alone, in MessagePack; the rest is in HeaderOf(m).
func AppendDataMsgpack(dst []byte, m *cluster.Message) ([]byte, error) {
	return encode(dst, m, true, false)
}

// encode appends m, or its data alone. It is written in JSON first, with placeholders for binary.
func encode(dst []byte, m *cluster.Message, packed, whole bool) ([]byte, error) {
	h, err := HeaderOf(m)
	if err != nil {
		return nil, err
	}
	w := writer{attachments: attachmentsOf(m), plain: !packed}
	if packed {
		w.b = make([]byte, 0, sizeOf(m))
	} else if w.b = dst; cap(dst)-len(dst) < sizeOf(m) {
		w.b = append(make([]byte, 0, len(dst)+sizeOf(m)), dst...)
	}
	if whole {
		w.b = strconv.AppendInt(append(w.b, `{"type":`...), int64(h.Kind), 10)
		w.b = append(w.b, `,"data":`...)
	}
	if m.Kind == cluster.Reply {
		w.response(m, h.Kind)
	} else {
		w.request(m)
	}
	if whole {
		w.b = h.appendTail(w.b)
	}
	if w.err == nil && packed {
		if h.Kind == FetchResponse {
			w.b, w.err = msgpack.AppendFromBufferJSON(dst, w.b)
		} else {
			w.b, w.err = msgpack.AppendFromJSON(dst, w.b, w.attachments)
		}
	}
	if w.err != nil {
		return nil, fmt.Errorf("official: encode: %w", w.err)
	}
	return w.b, nil
}

func attachmentsOf(m *cluster.Message) [][]byte {
	if m.Kind == cluster.Reply {
		return m.Answer.Attachments
	}
	return m.Op.Attachments
}

// sizeOf is about how many bytes m takes in JSON, without its attachments.
func sizeOf(m *cluster.Message) int {
	n := 160 + len(m.From) + len(m.Request) + len(m.Namespace)
	if op := m.Op; op != nil {
		n += len(op.Data)
		for _, rooms := range [][]string{op.Rooms, op.Except, op.Names} {
			for _, r := range rooms {
				n += len(r) + 4
			}
		}
	}
	if a := m.Answer; a != nil {
		n += len(a.Data) + 24*len(a.Rooms)
		for i := range a.Sockets {
			s := &a.Sockets[i]
			n += 64 + len(s.ID) + 24*len(s.Rooms) + len(s.Handshake) + len(s.Data)
		}
	}
	return n
}

// A writer appends JSON to b.
type writer struct {
	b           []byte
	attachments [][]byte
	plain       bool // binary is to be written in JSON; else placeholders stay
	err         error
}

func (w *writer) raw(s string)           { w.b = append(w.b, s...) }
func (w *writer) text(name, text string) { w.raw(name); w.b = scan.AppendString(w.b, text) }

// request writes what is told or asked.
func (w *writer) request(m *cluster.Message) {
	op := m.Op
	id := wireID(m.Request, op.Kind)
	switch op.Kind {
	case cluster.Emit, cluster.EmitAck:
		w.raw(`{"packet":{"type":2,"data":`)
		w.event(op)
		if m.From == cluster.Emitter {
			w.text(`,"nsp":`, namespaceOf(m))
		}
		w.raw("}")
		if m.Kind == cluster.Ask {
			w.text(`,"requestId":`, id)
		}
		w.raw(",")
		w.options(op, m.From == cluster.Emitter)
	case cluster.JoinRooms, cluster.LeaveRooms:
		w.raw("{")
		w.options(op, false)
		w.raw(`,"rooms":`)
		w.b = appendRooms(w.b, op.Names, op.Kind == cluster.LeaveRooms)
	case cluster.Disconnect:
		w.raw("{")
		w.options(op, false)
		w.raw(`,"close":`)
		w.b = strconv.AppendBool(w.b, op.Close)
	case cluster.Fetch, cluster.Count, cluster.Rooms:
		w.raw("{")
		w.options(op, false)
		w.text(`,"requestId":`, id)
	case cluster.ServerEmit, cluster.ServerAsk:
		w.raw("{")
		if m.Kind == cluster.Ask {
			w.text(`"requestId":`, id)
			w.raw(",")
		}
		w.raw(`"packet":`)
		w.event(op)
	}
	w.raw("}")
}

// event writes the arguments of an event, its name first.
func (w *writer) event(op *cluster.Op) {
	if checkEvent(op.Data) != nil {
		w.err = errEvent
		return
	}
	w.value(op.Data)
}

// value writes JSON with placeholders.
func (w *writer) value(data []byte) {
	if !w.plain || len(w.attachments) == 0 {
		w.b = append(w.b, data...)
		return
	}
	packed, err := msgpack.AppendFromJSON(nil, data, w.attachments)
	if err == nil {
		w.b, _, err = msgpack.AppendBufferJSON(w.b, packed)
	}
	if err != nil {
		w.err = err
	}
}

// options writes who is selected; an emitter writes the flags before the exceptions.
func (w *writer) options(op *cluster.Op, emitter bool) {
	w.raw(`"opts":{"rooms":`)
	w.b = appendRooms(w.b, op.Rooms, true)
	if emitter {
		w.flags(op)
	}
	w.raw(`,"except":`)
	w.b = appendRooms(w.b, op.Except, true)
	if !emitter {
		w.flags(op)
	}
	w.raw("}")
}

func (w *writer) flags(op *cluster.Op) {
	w.raw(`,"flags":{`)
	if op.Kind == cluster.Emit || op.Kind == cluster.EmitAck {
		comma := ""
		if op.Flags&cluster.Volatile != 0 {
			w.raw(`"volatile":true`)
			comma = ","
		}
		if op.Flags&cluster.NoCompress != 0 {
			w.raw(comma + `"compress":false`)
			comma = ","
		}
		if op.Timeout > 0 {
			w.raw(comma + `"timeout":`)
			w.b = strconv.AppendInt(w.b, max(op.Timeout.Milliseconds(), 1), 10)
		}
	}
	w.raw("}")
}

// response writes an answer.
func (w *writer) response(m *cluster.Message, kind Kind) {
	a := m.Answer
	w.text(`{"requestId":`, wireID(m.Request, 0))
	switch kind {
	case ClientCount:
		w.raw(`,"clientCount":`)
		w.b = strconv.AppendInt(w.b, int64(a.Clients), 10)
	case BroadcastAck, ServerSideResponse:
		first, more := splitFirst(a.Data)
		if first != nil {
			w.raw(`,"packet":`)
			w.value(first)
		}
		if more != nil {
			w.raw(`,"more":`)
			w.value(more)
		}
	case FetchResponse:
		w.raw(`,"sockets":`)
		w.sockets(a.Sockets)
		switch _, asked := splitRequest(m.Request); {
		case asked == askedCount:
			w.raw(`,"count":`)
			w.b = strconv.AppendInt(w.b, int64(a.Clients), 10)
		case asked == askedRooms, a.Rooms != nil:
			w.raw(`,"rooms":`)
			w.b = appendRooms(w.b, a.Rooms, false)
		}
	}
	w.raw("}")
}

func (w *writer) sockets(sockets []cluster.SocketInfo) {
	w.raw("[")
	for i := range sockets {
		s := &sockets[i]
		if i > 0 {
			w.raw(",")
		}
		w.text(`{"id":`, s.ID)
		w.raw(`,"handshake":`)
		w.object(s.Handshake)
		w.raw(`,"rooms":`)
		w.b = appendRooms(w.b, s.Rooms, false)
		w.raw(`,"data":`)
		w.object(s.Data)
		w.raw("}")
	}
	w.raw("]")
}

// object writes JSON, or an empty object where there is none.
func (w *writer) object(data []byte) {
	if len(data) == 0 {
		w.raw("{}")
		return
	}
	w.b = append(w.b, data...)
}

// splitFirst splits a JSON array into its first element and an array of the others. Node.js
// nodes know one value for an answer; Atoll nodes read the others too.
func splitFirst(data []byte) (first, more []byte) {
	data = scan.Trim(data)
	if len(data) < 2 || data[0] != '[' {
		return nil, nil
	}
	inner := data[1 : len(data)-1]
	first, next, ok := scan.Element(inner, 0)
	if !ok {
		return nil, nil
	}
	if rest := scan.Trim(inner[next:]); len(rest) > 0 {
		more = append(append(append(make([]byte, 0, len(rest)+2), '['), rest...), ']')
	}
	return first, more
}

var errEvent = errors.New("an event is an array that begins with its name")

// checkEvent checks that the JSON value data is an array with a name in front.
func checkEvent(data []byte) error {
	if len(data) < 2 || data[0] != '[' {
		return errEvent
	}
	if i := scan.Space(data, 1); i >= len(data) || data[i] != '"' && data[i] != '-' && data[i]-'0' > 9 {
		return errEvent
	}
	return nil
}
