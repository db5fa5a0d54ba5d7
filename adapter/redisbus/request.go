package redisbus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tinylib/msgp/msgp"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/msgpack"
)

// The types of requests, and of some responses.
const (
	typeSockets     = 0 // which sockets are in the rooms; Node.js asks it no more, and answers it
	typeRooms       = 1
	typeJoin        = 2
	typeLeave       = 3
	typeDisconnect  = 4
	typeFetch       = 5
	typeServerEmit  = 6
	typeEmitAck     = 7
	typeClientCount = 8
	typeAck         = 9
)

// countMark ends the ids of our questions for a mere count, which the format does not
// know: Node.js nodes describe the sockets, Atoll nodes count them. Ids of Node.js have no #.
const countMark = "#count"

// appendRequest writes everything that is told or asked and is no broadcast.
func appendRequest(dst []byte, m *cluster.Message, nsp string) ([]byte, error) {
	op := m.Op
	if op.Kind == cluster.EmitAck {
		return appendEmitAck(dst, m, nsp)
	}
	dst = append(dst, '{')
	emitter := m.From == cluster.Emitter
	if !emitter || op.Kind == cluster.ServerEmit { // as @socket.io/redis-emitter does
		dst = append(dst, `"uid":`...)
		dst = append(msgpack.AppendQuoted(dst, m.From), ',')
	}
	if m.Kind == cluster.Ask {
		id := m.Request
		if op.Kind == cluster.Count {
			id += countMark
		}
		dst = append(dst, `"requestId":`...)
		dst = append(msgpack.AppendQuoted(dst, id), ',')
	}
	dst = append(dst, `"type":`...)

	switch op.Kind {
	case cluster.JoinRooms, cluster.LeaveRooms:
		kind := byte('0' + typeJoin)
		if op.Kind == cluster.LeaveRooms {
			kind = '0' + typeLeave
		}
		dst = appendOptions(append(dst, kind, ','), op)
		dst = append(dst, `,"rooms":`...)
		dst = appendRoomsJSON(dst, op.Names, op.Kind == cluster.LeaveRooms)
	case cluster.Disconnect:
		dst = appendOptions(append(dst, '0'+typeDisconnect, ','), op)
		dst = append(dst, `,"close":`...)
		dst = strconv.AppendBool(dst, op.Close)
	case cluster.Count:
		if len(op.Except) > 0 {
			dst = appendOptions(append(dst, '0'+typeFetch, ','), op)
			break
		}
		dst = append(dst, '0'+typeSockets)
		dst = append(dst, `,"rooms":`...)
		dst = appendRoomsJSON(dst, op.Rooms, true)
	case cluster.Fetch:
		dst = appendOptions(append(dst, '0'+typeFetch, ','), op)
	case cluster.Rooms:
		dst = append(dst, '0'+typeRooms)
	case cluster.ServerEmit, cluster.ServerAsk:
		dst = append(dst, '0'+typeServerEmit)
		dst = append(dst, `,"data":`...)
		var err error
		if dst, err = appendPlainJSON(dst, op.Data, op.Attachments); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("operation %v: %w", op.Kind, cluster.ErrUnsupported)
	}
	return append(appendPlaceJSON(dst, m), '}'), nil
}

func appendOptions(dst []byte, op *cluster.Op) []byte {
	dst = append(dst, `"opts":{"rooms":`...)
	dst = appendRoomsJSON(dst, op.Rooms, true)
	dst = append(dst, `,"except":`...)
	dst = appendRoomsJSON(dst, op.Except, true)
	return append(dst, '}')
}

// appendPlainJSON appends data with its attachments as Buffers in JSON.
func appendPlainJSON(dst, data []byte, attachments [][]byte) ([]byte, error) {
	if len(attachments) == 0 {
		return append(dst, data...), nil
	}
	packed, err := msgpack.AppendFromJSON(nil, data, attachments)
	if err != nil {
		return nil, err
	}
	dst, _, err = msgpack.AppendBufferJSON(dst, packed)
	return dst, err
}

