// Package protocol holds the packets of the Socket.IO protocol, version 5, and
// their encoding in text and binary messages of the Engine.IO layer.
//
// See https://socket.io/docs/v4/socket-io-protocol/
package protocol

import (
	"strconv"

	"github.com/atollhq/atoll/internal/jsonx/scan"
)

// Version is the version of the protocol.
const Version = 5

// MaxID is the greatest id of a packet: JavaScript counts exactly up to here.
const MaxID = 1<<53 - 1

// A Type is the type of a packet.
//
// See https://socket.io/docs/v4/socket-io-protocol/#exchange-protocol
type Type byte

// The types of packets. BinaryEvent and BinaryAck exist on the wire only: a packet
// is an Event or an Ack, and its attachments say the rest.
const (
	Connect      Type = iota // a client wants to enter a namespace; the server's consent
	Disconnect               // either side leaves the namespace
	Event                    // something happened
	Ack                      // the answer to an event that had an id
	ConnectError             // the server does not let the client in
	BinaryEvent              // an event with attachments
	BinaryAck                // an answer with attachments
)

var names = [...]string{"CONNECT", "DISCONNECT", "EVENT", "ACK", "CONNECT_ERROR", "BINARY_EVENT", "BINARY_ACK"}

// String returns the name that the protocol has for the type.
func (t Type) String() string {
	if int(t) < len(names) {
		return names[t]
	}
	return "type " + strconv.Itoa(int(t))
}

// NoID is the ID of a packet that has none.
const NoID = -1

// A Packet is one Socket.IO packet.
type Packet struct {
	Type      Type
	Namespace string // "/" is the default one, and so is ""
	ID        int64  // of an event that wants an ack, or of the ack; NoID, or 0 to MaxID

	// Data is JSON: an object or nothing for Connect; nothing for Disconnect; a
	// string or an object for ConnectError; an array for Event (the name first)
	// and Ack. Where a value is binary, it holds the placeholder
	// {"_placeholder":true,"num":N} for Attachments[N].
	Data        []byte
	Attachments [][]byte

	name, args []byte // of an event that a Decoder made; name is nil otherwise
	count      int
}

// Append appends the text of p to dst: all but the attachments, which the caller
// sends right behind it, each as one binary message, with nothing in between.
// An Event or Ack with attachments becomes a BinaryEvent or BinaryAck.
//
// See https://socket.io/docs/v4/socket-io-protocol/#packet-encoding
func (p *Packet) Append(dst []byte) []byte {
	return append(p.AppendHeader(dst), p.Data...)
}

// AppendHeader appends what stands before the data in the text of p.
func (p *Packet) AppendHeader(dst []byte) []byte {
	t := p.Type
	if len(p.Attachments) > 0 {
		switch t {
		case Event:
			t = BinaryEvent
		case Ack:
			t = BinaryAck
		}
	}
	dst = append(dst, '0'+byte(t))
	if t == BinaryEvent || t == BinaryAck {
		dst = strconv.AppendInt(dst, int64(len(p.Attachments)), 10)
		dst = append(dst, '-')
	}
	if p.Namespace != "/" && p.Namespace != "" {
		dst = append(dst, p.Namespace...)
		dst = append(dst, ',')
	}
	if p.ID >= 0 {
		dst = strconv.AppendInt(dst, p.ID, 10)
	}
	return dst
}

// Event returns the name of the event, its arguments with commas between and
// without the brackets around, and how many they are. name and args are parts of
// p.Data where that is possible. For a packet from a Decoder it costs nothing.
// The error is a *Error.
func (p *Packet) Event() (name, args []byte, n int, err error) {
	if p.name != nil {
		return p.name, p.args, p.count, nil
	}
	return SplitEvent(p.Data)
}

// Reserved reports whether an event must not have this name, because the official
// servers and clients mean something else by it: connect, connect_error, disconnect,
// disconnecting, newListener and removeListener. Their decoders, and ours, refuse such events.
func Reserved(name string) bool {
	switch name {
	case "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener":
		return true
	}
	return false
}

