// Package wire holds what an Engine.IO session sends and receives: packets, and
// their two encodings, the payload of long-polling and the WebSocket frame.
package wire

// A Type is the type of a packet.
//
// See https://socket.io/docs/v4/engine-io-protocol/#packet-types
type Type byte

// The types, with the digit that stands for them on the wire.
const (
	Open    Type = '0'
	Close   Type = '1'
	Ping    Type = '2'
	Pong    Type = '3'
	Message Type = '4'
	Upgrade Type = '5'
	Noop    Type = '6'
)

// Headroom is how many bytes stand free before the data of a packet that is made
// with Seal: the longest header of an unmasked WebSocket frame (10) and the packet type (1).
const Headroom = 11

// A Packet is one Engine.IO packet. It is a small value over immutable bytes: the
// same packet goes to any number of sessions, and none of them copies it.
type Packet struct {
	Type   Type
	Binary bool // a message whose data is bytes, not text
	Plain  bool // not worth compressing

	// Data is what stands behind the type. Nobody may change it once the packet is sent.
	Data []byte

	// frame, where set, is the whole packet as an unmasked WebSocket frame; Data is its tail.
	frame []byte
}

// Seal makes a message of buf, whose first Headroom bytes the caller left free and
// whose remaining bytes are the data. It writes the header of the WebSocket frame
// right before the data, so that the frame is encoded once for all its receivers.
// buf is the packet's from then on.
func Seal(buf []byte, binary bool) Packet {
	p := Packet{Type: Message, Binary: binary, Data: buf[Headroom:]}
	start := Headroom
	op := byte(0x82) // final frame, binary
	if !binary {
		op = 0x81 // final frame, text
		start--
		buf[start] = byte(Message)
	}
	n := len(buf) - start
	switch {
	case n < 126:
		start -= 2
		buf[start+1] = byte(n)
	case n <= 0xffff:
		start -= 4
		buf[start+1], buf[start+2], buf[start+3] = 126, byte(n>>8), byte(n)
	default:
		start -= 10
		buf[start+1] = 127
		for i := range 8 {
			buf[start+2+i] = byte(uint64(n) >> (56 - 8*i))
		}
	}
	buf[start] = op
	p.frame = buf[start:]
	return p
}

// Frame returns the packet as an unmasked WebSocket frame where Seal has made one,
// and nil otherwise. Nobody may change it.
func (p *Packet) Frame() []byte { return p.frame }

// valid reports whether t is a type that the protocol knows.
func (t Type) valid() bool { return t >= Open && t <= Noop }
