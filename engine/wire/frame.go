package wire

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// An Op is the opcode of a WebSocket frame.
//
// See https://www.rfc-editor.org/rfc/rfc6455#section-5.2
type Op byte

// The opcodes.
const (
	OpContinuation Op = 0x0
	OpText         Op = 0x1
	OpBinary       Op = 0x2
	OpClose        Op = 0x8
	OpPing         Op = 0x9
	OpPong         Op = 0xa
)

// Codes of close frames.
//
// See https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1
const (
	CloseNormal   = 1000
	CloseAway     = 1001
	CloseProtocol = 1002
	CloseNoStatus = 1005 // stands for a close frame without a code; is never sent
	CloseInvalid  = 1007 // text that is not UTF-8
	ClosePolicy   = 1008
	CloseTooBig   = 1009
)

const (
	finBit  = 0x80
	rsvBits = 0x70
	maskBit = 0x80

	maxHeader  = 14
	maxControl = 125

	// maxFragments is how many frames one message may have.
	maxFragments = 1 << 16
)

// AppendFrame appends the packet as one unmasked WebSocket frame.
func AppendFrame(dst []byte, p *Packet) []byte {
	if p.frame != nil {
		return append(dst, p.frame...)
	}
	if p.Binary {
		return append(appendHeader(dst, OpBinary, len(p.Data)), p.Data...)
	}
	dst = append(appendHeader(dst, OpText, 1+len(p.Data)), byte(p.Type))
	return append(dst, p.Data...)
}

// AppendFrameHeader appends what stands before p.Data in the packet's unmasked
// WebSocket frame: the header and, unless the packet is binary, its type.
func AppendFrameHeader(dst []byte, p *Packet) []byte {
	if p.Binary {
		return appendHeader(dst, OpBinary, len(p.Data))
	}
	return append(appendHeader(dst, OpText, 1+len(p.Data)), byte(p.Type))
}

// AppendControl appends an unmasked control frame. data longer than 125 bytes is cut.
func AppendControl(dst []byte, op Op, data []byte) []byte {
	data = data[:min(len(data), maxControl)]
	return append(appendHeader(dst, op, len(data)), data...)
}

