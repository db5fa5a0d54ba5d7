package redisbus

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tinylib/msgp/msgp"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/msgpack"
)

// The types of a Socket.IO packet that carry an event; with binary, the Node.js adapter
// writes the first one too.
const (
	packetEvent       = 2
	packetBinaryEvent = 5
)

// appendBroadcast writes [uid, {type, data, nsp}, {rooms, except, flags}].
func appendBroadcast(dst []byte, m *cluster.Message, nsp string) ([]byte, error) {
	op := m.Op
	dst = grow(dst, op)
	dst = msgp.AppendArrayHeader(dst, 3)
	dst = msgp.AppendString(dst, m.From)
	dst, err := appendPacket(dst, op, nsp)
	if err != nil {
		return nil, err
	}
	dst = msgp.AppendMapHeader(dst, 3+extra(m))
	dst = appendRooms(msgp.AppendString(dst, "rooms"), op.Rooms)
	if m.From == cluster.Emitter { // whose fields stand in another order
		dst = appendFlags(msgp.AppendString(dst, "flags"), op)
		dst = appendRooms(msgp.AppendString(dst, "except"), op.Except)
		return appendPlace(dst, m), nil
	}
	dst = appendRooms(msgp.AppendString(dst, "except"), op.Except)
	dst = appendFlags(msgp.AppendString(dst, "flags"), op)
	return appendPlace(dst, m), nil
}

// grow makes room for about what op needs.
func grow(dst []byte, op *cluster.Op) []byte {
	n := len(op.Data) + 128
	for _, a := range op.Attachments {
		n += len(a) + 5
	}
	for _, r := range op.Rooms {
		n += len(r) + 5
	}
	for _, r := range op.Except {
		n += len(r) + 5
	}
	if cap(dst)-len(dst) >= n {
		return dst
	}
	return append(make([]byte, 0, len(dst)+n), dst...)
}

func appendPacket(dst []byte, op *cluster.Op, nsp string) ([]byte, error) {
	dst = msgp.AppendMapHeader(dst, 3)
	dst = msgp.AppendInt(msgp.AppendString(dst, "type"), packetEvent)
	dst = msgp.AppendString(dst, "data")
	at := len(dst)
	dst, err := msgpack.AppendFromJSON(dst, op.Data, op.Attachments)
	if err != nil {
		return nil, err
	}
	if msgp.NextType(dst[at:]) != msgp.ArrayType {
		return nil, errors.New("the event is no array")
	}
	return msgp.AppendString(msgp.AppendString(dst, "nsp"), nsp), nil
}

func appendFlags(dst []byte, op *cluster.Op) []byte {
	n := uint32(0)
	volatile, raw, timeout := op.Flags&cluster.Volatile != 0, op.Flags&cluster.NoCompress != 0, op.Timeout > 0
	for _, is := range []bool{volatile, raw, timeout} {
		if is {
			n++
		}
	}
	dst = msgp.AppendMapHeader(dst, n)
	if volatile {
		dst = msgp.AppendBool(msgp.AppendString(dst, "volatile"), true)
	}
	if raw {
		dst = msgp.AppendBool(msgp.AppendString(dst, "compress"), false)
	}
	if timeout {
		ms := max(op.Timeout.Milliseconds(), 1)
		dst = msgp.AppendUint64(msgp.AppendString(dst, "timeout"), uint64(ms))
	}
	return dst
}

// decodeBroadcast reads what came on a channel, whose name without the prefix is where:
// "/nsp#", "/nsp#room#", "/nsp#*" for any of these, or "*" for those of all namespaces.
func decodeBroadcast(node, where string, data []byte) (*cluster.Message, error) {
	n, b, err := msgp.ReadArrayHeaderBytes(data)
	if err != nil {
		return nil, err
	}
	if n != 3 {
		return nil, fmt.Errorf("a broadcast of %d parts, not 3", n)
	}
	var from string
	if msgp.NextType(b) == msgp.StrType {
		var uid []byte
		if uid, b, err = msgp.ReadStringZC(b); err != nil {
			return nil, err
		}
		if string(uid) == node && node != "" {
			return nil, nil
		}
		from = string(uid)
	} else if b, err = msgp.Skip(b); err != nil {
		return nil, err
	}

	op := &cluster.Op{Kind: cluster.Emit}
	m := &cluster.Message{Kind: cluster.Tell, From: from, Op: op}
	if b, err = readPacket(b, op); err != nil {
		return nil, err
	}
	if b, err = readOptions(b, m); err != nil {
		return nil, err
	}
	if len(b) > 0 {
		return nil, errTrailing
	}
	if !meant(where, op.Namespace) {
		return nil, nil
	}
	m.Namespace = op.Namespace
	return m, nil
}