func appendEmitAck(dst []byte, m *cluster.Message, nsp string) ([]byte, error) {
	op := m.Op
	dst = grow(dst, op)
	dst = msgp.AppendMapHeader(dst, 5+extra(m))
	dst = msgp.AppendString(msgp.AppendString(dst, "uid"), m.From)
	dst = msgp.AppendString(msgp.AppendString(dst, "requestId"), m.Request)
	dst = msgp.AppendInt(msgp.AppendString(dst, "type"), typeEmitAck)
	dst, err := appendPacket(msgp.AppendString(dst, "packet"), op, nsp)
	if err != nil {
		return nil, err
	}
	dst = msgp.AppendMapHeader(msgp.AppendString(dst, "opts"), 3)
	dst = appendRooms(msgp.AppendString(dst, "rooms"), op.Rooms)
	dst = appendRooms(msgp.AppendString(dst, "except"), op.Except)
	dst = appendFlags(msgp.AppendString(dst, "flags"), op)
	return appendPlace(dst, m), nil
}

// A wireRequest is a request in JSON.
type wireRequest struct {
	UID       string          `json:"uid"`
	RequestID string          `json:"requestId"`
	Type      int             `json:"type"`
	Opts      *wireOptions    `json:"opts"`
	Rooms     wireRooms       `json:"rooms"`
	Close     bool            `json:"close"`
	Data      json.RawMessage `json:"data"`
	Packet    *wirePacket     `json:"packet"`
	Place     *wirePlace      `json:"atoll"`
	SID       string          `json:"sid"`  // before 8.0
	Room      wireRoom        `json:"room"` // before 8.0
}

type wireOptions struct {
	Rooms  wireRooms `json:"rooms"`
	Except wireRooms `json:"except"`
	Flags  struct {
		Volatile bool    `json:"volatile"`
		Compress *bool   `json:"compress"`
		Timeout  float64 `json:"timeout"`
	} `json:"flags"`
}

type wirePacket struct {
	Namespace string          `json:"nsp"`
	Data      json.RawMessage `json:"data"`
}

// decodeRequest reads what came on the channel of requests of a namespace.
func decodeRequest(node, nsp string, data []byte) (*cluster.Message, error) {
	if len(data) > 0 && data[0] != '{' {
		m, again, err := decodePackedRequest(node, nsp, data)
		if err != nil || again == nil {
			return m, err
		}
		data = again
	}
	var r wireRequest
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	if r.UID == node && node != "" {
		return nil, nil
	}
	op := &cluster.Op{Namespace: nsp}
	if o := r.Opts; o != nil {
		op.Rooms, op.Except = o.Rooms, o.Except
		if o.Flags.Volatile {
			op.Flags |= cluster.Volatile
		}
		if c := o.Flags.Compress; c != nil && !*c {
			op.Flags |= cluster.NoCompress
		}
		op.Timeout = milliseconds(int64(min(max(o.Flags.Timeout, 0), 1e12)))
	}
	id, counts := strings.CutSuffix(r.RequestID, countMark)
	if err := r.fill(op, counts); err != nil {
		return nil, err
	}
	m := &cluster.Message{Kind: cluster.Tell, From: r.UID, Namespace: nsp, Op: op}
	r.Place.set(m)
	if op.Kind.Asks() {
		if m.Kind, m.Request = cluster.Ask, id; id == "" {
			return nil, errors.New("a question without its id")
		}
		if r.Type == typeSockets && !counts {
			m.Request = idsMark + id
		}
	}
	return m, nil
}

// idsMark begins the ids of questions of type 0 that a Node.js node asked, which wants
// nothing but the ids of the sockets. The answer is given to the id with the mark, and loses it.
const idsMark = "ids#"

