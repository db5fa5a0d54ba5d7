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
	"github.com/atollhq/atoll/internal/jsonx/scan"
	"github.com/atollhq/atoll/internal/msgpack"
)

// appendResponse writes an answer. Which question it answers is seen from what it has.
// An answer that has nothing is written so that it answers every question: an empty count,
// no sockets, no rooms, and no value.
func appendResponse(dst []byte, m *cluster.Message) ([]byte, error) {
	a := m.Answer
	id, onlyIDs := strings.CutPrefix(m.Request, idsMark)
	node := m.From
	if node == "" {
		node = a.Node
	}
	if a.Data != nil && !a.First {
		return appendAck(dst, id, node, a)
	}
	dst = append(dst, '{')
	head := func(kind byte) { dst = append(append(dst, `"type":`...), '0'+kind, ',') }
	requestID := func() { dst = msgpack.AppendQuoted(append(dst, `"requestId":`...), id) }
	switch {
	case a.Data != nil:
		head(typeServerEmit)
		requestID()
		first, more := splitFirst(a.Data)
		for _, part := range []struct {
			key  string
			data []byte
		}{{`,"data":`, first}, {`,"more":`, more}} {
			if part.data == nil {
				continue
			}
			var err error
			if dst, err = appendPlainJSON(append(dst, part.key...), part.data, a.Attachments); err != nil {
				return nil, err
			}
		}
	case a.Rooms != nil:
		requestID()
		dst = appendRoomsJSON(append(dst, `,"rooms":`...), a.Rooms, false)
	case a.Sockets != nil:
		requestID()
		dst = appendSockets(append(dst, `,"sockets":`...), a.Sockets, onlyIDs)
	default:
		head(typeClientCount)
		requestID()
		dst = append(dst, `,"clientCount":`...)
		dst = strconv.AppendInt(dst, int64(a.Clients), 10)
		if a.Clients == 0 {
			dst = append(dst, `,"sockets":[],"rooms":[]`...)
		}
	}
	if node != "" {
		dst = msgpack.AppendQuoted(append(dst, `,"node":`...), node)
	}
	return append(dst, '}'), nil
}

