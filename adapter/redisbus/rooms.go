package redisbus

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/tinylib/msgp/msgp"

	"github.com/atollhq/atoll/internal/msgpack"
)

// onlyRoom returns the room that rooms consist of, if it is one.
func onlyRoom(rooms []string) (string, bool) {
	if len(rooms) == 0 {
		return "", false
	}
	for _, r := range rooms[1:] {
		if r != rooms[0] {
			return "", false
		}
	}
	return rooms[0], true
}

// A room of Node.js may be a number: who joined 7 is not in "7". So a room that is the
// text of an integer is written twice, as text and as number, where sockets are selected
// by it. A receiver takes both for one set, so nobody is selected twice.

// numberOf returns the integer that room is the JavaScript text of.
func numberOf(room string) (int64, bool) {
	if n := len(room); n == 0 || n > 16 || (room[0] < '0' || room[0] > '9') && room[0] != '-' {
		return 0, false
	}
	v, err := strconv.ParseInt(room, 10, 64)
	if err != nil || v > 1<<53-1 || v < -(1<<53-1) || strconv.FormatInt(v, 10) != room {
		return 0, false
	}
	return v, true
}

// appendRooms appends rooms as an array of MessagePack.
func appendRooms(dst []byte, rooms []string) []byte {
	n := len(rooms)
	for _, r := range rooms {
		if _, ok := numberOf(r); ok {
			n++
		}
	}
	dst = msgp.AppendArrayHeader(dst, uint32(n))
	for _, r := range rooms {
		dst = msgp.AppendString(dst, r)
		if v, ok := numberOf(r); ok {
			if v < 0 {
				dst = msgp.AppendInt64(dst, v)
			} else {
				dst = msgp.AppendUint64(dst, uint64(v))
			}
		}
	}
	return dst
}

// appendRoomsJSON appends rooms as an array of JSON; selects says that sockets are
// selected by them, not that they join them.
func appendRoomsJSON(dst []byte, rooms []string, selects bool) []byte {
	dst = append(dst, '[')
	for i, r := range rooms {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = msgpack.AppendQuoted(dst, r)
		if v, ok := numberOf(r); ok && selects {
			dst = strconv.AppendInt(append(dst, ','), v, 10)
		}
	}
	return append(dst, ']')
}

var errRoom = errors.New("a room is neither text nor number")

// readRooms reads an array of rooms from MessagePack; nil counts as an empty one.
func readRooms(b []byte) (rooms []string, rest []byte, err error) {
	if msgp.IsNil(b) {
		rest, err = msgp.ReadNilBytes(b)
		return nil, rest, err
	}
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return nil, nil, err
	}
	for range n {
		var r string
		switch msgp.NextType(b) {
		case msgp.StrType:
			r, b, err = msgp.ReadStringBytes(b)
		case msgp.IntType, msgp.UintType, msgp.Float32Type, msgp.Float64Type:
			var text []byte
			text, _, b, err = msgpack.AppendJSON(nil, b, nil)
			r = string(text)
		default:
			err = errRoom
		}
		if err != nil {
			return nil, nil, err
		}
		rooms = addRoom(rooms, r)
	}
	return rooms, b, nil
}

// addRoom adds the room r, unless it is the last one, as a number.
func addRoom(rooms []string, r string) []string {
	if n := len(rooms); n > 0 && rooms[n-1] == r {
		return rooms
	}
	return append(rooms, r)
}

// wireRooms are rooms in JSON.
type wireRooms []string

func (w *wireRooms) UnmarshalJSON(b []byte) error {
	var raw []json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	rooms := make([]string, 0, len(raw))
	for _, v := range raw {
		var r wireRoom
		if err := r.UnmarshalJSON(v); err != nil {
			return err
		}
		rooms = addRoom(rooms, string(r))
	}
	*w = rooms
	return nil
}

// A wireRoom is a room in JSON.
type wireRoom string

func (w *wireRoom) UnmarshalJSON(b []byte) error {
	switch c := b[0]; {
	case c == '"':
		return json.Unmarshal(b, (*string)(w))
	case c == '-' || c >= '0' && c <= '9':
		*w = wireRoom(b) // as JavaScript wrote it
		return nil
	default:
		return errRoom
	}
}
