package official

import (
	"errors"
	"math"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/jsonx/scan"
)

// response reads an answer. Whether somebody waits for it is for the node to know.
func (o Options) response(m *cluster.Message, h *Header, b *body, d *wireData, id string) (err error) {
	if id == "" {
		return errors.New("an answer without the id of its question")
	}
	a := &cluster.Answer{Node: h.UID, First: h.Kind != BroadcastAck}
	m.Answer = a
	var asked cluster.Kind
	m.Request, asked = cutMark(id)
	switch h.Kind {
	case ClientCount:
		if d.clientCount == nil {
			return errors.New("a count that is missing")
		}
		a.Clients, err = number(d.clientCount, math.MaxInt32)
		return err
	case BroadcastAck, ServerSideResponse:
		a.Data, a.Attachments, err = o.values(b, joinFirst(d.packet, d.more))
		return err
	}
	if d.sockets == nil {
		return errors.New("an answer without its sockets")
	}
	sockets, err := readSockets(d.sockets)
	if err != nil {
		return err
	}
	switch {
	case asked == cluster.Count && d.count != nil:
		a.Clients, err = number(d.count, math.MaxInt32)
	case asked == cluster.Count:
		a.Clients = len(sockets)
	case d.rooms != nil:
		a.Rooms, err = readRooms(d.rooms)
	case asked == cluster.Rooms:
		a.Rooms = roomsOf(sockets)
	default:
		a.Sockets = sockets
	}
	return err
}

// joinFirst is the inverse of splitFirst.
func joinFirst(first, more []byte) []byte {
	if first == nil {
		return []byte("[]")
	}
	out := append(append(make([]byte, 0, len(first)+len(more)+2), '['), first...)
	if len(more) > 2 && more[0] == '[' {
		if rest := scan.Trim(more[1 : len(more)-1]); len(rest) > 0 {
			out = append(append(out, ','), rest...)
		}
	}
	return append(out, ']')
}

var errSockets = errors.New("sockets are an array of objects with ids")

func readSockets(raw []byte) ([]cluster.SocketInfo, error) {
	if raw[0] != '[' {
		return nil, errSockets
	}
	sockets := []cluster.SocketInfo{}
	inner := raw[1 : len(raw)-1]
	for i := 0; ; {
		v, next, ok := scan.Element(inner, i)
		if !ok {
			return sockets, nil
		}
		i = next
		var s cluster.SocketInfo
		err := fields(v, func(key, v []byte) (err error) {
			switch string(key) {
			case "id":
				s.ID, err = text(v)
			case "handshake":
				s.Handshake = v
			case "rooms":
				s.Rooms, err = readRooms(v)
			case "data":
				s.Data = v
			}
			return err
		})
		if err == nil && s.ID == "" {
			err = errSockets
		}
		if err != nil {
			return nil, err
		}
		sockets = append(sockets, s)
	}
}

// roomsOf returns the rooms that sockets are in, each once.
func roomsOf(sockets []cluster.SocketInfo) []string {
	rooms := []string{}
	seen := make(map[string]bool)
	for i := range sockets {
		for _, r := range sockets[i].Rooms {
			if !seen[r] {
				seen[r] = true
				rooms = append(rooms, r)
			}
		}
	}
	return rooms
}