// SplitEvent takes the JSON array of an event apart: its name, its arguments with
// commas between and without the brackets around, and how many they are. data is
// checked whole; name and args are parts of it, only a name that is written with
// escapes is a fresh slice. A name that is a number is given as JavaScript would
// write it. m[string(name)] looks it up in a map without an allocation.
// Names are not checked for being Reserved. The error is a *Error.
func SplitEvent(data []byte) (name, args []byte, n int, err error) {
	var s split
	if err := s.read(data); err != nil {
		return nil, nil, 0, wrap(err, 0)
	}
	if name = s.name(data); name == nil {
		return nil, nil, 0, &Error{Reason: "the name of an event is neither a string nor a number"}
	}
	args, n = s.args(data)
	return name, args, n, nil
}

// A split says where the parts of a JSON array are: offsets, so that it holds for a copy too.
type split struct {
	nameStart, nameEnd int // the first element
	argsStart, argsEnd int // all behind the first comma
	count              int // of the elements
	end                int // behind the closing bracket
}

// read checks the array at the start of data, and that nothing is behind it.
func (s *split) read(data []byte) error {
	i := scan.Space(data, 0)
	if i >= len(data) || data[i] != '[' {
		return &scan.Error{Offset: i, Reason: "an array should stand here"}
	}
	i = scan.Space(data, i+1)
	if i < len(data) && data[i] == ']' {
		s.nameStart, s.nameEnd, s.argsStart, s.argsEnd = i, i, i, i
	} else {
		for {
			start := scan.Space(data, i)
			end, err := scan.Value(data, start)
			if err != nil {
				return err
			}
			i = scan.Space(data, end)
			if s.count == 0 {
				s.nameStart, s.nameEnd = start, end
				s.argsStart = i
			}
			s.count++
			if i < len(data) && data[i] == ',' {
				i++
				if s.count == 1 {
					s.argsStart = i
				}
				continue
			}
			if i < len(data) && data[i] == ']' {
				s.argsEnd = i
				break
			}
			return &scan.Error{Offset: i, Reason: "a comma or the end of the array should stand here"}
		}
	}
	s.end = i + 1
	if i = scan.Space(data, s.end); i < len(data) {
		return &scan.Error{Offset: i, Reason: "something stands behind the array"}
	}
	return nil
}

// name returns the first element as the name of an event, or nil where it cannot be one.
func (s *split) name(data []byte) []byte {
	raw := data[s.nameStart:s.nameEnd:s.nameEnd]
	if len(raw) == 0 {
		return nil
	}
	switch c := raw[0]; {
	case c == '"':
		return scan.Unquote(raw)
	case c == '-' || c-'0' <= 9:
		return number(raw)
	}
	return nil
}

// args returns the elements behind the first.
func (s *split) args(data []byte) ([]byte, int) {
	return data[s.argsStart:s.argsEnd:s.argsEnd], max(s.count-1, 0)
}

// number writes a JSON number as JavaScript does when it is the key of an object.
func number(raw []byte) []byte {
	if len(raw) <= 15 && raw[0] != '-' {
		plain := true
		for _, c := range raw {
			plain = plain && c-'0' <= 9
		}
		if plain {
			return raw
		}
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	switch {
	case err != nil && f > 0:
		return []byte("Infinity")
	case err != nil && f < 0:
		return []byte("-Infinity")
	case f == 0:
		return []byte("0")
	}
	abs := max(f, -f)
	if abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(nil, f, 'f', -1, 64)
	}
	out := strconv.AppendFloat(nil, f, 'e', -1, 64)
	if n := len(out); n >= 2 && out[n-2] == '0' && (out[n-3] == '-' || out[n-3] == '+') {
		out[n-2] = out[n-1] // 1e-07 is 1e-7 there
		out = out[:n-1]
	}
	return out
}