var errTrailing = errors.New("bytes behind the message")

// meant reports whether a message for nsp that came on where is meant for us. The channels
// of the namespace /a#b also match the pattern of /a, which is another's.
func meant(where, nsp string) bool {
	if where == "*" {
		return true
	}
	if all, ok := strings.CutSuffix(where, "#*"); ok {
		return all == nsp
	}
	return len(where) > len(nsp) && where[:len(nsp)] == nsp && where[len(nsp)] == '#'
}

// readPacket reads {type, data, nsp} into op.
func readPacket(b []byte, op *cluster.Op) ([]byte, error) {
	op.Namespace = "/"
	kind := -1
	b, err := eachField(b, func(key, b []byte) ([]byte, error) {
		var err error
		switch string(key) {
		case "type":
			kind, b, err = msgp.ReadIntBytes(b)
		case "nsp":
			op.Namespace, b, err = msgp.ReadStringBytes(b)
		case "data":
			op.Data, op.Attachments, b, err = msgpack.AppendJSON(make([]byte, 0, len(b)), b, nil)
		default:
			b, err = msgp.Skip(b)
		}
		return b, err
	})
	if err != nil {
		return nil, err
	}
	if kind != packetEvent && kind != packetBinaryEvent {
		return nil, fmt.Errorf("a packet of type %d, not an event", kind)
	}
	return b, checkEvent(op.Data)
}

// checkEvent checks that the JSON value data is an array with a name in front.
func checkEvent(data []byte) error {
	if len(data) < 2 || data[0] != '[' || data[1] != '"' && data[1] != '-' && data[1]-'0' > 9 {
		return errors.New("an event is an array that begins with its name")
	}
	return nil
}

// readOptions reads {rooms, except, flags} into the operation of m, and the place of m.
func readOptions(b []byte, m *cluster.Message) ([]byte, error) {
	op := m.Op
	return eachField(b, func(key, b []byte) ([]byte, error) {
		var err error
		switch string(key) {
		case "rooms":
			op.Rooms, b, err = readRooms(b)
		case "except":
			op.Except, b, err = readRooms(b)
		case "flags":
			if msgp.NextType(b) != msgp.MapType {
				return msgp.Skip(b)
			}
			b, err = readFlags(b, op)
		case placeKey:
			b, err = readPlace(b, m)
		default:
			b, err = msgp.Skip(b)
		}
		return b, err
	})
}

func readFlags(b []byte, op *cluster.Op) ([]byte, error) {
	return eachField(b, func(key, b []byte) ([]byte, error) {
		kind := msgp.NextType(b)
		switch {
		case string(key) == "volatile" && kind == msgp.BoolType:
			v, rest, err := msgp.ReadBoolBytes(b)
			if v {
				op.Flags |= cluster.Volatile
			}
			return rest, err
		case string(key) == "compress" && kind == msgp.BoolType:
			v, rest, err := msgp.ReadBoolBytes(b)
			if !v {
				op.Flags |= cluster.NoCompress
			}
			return rest, err
		case string(key) == "timeout" && (kind == msgp.IntType || kind == msgp.UintType):
			v, rest, err := msgp.ReadInt64Bytes(b)
			op.Timeout = milliseconds(v)
			return rest, err
		default:
			return msgp.Skip(b)
		}
	})
}

// milliseconds makes a time of what somebody sent; nonsense is no time.
func milliseconds(ms int64) time.Duration {
	const day = 24 * 60 * 60 * 1000
	if ms < 0 {
		return 0
	}
	return time.Duration(min(ms, day)) * time.Millisecond
}

// eachField calls f for each field of a map, with what stands behind its key.
// f returns what stands behind its value.
func eachField(b []byte, f func(key, b []byte) ([]byte, error)) ([]byte, error) {
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return nil, err
	}
	for range n {
		var key []byte
		if key, b, err = msgp.ReadStringZC(b); err != nil {
			return nil, err
		}
		if b, err = f(key, b); err != nil {
			return nil, err
		}
	}
	return b, nil
}