// appendAck writes the ack of one client.
func appendAck(dst []byte, id, node string, a *cluster.Answer) ([]byte, error) {
	first, more := splitFirst(a.Data)
	fields := uint32(2)
	for _, has := range []bool{first != nil, more != nil, node != ""} {
		if has {
			fields++
		}
	}
	dst = msgp.AppendMapHeader(dst, fields)
	dst = msgp.AppendInt(msgp.AppendString(dst, "type"), typeAck)
	dst = msgp.AppendString(msgp.AppendString(dst, "requestId"), id)
	var err error
	if first != nil {
		dst = msgp.AppendString(dst, "packet")
		if dst, err = msgpack.AppendFromJSON(dst, first, a.Attachments); err != nil {
			return nil, err
		}
	}
	if more != nil {
		dst = msgp.AppendString(dst, "more")
		if dst, err = msgpack.AppendFromJSON(dst, more, a.Attachments); err != nil {
			return nil, err
		}
	}
	if node != "" {
		dst = msgp.AppendString(msgp.AppendString(dst, "node"), node)
	}
	return dst, nil
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

func appendSockets(dst []byte, sockets []cluster.SocketInfo, onlyIDs bool) []byte {
	dst = append(dst, '[')
	for i, s := range sockets {
		if i > 0 {
			dst = append(dst, ',')
		}
		if onlyIDs {
			dst = msgpack.AppendQuoted(dst, s.ID)
			continue
		}
		dst = msgpack.AppendQuoted(append(dst, `{"id":`...), s.ID)
		dst = appendObject(append(dst, `,"handshake":`...), s.Handshake)
		dst = appendRoomsJSON(append(dst, `,"rooms":`...), s.Rooms, false)
		dst = appendObject(append(dst, `,"data":`...), s.Data)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendObject appends JSON, or an empty object where there is none.
func appendObject(dst, data []byte) []byte {
	if len(data) == 0 {
		return append(dst, "{}"...)
	}
	return append(dst, data...)
}

// A wireResponse is a response in JSON.
type wireResponse struct {
	Type      *int            `json:"type"`
	RequestID string          `json:"requestId"`
	Count     int             `json:"clientCount"`
	Sockets   *[]wireSocket   `json:"sockets"`
	Rooms     *wireRooms      `json:"rooms"`
	Data      json.RawMessage `json:"data"`
	Packet    json.RawMessage `json:"packet"`
	More      json.RawMessage `json:"more"`
	Node      string          `json:"node"`
}

type wireSocket struct {
	ID        string          `json:"id"`
	Handshake json.RawMessage `json:"handshake"`
	Rooms     wireRooms       `json:"rooms"`
	Data      json.RawMessage `json:"data"`
}

// UnmarshalJSON reads a description, or nothing but an id.
func (s *wireSocket) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		return json.Unmarshal(b, &s.ID)
	}
	type plain wireSocket
	return json.Unmarshal(b, (*plain)(s))
}

// decodeResponse reads what came on a channel of responses. Whether somebody waits for it
// is for the node to know.
func decodeResponse(node, nsp string, data []byte) (*cluster.Message, error) {
	if len(data) > 0 && data[0] != '{' {
		m, again, err := decodePackedResponse(node, nsp, data)
		if err != nil || again == nil {
			return m, err
		}
		data = again
	}
	var r wireResponse
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	if r.Node == node && node != "" {
		return nil, nil // it answers others
	}
	id, counts := strings.CutSuffix(r.RequestID, countMark)
	if id == "" {
		return nil, errors.New("an answer without the id of its question")
	}
	a := &cluster.Answer{Node: r.Node, First: true}
	m := &cluster.Message{Kind: cluster.Reply, From: r.Node, To: node, Request: id, Namespace: nsp, Answer: a}
	kind := -1
	if r.Type != nil {
		kind = *r.Type
	}
	switch {
	case kind == typeServerEmit, kind == typeAck:
		value := r.Data
		if kind == typeAck {
			a.First, value = false, r.Packet
		}
		var err error
		a.Data, a.Attachments, err = readPlainJSON(joinFirst(value, r.More))
		return m, err
	case kind == typeClientCount:
		if r.Count < 0 || r.Count > maxCount {
			return nil, fmt.Errorf("a count of %d", r.Count)
		}
		a.Clients = r.Count
	}
	if r.Rooms != nil {
		a.Rooms = *r.Rooms
	}
	if r.Sockets != nil {
		if counts {
			a.Clients = len(*r.Sockets)
			return m, nil
		}
		a.Sockets = make([]cluster.SocketInfo, 0, len(*r.Sockets))
		for _, s := range *r.Sockets {
			a.Sockets = append(a.Sockets, cluster.SocketInfo{ID: s.ID, Rooms: s.Rooms, Handshake: s.Handshake, Data: s.Data})
		}
	}
	if kind < 0 && r.Rooms == nil && r.Sockets == nil {
		return nil, nil // "done", as nodes before 8.0 say it
	}
	return m, nil
}

const maxCount = 1<<31 - 1

// joinFirst is the inverse of splitFirst.
func joinFirst(first, more []byte) []byte {
	if first == nil {
		return []byte("[]")
	}
	out := append(append(make([]byte, 0, len(first)+len(more)+3), '['), first...)
	if more = scan.Trim(more); len(more) > 2 && more[0] == '[' {
		out = append(append(out, ','), bytes.TrimPrefix(more[:len(more)-1], []byte("["))...)
	}
	return append(out, ']')
}

// decodePackedResponse reads an ack. Where it is something else, it returns it as JSON.
func decodePackedResponse(node, nsp string, data []byte) (m *cluster.Message, again []byte, err error) {
	a := &cluster.Answer{Data: append(make([]byte, 0, len(data)), '[')}
	m = &cluster.Message{Kind: cluster.Reply, To: node, Namespace: nsp, Answer: a}
	kind := -1
	var more []byte // MessagePack
	rest, err := eachField(data, func(key, b []byte) ([]byte, error) {
		var err error
		switch string(key) {
		case "type":
			kind, b, err = msgp.ReadIntBytes(b)
		case "requestId":
			m.Request, b, err = msgp.ReadStringBytes(b)
		case "node":
			m.From, b, err = msgp.ReadStringBytes(b)
		case "packet":
			if len(a.Data) > 1 {
				return nil, errors.New("two packets in one ack")
			}
			a.Data, a.Attachments, b, err = msgpack.AppendJSON(a.Data, b, a.Attachments)
		case "more":
			more = b
			b, err = msgp.Skip(b)
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
	case kind != typeAck:
		again, _, err = msgpack.AppendBufferJSON(nil, data)
		return nil, again, err
	case m.Request == "":
		return nil, nil, errors.New("an ack without the id of its question")
	case m.From == node && node != "":
		return nil, nil, nil
	}
	if more != nil {
		if len(a.Data) == 1 {
			return nil, nil, errors.New("an ack with further values and no first one")
		}
		n, b, err := msgp.ReadArrayHeaderBytes(more)
		if err != nil {
			return nil, nil, err
		}
		for range n {
			a.Data = append(a.Data, ',')
			if a.Data, a.Attachments, b, err = msgpack.AppendJSON(a.Data, b, a.Attachments); err != nil {
				return nil, nil, err
			}
		}
	}
	a.Node = m.From
	a.Data = append(a.Data, ']')
	return m, nil, nil
}
