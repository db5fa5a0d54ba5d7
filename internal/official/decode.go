package official

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/jsonx/scan"
	"github.com/atollhq/atoll/internal/msgpack"
)

// ErrMalformed is wrapped by the errors of Decode and DecodeData.
var ErrMalformed = errors.New("malformed message")

// Options say how messages are read. The zero value is right but for streams with OnlyPlaintext.
type Options struct {
	// Buffers says that {"type":"Buffer","data":[…]} in JSON stands for binary. It does where
	// nothing is written in MessagePack; elsewhere it is what it looks like.
	Buffers bool
}

// Decode reads a whole message, in JSON or MessagePack, whichever it is. node is who reads it: of
// its own messages Decode returns the header and no Message, as it does of those that only tell
// that a node is there, and of those that lie in a row. With an empty node it reads everybody's.
// namespace is that of the channel; a message that names another one gives no Message either.
// Where namespace is empty, all namespaces are read. The Message may share memory with data.
func (o Options) Decode(node, namespace string, data []byte) (Header, *cluster.Message, error) {
	h, m, err := o.decode(node, namespace, data)
	if err != nil {
		return h, nil, fmt.Errorf("official: %w: %w", ErrMalformed, err)
	}
	return h, m, nil
}

// DecodeData reads the data of a message, in JSON or MessagePack, whose header came beside it.
func (o Options) DecodeData(h Header, data []byte) (*cluster.Message, error) {
	var m *cluster.Message
	b, err := open(data)
	if err == nil && h.Kind == FetchResponse {
		b, err = b.plain()
	}
	if err == nil {
		m, err = o.message(&h, b, b.json)
	}
	if err != nil {
		return nil, fmt.Errorf("official: %w: %w", ErrMalformed, err)
	}
	return m, nil
}

// A body is a message or its data in JSON, with placeholders for attachments.
type body struct {
	json        []byte
	attachments [][]byte
	packed      []byte // what json was read from, where that was MessagePack
}

// open makes JSON of data and checks it.
func open(data []byte) (*body, error) {
	b := &body{json: data}
	if len(data) == 0 {
		return nil, errors.New("no bytes")
	}
	if data[0] != '{' {
		b.packed = data
		var rest []byte
		var err error
		b.json, b.attachments, rest, err = msgpack.AppendJSON(make([]byte, 0, len(data)), data, nil)
		if err != nil {
			return nil, err
		}
		if len(rest) > 0 {
			return nil, errTrailing
		}
	}
	end, err := scan.Value(b.json, 0)
	if err != nil {
		return nil, err
	}
	if scan.Space(b.json, end) < len(b.json) {
		return nil, errTrailing
	}
	b.json = scan.Trim(b.json)
	return b, nil
}

// plain returns b with Buffers in JSON in the place of attachments, as sockets are described.
func (b *body) plain() (*body, error) {
	if len(b.attachments) == 0 {
		return b, nil
	}
	data, _, err := msgpack.AppendBufferJSON(nil, b.packed)
	return &body{json: data}, err
}

var errTrailing = errors.New("bytes behind the message")

func (o Options) decode(node, namespace string, data []byte) (h Header, m *cluster.Message, err error) {
	b, err := open(data)
	if err != nil {
		return h, nil, err
	}
	var inner []byte
	if inner, err = h.read(b.json); err != nil {
		return h, nil, err
	}
	if h.Namespace == "" {
		h.Namespace = namespace
	} else if namespace != "" && h.Namespace != namespace {
		return h, nil, nil
	}
	if h.UID == node && node != "" || h.Kind.IsPresence() || h.Attachment != "" {
		return h, nil, nil
	}
	if h.Kind == FetchResponse && len(b.attachments) > 0 {
		if b, err = b.plain(); err == nil {
			inner, err = h.read(b.json)
		}
		if err != nil {
			return h, nil, err
		}
	}
	m, err = o.message(&h, b, inner)
	if m != nil && m.Kind == cluster.Reply {
		m.To = node
	}
	return h, m, err
}

// read reads a message but for its data, which it returns.
func (h *Header) read(raw []byte) (data []byte, err error) {
	err = fields(raw, func(key, v []byte) (err error) {
		switch string(key) {
		case "type":
			var n int
			n, err = number(v, int(AdapterClose))
			h.Kind = Kind(n)
		case "uid":
			h.UID, err = text(v)
		case "nsp":
			h.Namespace, err = text(v)
		case "data":
			data = v
		case "attachmentId":
			if h.Attachment = string(v); v[0] == '"' {
				h.Attachment, err = text(v)
			}
		case MarkField:
			var mark string
			if mark, err = text(v); err == nil {
				err = h.SetMark(mark)
			}
		}
		return err
	})
	if err == nil && h.Kind < InitialHeartbeat {
		err = errors.New("a message without its type")
	}
	return data, err
}

// fields calls f for each member of a JSON object that is known to be valid; f keeps nothing.
func fields(raw []byte, f func(key, value []byte) error) error {
	if len(raw) == 0 || raw[0] != '{' {
		return errors.New("something else stands where an object should")
	}
	for i := scan.Space(raw, 1); i < len(raw) && raw[i] == '"'; {
		end := scan.Skip(raw, i)
		key := scan.Unquote(raw[i:end])
		i = scan.Space(raw, end) + 1 // the colon
		value, next, ok := scan.Element(raw, i)
		if !ok {
			return errTrailing
		}
		if err := f(key, value); err != nil {
			return err
		}
		i = scan.Space(raw, next)
	}
	return nil
}

