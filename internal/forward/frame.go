package forward

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The kinds of frames. Who asks sends them on ids of its choice; who answers uses the ids that it was asked on.
const (
	kindHead   = 1 + iota // a request, or the beginning of an answer; with what there is of its body
	kindBody              // more of a body, or of what comes behind a change of protocol
	kindAbort             // asked: the client went; answered: the handler broke off
	kindCredit            // so many more bytes of bodies may come
	kindAsk               // a question of Peers.Ask, or its answer
	kindPing              // and its answer
	kindLeave             // who asks is about to go: requests that wait should be answered
)

// The flags of heads and bodies.
const (
	flagEnd    = 1 << iota // nothing follows
	flagFlush              // what came so far is for the client at once
	flagRaw                // an answer: the handler took the connection, what follows are its bytes
	flagBroken             // a request: its body broke off
	flagTLS                // a request: its client's connection is encrypted
	flagHijack             // a request: its client's connection can be taken
)

const (
	frameHeader = 4 + 1 + 4         // length of what follows, kind, id
	maxHead     = 1<<20 + 64<<10    // of a request or an answer, without its body: more than net/http reads by default
	chunk       = 64 << 10          // of a body in one frame
	maxFrame    = maxHead + 2*chunk // payload of a frame
	window      = 256 << 10         // bytes of one body, in one direction, that may be unread
	maxAsk      = 512 << 10         // of a question or its answer
)

var errMalformed = errors.New("forward: a malformed frame")

// appendFrame begins a frame; endFrame ends it.
func appendFrame(b []byte, kind byte, id uint32) []byte {
	b = append(b, 0, 0, 0, 0, kind)
	return binary.BigEndian.AppendUint32(b, id)
}

// endFrame sets the length of the frame that began at start.
func endFrame(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

func appendCredit(b []byte, id uint32, n int) []byte {
	start := len(b)
	b = appendFrame(b, kindCredit, id)
	return endFrame(binary.BigEndian.AppendUint32(b, uint32(n)), start)
}

func appendEmpty(b []byte, kind byte, id uint32) []byte {
	return endFrame(appendFrame(b, kind, id), len(b))
}

// appendBody writes a frame of a body.
func appendBody(b []byte, id uint32, flags byte, data []byte) []byte {
	start := len(b)
	b = append(appendFrame(b, kindBody, id), flags)
	return endFrame(append(b, data...), start)
}

// A frame is one as it came. Its payload is valid until the next is read.
type frame struct {
	kind    byte
	id      uint32
	payload []byte
}

// A parser takes frames out of a stream of bytes.
type parser struct{ rest []byte }

// feed calls handle for each frame that is complete with data, and keeps the rest. Its memory grows with what came,
// not with what a frame says to be its length.
func (p *parser) feed(data []byte, handle func(frame) error) error {
	if len(p.rest) > 0 {
		p.rest = append(p.rest, data...)
		data = p.rest
	}
	for len(data) >= 4 {
		n := int(binary.BigEndian.Uint32(data))
		if n < frameHeader-4 || n > maxFrame+frameHeader {
			return fmt.Errorf("%w: it has %d bytes", errMalformed, n)
		}
		if len(data) < 4+n {
			break
		}
		f := frame{kind: data[4], id: binary.BigEndian.Uint32(data[5:]), payload: data[frameHeader : 4+n : 4+n]}
		data = data[4+n:]
		if err := handle(f); err != nil {
			return err
		}
	}
	switch {
	case len(data) == 0 && cap(p.rest) > 2*chunk:
		p.rest = nil
	default:
		p.rest = append(p.rest[:0], data...) // both may lie in the same memory: the rest moves to the front
	}
	return nil
}

// A reader takes fields off b. After the first error all fields are zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.err, r.b = errMalformed, nil
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

func (r *reader) byte() byte {
	if s := r.take(1); s != nil {
		return s[0]
	}
	return 0
}

func (r *reader) uint16() int {
	if s := r.take(2); s != nil {
		return int(binary.BigEndian.Uint16(s))
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if s := r.take(8); s != nil {
		return binary.BigEndian.Uint64(s)
	}
	return 0
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err, r.b = errMalformed, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.err, r.b = errMalformed, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) string() string { return string(r.take(r.uint())) }

func appendString[S string | []byte](b []byte, s S) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// cutString takes a string that appendString wrote off s.
func cutString(s string) (one, rest string, ok bool) {
	var n, shift uint64
	for i := 0; i < len(s); i++ {
		c := s[i]
		if shift > 28 {
			return "", "", false
		}
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if n > math.MaxInt32 || int(n) > len(s)-i-1 {
				return "", "", false
			}
			return s[i+1 : i+1+int(n)], s[i+1+int(n):], true
		}
		shift += 7
	}
	return "", "", false
}