// fill sets what op does.
func (r *wireRequest) fill(op *cluster.Op, counts bool) (err error) {
	if r.Opts == nil && r.SID != "" && r.Type >= typeJoin && r.Type <= typeDisconnect {
		op.Rooms, r.Rooms = []string{r.SID}, wireRooms{string(r.Room)} // one socket, before 8.0
	} else if r.Opts == nil && r.Type >= typeJoin && r.Type <= typeFetch {
		return errors.New("a request without its options")
	}
	switch r.Type {
	case typeSockets:
		op.Kind, op.Rooms = cluster.Fetch, r.Rooms
	case typeFetch:
		op.Kind = cluster.Fetch
	case typeRooms:
		op.Kind = cluster.Rooms
	case typeJoin:
		op.Kind, op.Names = cluster.JoinRooms, r.Rooms
	case typeLeave:
		op.Kind, op.Names = cluster.LeaveRooms, r.Rooms
	case typeDisconnect:
		op.Kind, op.Close = cluster.Disconnect, r.Close
	case typeServerEmit:
		op.Kind = cluster.ServerEmit
		if r.RequestID != "" {
			op.Kind = cluster.ServerAsk
		}
		op.Data, op.Attachments, err = readPlainJSON(r.Data)
		if err == nil {
			err = checkEvent(op.Data)
		}
	case typeEmitAck:
		if r.Packet == nil {
			return errors.New("a broadcast without its packet")
		}
		op.Kind = cluster.EmitAck
		op.Data, op.Attachments, err = readPlainJSON(r.Packet.Data)
		if err == nil {
			err = checkEvent(op.Data)
		}
	default:
		return fmt.Errorf("a request of type %d", r.Type)
	}
	if counts && op.Kind == cluster.Fetch {
		op.Kind = cluster.Count
	}
	return err
}

// readPlainJSON makes data, valid JSON, ready for an Op: without white space in front,
// and Buffers become attachments.
func readPlainJSON(data []byte) (out []byte, attachments [][]byte, err error) {
	data = bytes.TrimLeft(data, " \t\r\n")
	if !bytes.Contains(data, []byte("Buffer")) && !bytes.Contains(data, []byte("placeholder")) {
		return data, nil, nil
	}
	packed, err := msgpack.AppendFromBufferJSON(nil, data)
	if err != nil {
		return nil, nil, err
	}
	out, attachments, _, err = msgpack.AppendJSON(nil, packed, nil)
	return out, attachments, err
}

// decodePackedRequest reads a request in MessagePack. Where it is none of those that are
// always written so, it returns the request as JSON.
func decodePackedRequest(node, nsp string, data []byte) (m *cluster.Message, again []byte, err error) {
	op := &cluster.Op{Kind: cluster.EmitAck}
	m = &cluster.Message{Kind: cluster.Ask, Namespace: nsp, Op: op}
	kind := -1
	packet := false
	rest, err := eachField(data, func(key, b []byte) ([]byte, error) {
		var err error
		switch string(key) {
		case "uid":
			m.From, b, err = msgp.ReadStringBytes(b)
		case "requestId":
			m.Request, b, err = msgp.ReadStringBytes(b)
		case "type":
			kind, b, err = msgp.ReadIntBytes(b)
		case "packet":
			packet = true
			b, err = readPacket(b, op)
		case "opts":
			b, err = readOptions(b, m)
		case placeKey:
			b, err = readPlace(b, m)
		default:
			b, err = msgp.Skip(b)
		}
		return b, err
	})
	switch {
	case err != nil:
		return nil, nil, err
	case len(rest) > 0:
		return nil, nil, errTrailing
	case kind != typeEmitAck:
		again, _, err = msgpack.AppendBufferJSON(nil, data)
		return nil, again, err
	case !packet || m.Request == "":
		return nil, nil, errors.New("a broadcast without its packet or its id")
	case m.From == node && node != "", op.Namespace != nsp:
		return nil, nil, nil
	}
	return m, nil, nil
}