func text(raw []byte) (string, error) {
	switch {
	case raw[0] == '"':
		return string(scan.Unquote(raw)), nil
	case string(raw) == "null":
		return "", nil
	default:
		return "", errors.New("something else stands where text should")
	}
}

// number reads an integer from 0 to most.
func number(raw []byte, most int) (int, error) {
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f != math.Trunc(f) || f < 0 || f > float64(most) {
		return 0, fmt.Errorf("%.20q where a number up to %d should stand", raw, most)
	}
	return int(f), nil
}

// A wireData is the data of a message, each part as raw JSON; nil where it is absent.
type wireData struct {
	packet, requestID, opts, rooms, close, sockets, clientCount, count, more []byte
}

func (d *wireData) read(raw []byte) error {
	return fields(raw, func(key, v []byte) error {
		switch string(key) {
		case "packet":
			d.packet = v
		case "requestId":
			d.requestID = v
		case "opts":
			d.opts = v
		case "rooms":
			d.rooms = v
		case "close":
			d.close = v
		case "sockets":
			d.sockets = v
		case "clientCount":
			d.clientCount = v
		case "count":
			d.count = v
		case "more":
			d.more = v
		}
		return nil
	})
}

// message reads the data of a message.
func (o Options) message(h *Header, b *body, raw []byte) (*cluster.Message, error) {
	var d wireData
	if err := d.read(raw); err != nil {
		return nil, err
	}
	var id string
	if d.requestID != nil {
		var err error
		if id, err = text(d.requestID); err != nil {
			return nil, err
		}
	}
	nsp := h.Namespace
	if nsp == "" {
		nsp = "/"
	}
	m := &cluster.Message{From: h.UID, Namespace: nsp, Life: h.Life, Number: h.Number}
	if h.Kind.IsResponse() {
		m.Kind = cluster.Reply
		return m, o.response(m, h, b, &d, id)
	}
	m.Kind = cluster.Tell
	m.Op = &cluster.Op{Namespace: nsp}
	if err := o.request(m, h, b, &d, id); err != nil {
		return nil, err
	}
	return m, nil
}

// request reads what is told or asked.
func (o Options) request(m *cluster.Message, h *Header, b *body, d *wireData, id string) (err error) {
	op := m.Op
	asked := byte(0)
	if h.Kind != ServerSideEmit {
		if d.opts == nil {
			return errors.New("a message without its options")
		}
		if err = readOptions(d.opts, op); err != nil {
			return err
		}
	}
	switch h.Kind {
	case Broadcast:
		op.Kind = cluster.Emit
		if id != "" {
			op.Kind, asked = cluster.EmitAck, askedAck
		}
		event, err := readPacket(d.packet)
		if err != nil {
			return err
		}
		return o.settle(m, b, event, asked, id)
	case SocketsJoin, SocketsLeave:
		op.Kind = cluster.JoinRooms
		if h.Kind == SocketsLeave {
			op.Kind = cluster.LeaveRooms
		}
		if d.rooms == nil {
			return errRooms
		}
		op.Names, err = readRooms(d.rooms)
		return err
	case DisconnectSockets:
		op.Kind, op.Close = cluster.Disconnect, string(d.close) == "true"
	case FetchSockets:
		if id == "" {
			return errors.New("a question without its id")
		}
		id, op.Kind = cutMark(id)
		asked = map[cluster.Kind]byte{cluster.Fetch: askedFetch, cluster.Count: askedCount, cluster.Rooms: askedRooms}[op.Kind]
		m.Kind, m.Request = cluster.Ask, string(asked)+":"+id
	case ServerSideEmit:
		op.Kind = cluster.ServerEmit
		if id != "" {
			op.Kind, asked = cluster.ServerAsk, askedServer
		}
		return o.settle(m, b, d.packet, asked, id)
	default:
		return fmt.Errorf("a message of type %d", h.Kind)
	}
	return nil
}

// settle gives m its event, and its id where it asks.
func (o Options) settle(m *cluster.Message, b *body, event []byte, asked byte, id string) (err error) {
	if err = checkEvent(event); err != nil {
		return err
	}
	if asked != 0 {
		m.Kind, m.Request = cluster.Ask, string(asked)+":"+id
	}
	m.Op.Data, m.Op.Attachments, err = o.values(b, event)
	return err
}

// values returns JSON and the attachments that it has placeholders for.
func (o Options) values(b *body, data []byte) ([]byte, [][]byte, error) {
	if b.packed == nil {
		if !o.Buffers || !hasBuffer(data) {
			return data, nil, nil
		}
		packed, err := msgpack.AppendFromBufferJSON(nil, data)
		if err != nil {
			return nil, nil, err
		}
		data, attachments, _, err := msgpack.AppendJSON(nil, packed, nil)
		return data, attachments, err
	}
	if n := len(b.attachments); n > 0 {
		if err := scan.Placeholders(data, 0, n); err != nil {
			return nil, nil, err
		}
		if bytes.Count(data, placeholder) < n {
			return nil, nil, errors.New("binary outside of the values")
		}
	}
	return data, b.attachments, nil
}

var placeholder = []byte(`{"_placeholder":true,"num":`)
