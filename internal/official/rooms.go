package official

import (
	"errors"
	"strconv"

	"github.com/atollhq/atoll/internal/jsonx/scan"
)

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

// appendRooms appends rooms as an array; selects says that sockets are selected by them, not
// that sockets enter them.
func appendRooms(dst []byte, rooms []string, selects bool) []byte {
	dst = append(dst, '[')
	for i, r := range rooms {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = scan.AppendString(dst, r)
		if v, ok := numberOf(r); ok && selects {
			dst = strconv.AppendInt(append(dst, ','), v, 10)
		}
	}
	return append(dst, ']')
}

var errRooms = errors.New("rooms are an array of texts and numbers")

// readRooms reads an array of rooms; null counts as an empty one.
func readRooms(raw []byte) ([]string, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	if raw[0] != '[' {
		return nil, errRooms
	}
	rooms := []string{}
	inner := raw[1 : len(raw)-1]
	for i := 0; ; {
		v, next, ok := scan.Element(inner, i)
		if !ok {
			return rooms, nil
		}
		i = next
		var room string
		switch c := v[0]; {
		case c == '"':
			room = string(scan.Unquote(v))
		case c == '-' || c >= '0' && c <= '9':
			room = string(v) // as JavaScript wrote it
		default:
			return nil, errRooms
		}
		if n := len(rooms); n > 0 && rooms[n-1] == room {
			continue // the same as text and as number
		}
		rooms = append(rooms, room)
	}
}
