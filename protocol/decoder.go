package protocol

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/atollhq/atoll/internal/jsonx/scan"
)

// An Error says why what was received is no packet. Its sender breaks the
// protocol or a limit, and the connection is to be closed.
type Error struct {
	Reason string
	Offset int // in bytes from the start of the text message, where that is known
}

// Error says what is wrong, and where.
func (e *Error) Error() string {
	if e.Offset == 0 {
		return "socket.io packet: " + e.Reason
	}
	return fmt.Sprintf("socket.io packet: %s (at byte %d)", e.Reason, e.Offset)
}

// wrap makes an error of this package of one that scan found in what starts at base.
func wrap(err error, base int) error {
	if s, ok := errors.AsType[*scan.Error](err); ok {
		return &Error{Reason: s.Reason, Offset: base + s.Offset}
	}
	return &Error{Reason: err.Error()}
}

// The limits of a Decoder whose fields are zero.
const (
	DefaultMaxAttachments = 10
	DefaultMaxBytes       = 1_000_000
)

// A Decoder makes packets of what one connection receives. The zero value is
// ready. It is for one goroutine at a time. After an error it starts afresh,
// but what the sender means is not known any more: close the connection.
//
// All of a packet is checked as it comes in: its shape, its JSON (strictly, for it
// may go on to others as it is), and that each placeholder names one attachment
// that exists, which no other names.
type Decoder struct {
	// MaxAttachments is how many attachments a packet may have. If zero, 10. If negative, none.
	MaxAttachments int

	// MaxBytes is how large the attachments of a packet may be together, in
	// bytes. If zero, 1,000,000. If negative, there is no limit.
	MaxBytes int

	namespace string   // the last one that was not "/"
	pending   *pending // the packet whose attachments are awaited
}

type pending struct {
	packet  Packet
	missing int
	bytes   int
}

// Waiting reports whether a packet is incomplete: the next message must be binary.
func (d *Decoder) Waiting() bool { return d.pending != nil }

// Reset forgets a packet that is incomplete.
func (d *Decoder) Reset() { d.pending = nil }

// Text takes a text message. ok reports whether p is a packet; otherwise its
// attachments are awaited, as Binary. data is the caller's again when Text
// returns; p owns its bytes. The error is a *Error.
func (d *Decoder) Text(data []byte) (p Packet, ok bool, err error) {
	if d.pending != nil {
		d.pending = nil
		return Packet{}, false, &Error{Reason: "text where an attachment should be"}
	}
	attachments, err := d.decode(data, &p)
	if err != nil {
		return Packet{}, false, err
	}
	if attachments > 0 {
		d.pending = &pending{packet: p, missing: attachments}
		return Packet{}, false, nil
	}
	return p, true, nil
}

// Binary takes a binary message: the next attachment of the packet that Text
// began. It returns the packet with the last one. data is the caller's again when
// Binary returns. The error is a *Error.
func (d *Decoder) Binary(data []byte) (p Packet, ok bool, err error) {
	w := d.pending
	if w == nil {
		return Packet{}, false, &Error{Reason: "an attachment that no packet announced"}
	}
	limit := d.MaxBytes
	if limit == 0 {
		limit = DefaultMaxBytes
	}
	if limit > 0 && len(data) > limit-w.bytes {
		d.pending = nil
		return Packet{}, false, &Error{Reason: fmt.Sprintf("the attachments are larger than %d bytes together (the limit is MaxBytes)", limit)}
	}
	w.bytes += len(data)
	w.packet.Attachments = append(w.packet.Attachments, append(make([]byte, 0, len(data)), data...))
	if w.missing--; w.missing > 0 {
		return Packet{}, false, nil
	}
	d.pending = nil
	return w.packet, true, nil
}