// AppendClose appends an unmasked close frame. Code 0 or CloseNoStatus makes one without a code.
func AppendClose(dst []byte, code int, reason string) []byte {
	if code == 0 || code == CloseNoStatus {
		return appendHeader(dst, OpClose, 0)
	}
	for len(reason) > maxControl-2 || !utf8.ValidString(reason) {
		reason = reason[:min(len(reason)-1, maxControl-2)]
	}
	dst = appendHeader(dst, OpClose, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	return append(dst, reason...)
}

func appendHeader(dst []byte, op Op, n int) []byte {
	switch {
	case n < 126:
		return append(dst, finBit|byte(op), byte(n))
	case n <= 0xffff:
		return append(dst, finBit|byte(op), 126, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, finBit|byte(op), 127), uint64(n))
}

// CloseCode reads the payload of a close frame. It reports an error where RFC 6455
// forbids the payload.
//
// See https://www.rfc-editor.org/rfc/rfc6455#section-7.4
func CloseCode(payload []byte) (int, error) {
	if len(payload) == 0 {
		return CloseNoStatus, nil
	}
	if len(payload) == 1 {
		return 0, &FrameError{Code: CloseProtocol, Text: "close frame with a payload of one byte"}
	}
	code := int(binary.BigEndian.Uint16(payload))
	switch {
	case code >= 3000 && code < 5000, code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006:
	default:
		return 0, &FrameError{Code: CloseProtocol, Text: fmt.Sprintf("close code %d is not allowed", code)}
	}
	if !utf8.Valid(payload[2:]) {
		return 0, &FrameError{Code: CloseInvalid, Text: "close reason is not UTF-8"}
	}
	return code, nil
}

// A FrameError says how a stream broke RFC 6455, or a limit.
type FrameError struct {
	Code int    // the close code for it: CloseProtocol, CloseInvalid or CloseTooBig
	Text string // what is wrong
	Got  int    // with CloseTooBig: the size in bytes; with too many fragments: their number
}

func (e *FrameError) Error() string { return "websocket: " + e.Text }

// ErrFragments tells a FrameError for too many fragments from others.
var errFragments = &FrameError{Code: ClosePolicy, Text: "too many fragments", Got: maxFragments + 1}

// A Frame is a whole message, joined from its fragments, or a control frame.
type Frame struct {
	Op   Op     // OpText, OpBinary, OpClose, OpPing or OpPong
	Data []byte // without mask; valid until the next call on the Frames
}

// Frames takes the byte stream of one direction of a WebSocket apart. Its zero value
// reads what a client sends; it holds memory only while a message is incomplete, and then at
// most twice what has arrived of it. It is not safe for use by several goroutines at once.
type Frames struct {
	// Max is how many bytes a message may have. If zero, there is no limit.
	Max int
	// Unmasked says that the frames come from a server: they must not be masked.
	Unmasked bool

	part  [maxHeader]byte // the beginning of a header
	nPart uint8

	inside bool    // within the payload of a frame
	head   byte    // its first byte
	mask   [4]byte // its mask
	pos    uint8   // position in mask
	need   int     // bytes of its payload that are missing

	op    Op     // of the message that is being joined; OpContinuation: none
	count int    // its fragments
	msg   []byte // its bytes so far
	ctl   []byte // a control frame's bytes so far
}

// Next takes the next message or control frame off b, which it unmasks in place, and
// returns what stands behind it. ok is false where b ends before one is complete: b is
// used up then, and the next call goes on with the bytes that follow. An error ends the stream.
func (f *Frames) Next(b []byte) (fr Frame, rest []byte, ok bool, err error) {
	for {
		if f.inside {
			fr, b, ok, err = f.more(b)
			if ok || err != nil || f.inside {
				return fr, b, ok, err
			}
		}
		if len(b) == 0 {
			return Frame{}, nil, false, nil
		}
		if f.nPart > 0 {
			if b, ok, err = f.rejoin(b); err != nil || !ok {
				return Frame{}, nil, false, err
			}
			continue
		}
		n, err := f.header(b)
		if err != nil {
			return Frame{}, nil, false, err
		}
		if n == 0 {
			f.nPart = uint8(copy(f.part[:], b))
			return Frame{}, nil, false, nil
		}
		b = b[n:]
		// The common case: the whole frame lies in b, and is a whole message.
		if op := Op(f.head & 0x0f); len(b) >= f.need && (op >= OpClose || f.head&finBit != 0 && op != OpContinuation) {
			data := b[:f.need:f.need]
			f.unmask(data)
			rest = b[f.need:]
			f.inside, f.need = false, 0
			if op < OpClose {
				f.op, f.count = OpContinuation, 0
			}
			if op == OpText && !utf8.Valid(data) {
				return Frame{}, nil, false, errUTF8
			}
			return Frame{Op: op, Data: data}, rest, true, nil
		}
	}
}

var errUTF8 = &FrameError{Code: CloseInvalid, Text: "text is not UTF-8"}

// rejoin completes the header whose beginning is in f.part.
func (f *Frames) rejoin(b []byte) (rest []byte, ok bool, err error) {
	had := int(f.nPart)
	both := had + copy(f.part[had:], b)
	n, err := f.header(f.part[:both])
	if err != nil {
		return nil, false, err
	}
	if n == 0 { // all of b fitted, since no header is longer than part
		f.nPart = uint8(both)
		return nil, false, nil
	}
	f.nPart = 0
	return b[n-had:], true, nil
}

// header reads the header at the beginning of b and returns its length; 0 means that it is incomplete.
func (f *Frames) header(b []byte) (int, error) {
	if len(b) < 2 {
		return 0, nil
	}
	op, fin := Op(b[0]&0x0f), b[0]&finBit != 0
	masked := b[1]&maskBit != 0
	size := uint64(b[1] &^ maskBit)
	n := 2
	if masked {
		n += 4
	}

	// What can be refused from two bytes is refused from two bytes.
	switch {
	case b[0]&rsvBits != 0:
		return 0, &FrameError{Code: CloseProtocol, Text: "reserved bits are set"}
	case masked == f.Unmasked:
		if masked {
			return 0, &FrameError{Code: CloseProtocol, Text: "frame of a server is masked"}
		}
		return 0, &FrameError{Code: CloseProtocol, Text: "frame of a client is not masked"}
	case op > OpPong || op > OpBinary && op < OpClose:
		return 0, &FrameError{Code: CloseProtocol, Text: fmt.Sprintf("unknown opcode %#x", byte(op))}
	case op >= OpClose && !fin:
		return 0, &FrameError{Code: CloseProtocol, Text: "control frame is fragmented"}
	case op >= OpClose && size > maxControl:
		return 0, &FrameError{Code: CloseProtocol, Text: "control frame is longer than 125 bytes"}
	case op == OpContinuation && f.op == OpContinuation:
		return 0, &FrameError{Code: CloseProtocol, Text: "continuation of nothing"}
	case (op == OpText || op == OpBinary) && f.op != OpContinuation:
		return 0, &FrameError{Code: CloseProtocol, Text: "new message inside a fragmented one"}
	}

	switch size {
	case 126:
		n += 2
		if len(b) < n {
			return 0, nil
		}
		size = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		n += 8
		if len(b) < n {
			return 0, nil
		}
		size = binary.BigEndian.Uint64(b[2:])
		if size>>63 != 0 {
			return 0, &FrameError{Code: CloseProtocol, Text: "length has its highest bit set"}
		}
	default:
		if len(b) < n {
			return 0, nil
		}
	}
	if op < OpClose {
		if err := f.room(size); err != nil {
			return 0, err
		}
		if f.count++; f.count > maxFragments {
			return 0, errFragments
		}
		if op != OpContinuation {
			f.op = op
		}
	}
	if masked {
		f.mask = [4]byte(b[n-4:])
	}
	f.inside, f.head, f.need, f.pos = true, b[0], int(size), 0
	return n, nil
}

// room checks that a frame of size bytes may join the message.
func (f *Frames) room(size uint64) error {
	limit := uint64(f.Max)
	if limit == 0 {
		limit = 1<<31 - 1
	}
	if total := size + uint64(len(f.msg)); total > limit {
		got := int(min(total, 1<<62))
		return &FrameError{Code: CloseTooBig, Text: fmt.Sprintf("message of %d bytes, %d are allowed", total, limit), Got: got}
	}
	return nil
}

// more takes payload off b; the frame lies in several reads, or its message in several frames.
func (f *Frames) more(b []byte) (fr Frame, rest []byte, ok bool, err error) {
	k := min(f.need, len(b))
	op := Op(f.head & 0x0f)
	into := &f.msg
	if op >= OpClose {
		into = &f.ctl
	}
	f.grow(into, k)
	old := len(*into)
	*into = append(*into, b[:k]...)
	f.unmask((*into)[old:])
	f.need -= k
	return f.finish(b[k:])
}

// finish ends the frame if nothing of it is missing, and the message if that was its last.
func (f *Frames) finish(b []byte) (fr Frame, rest []byte, ok bool, err error) {
	if f.need > 0 {
		return Frame{}, nil, false, nil
	}
	f.inside = false
	op := Op(f.head & 0x0f)
	if op >= OpClose {
		fr = Frame{Op: op, Data: f.ctl}
		f.ctl = nil
		return fr, b, true, nil
	}
	if f.head&finBit == 0 {
		return Frame{}, b, false, nil
	}
	fr = Frame{Op: f.op, Data: f.msg}
	f.op, f.count, f.msg = OpContinuation, 0, nil
	if fr.Op == OpText && !utf8.Valid(fr.Data) {
		return Frame{}, nil, false, errUTF8
	}
	return fr, b, true, nil
}

// grow makes room for k more bytes: at first little, then twice as much, never more
// than the message is declared to have.
func (f *Frames) grow(into *[]byte, k int) {
	old := *into
	if cap(old)-len(old) >= k {
		return
	}
	size := min(max(2*cap(old), len(old)+k, 512), max(len(old)+f.need, len(old)+k))
	*into = append(make([]byte, 0, size), old...)
}

// Space returns where the next bytes of the stream can be read to directly, without
// a copy, while a large payload is incomplete; nil otherwise. Tell Filled how many were read, then call Next(nil).
func (f *Frames) Space() []byte {
	const worth, least = 4096, 1024 // of payload that is missing, and of free space
	if !f.inside || f.need < worth || Op(f.head&0x0f) >= OpClose {
		return nil
	}
	f.grow(&f.msg, least)
	free := f.msg[len(f.msg):cap(f.msg)]
	return free[:min(len(free), f.need)]
}

// Filled says that the first n bytes of Space were read from the stream.
func (f *Frames) Filled(n int) {
	old := len(f.msg)
	f.msg = f.msg[:old+n]
	f.unmask(f.msg[old:])
	f.need -= n
}

// Idle reports whether the stream stands between two messages.
func (f *Frames) Idle() bool { return !f.inside && f.nPart == 0 && f.op == OpContinuation }

func (f *Frames) unmask(b []byte) {
	if f.Unmasked {
		return
	}
	ws.Cipher(b, f.mask, int(f.pos))
	f.pos = uint8((int(f.pos) + len(b)) & 3)
}