// decode reads the text of a packet into p and returns how many attachments follow.
func (d *Decoder) decode(data []byte, p *Packet) (attachments int, err error) {
	if len(data) == 0 {
		return 0, &Error{Reason: "it is empty"}
	}
	p.Type = Type(data[0] - '0')
	p.ID = NoID
	i := 1
	switch p.Type {
	case Connect, Disconnect, Event, Ack, ConnectError:
	case BinaryEvent, BinaryAck:
		p.Type -= BinaryEvent - Event
		if attachments, i, err = d.attachments(data); err != nil {
			return 0, err
		}
	default:
		return 0, &Error{Reason: fmt.Sprintf("no packet type is %q", data[0])}
	}

	p.Namespace = "/"
	if i < len(data) && data[i] == '/' {
		if i, err = d.readNamespace(data, i, p); err != nil {
			return 0, err
		}
	}

	for start := i; i < len(data) && data[i]-'0' <= 9; i++ {
		if i == start {
			p.ID = 0
		}
		p.ID = p.ID*10 + int64(data[i]-'0')
		if p.ID > MaxID {
			return 0, &Error{Reason: "the id is greater than 2^53-1", Offset: start}
		}
	}
	if p.Type == Ack && p.ID < 0 {
		return 0, &Error{Reason: "an ack has no id", Offset: i}
	}
	return attachments, payload(data, i, attachments, p)
}

// attachments reads the number of attachments, which stands between the type and a dash.
func (d *Decoder) attachments(data []byte) (n, next int, err error) {
	limit := d.MaxAttachments
	if limit == 0 {
		limit = DefaultMaxAttachments
	}
	limit = max(limit, 0)
	i := 1
	for ; i < len(data) && data[i]-'0' <= 9; i++ {
		if n = n*10 + int(data[i]-'0'); n > limit {
			return 0, 0, &Error{Reason: fmt.Sprintf("more than %d attachments (the limit is MaxAttachments)", limit), Offset: 1}
		}
	}
	if i == 1 || i >= len(data) || data[i] != '-' {
		return 0, 0, &Error{Reason: "the number of attachments and a dash should stand here", Offset: i}
	}
	return n, i + 1, nil
}

// readNamespace reads the namespace that starts at data[i], and the comma behind it.
func (d *Decoder) readNamespace(data []byte, i int, p *Packet) (next int, err error) {
	start := i
	for i < len(data) && data[i] != ',' {
		i++
	}
	name := data[start:i]
	if i < len(data) {
		i++ // the comma; without it, nothing follows
	}
	switch {
	case string(name) == "/":
	case string(name) == d.namespace:
		p.Namespace = d.namespace
	case !utf8.Valid(name):
		return 0, &Error{Reason: "the namespace is not UTF-8", Offset: start}
	default:
		d.namespace = string(name)
		p.Namespace = d.namespace
	}
	return i, nil
}

// payload checks and copies the JSON from data[i] on.
//
// What each type must have: see https://socket.io/docs/v4/socket-io-protocol/#exchange-protocol
func payload(data []byte, i, attachments int, p *Packet) error {
	i = scan.Space(data, i)
	raw := data[i:]
	switch p.Type {
	case Connect:
		if len(raw) == 0 {
			return nil
		}
		if raw[0] != '{' {
			return &Error{Reason: "the payload of a CONNECT is not an object", Offset: i}
		}
		return p.value(raw, i)
	case ConnectError:
		if len(raw) == 0 || raw[0] != '{' && raw[0] != '"' {
			return &Error{Reason: "the payload of a CONNECT_ERROR is neither an object nor a string", Offset: i}
		}
		return p.value(raw, i)
	case Disconnect:
		if len(raw) > 0 {
			return &Error{Reason: "a DISCONNECT has a payload", Offset: i}
		}
		return nil
	}

	var s split
	if err := s.read(raw); err != nil {
		return wrap(err, i)
	}
	if attachments > 0 {
		if err := scan.Placeholders(raw, 0, attachments); err != nil {
			return wrap(err, i)
		}
	}
	p.Data = append(make([]byte, 0, s.end), raw[:s.end]...)
	if p.Type == Event {
		p.name = s.name(p.Data)
		if p.name == nil {
			return &Error{Reason: "the name of an event is neither a string nor a number", Offset: i}
		}
		if Reserved(string(p.name)) {
			return &Error{Reason: "an event has a reserved name: " + string(p.name), Offset: i}
		}
		p.args, p.count = s.args(p.Data)
	}
	return nil
}

// value checks and copies a payload of one value, which starts at base in the message.
func (p *Packet) value(raw []byte, base int) error {
	end, err := scan.Value(raw, 0)
	if err != nil {
		return wrap(err, base)
	}
	if i := scan.Space(raw, end); i < len(raw) {
		return &Error{Reason: "something stands behind the payload", Offset: base + i}
	}
	p.Data = append(make([]byte, 0, end), raw[:end]...)
	return nil
}
