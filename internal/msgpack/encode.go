package msgpack

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/tinylib/msgp/msgp"
)

// AppendFromJSON appends the JSON value data to dst as MessagePack. Placeholders
// {"_placeholder":true,"num":N} become attachments[N]; each attachment may be used
// any number of times. Nothing but white space may stand behind the value.
func AppendFromJSON(dst, data []byte, attachments [][]byte) ([]byte, error) {
	e := encoder{src: data, attachments: attachments}
	return e.document(dst)
}

// AppendFromBufferJSON is like AppendFromJSON for JSON in which bytes are written as
// Node.js's JSON.stringify writes a Buffer: {"type":"Buffer","data":[1,2,3]}.
func AppendFromBufferJSON(dst, data []byte) ([]byte, error) {
	e := encoder{src: data, buffers: true}
	return e.document(dst)
}

// An encoder reads JSON and writes MessagePack.
type encoder struct {
	src         []byte
	i           int
	depth       int
	attachments [][]byte
	buffers     bool // {"type":"Buffer","data":[…]} stands for bytes, placeholders for themselves
	scratch     []byte
}

func (e *encoder) document(dst []byte) ([]byte, error) {
	dst, err := e.value(dst)
	if err != nil {
		return dst, err
	}
	if e.space(); e.i < len(e.src) {
		return dst, malformed("JSON goes on behind the value, at byte %d", e.i)
	}
	return dst, nil
}

func (e *encoder) space() {
	for e.i < len(e.src) {
		switch e.src[e.i] {
		case ' ', '\t', '\r', '\n':
			e.i++
		default:
			return
		}
	}
}

// next skips white space and returns the byte there, 0 at the end.
func (e *encoder) next() byte {
	e.space()
	if e.i < len(e.src) {
		return e.src[e.i]
	}
	return 0
}

func (e *encoder) bad(what string) error {
	return malformed("JSON: %s at byte %d", what, e.i)
}

func (e *encoder) value(dst []byte) ([]byte, error) {
	switch c := e.next(); c {
	case '{':
		return e.nested(dst, e.object)
	case '[':
		return e.nested(dst, e.array)
	case '"':
		s, err := e.str()
		if err != nil {
			return dst, err
		}
		return appendString(dst, s), nil
	case 't':
		return e.literal(dst, "true", 0xc3)
	case 'f':
		return e.literal(dst, "false", 0xc2)
	case 'n':
		return e.literal(dst, "null", 0xc0)
	case 0:
		return dst, e.bad("a value is missing")
	default:
		return e.number(dst)
	}
}

func (e *encoder) nested(dst []byte, f func([]byte) ([]byte, error)) ([]byte, error) {
	if e.depth++; e.depth > MaxDepth {
		return dst, e.bad("nested too deep")
	}
	dst, err := f(dst)
	e.depth--
	return dst, err
}

func (e *encoder) literal(dst []byte, word string, code byte) ([]byte, error) {
	if len(e.src)-e.i < len(word) || string(e.src[e.i:e.i+len(word)]) != word {
		return dst, e.bad("neither true, false nor null")
	}
	e.i += len(word)
	return append(dst, code), nil
}

func (e *encoder) array(dst []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, 0)
	n := 0
	e.i++
	if e.next() == ']' {
		e.i++
		return sized(dst, start, n, 0x90, 0xdc), nil
	}
	for {
		var err error
		if dst, err = e.value(dst); err != nil {
			return dst, err
		}
		n++
		switch e.next() {
		case ',':
			e.i++
		case ']':
			e.i++
			return sized(dst, start, n, 0x90, 0xdc), nil
		default:
			return dst, e.bad("neither , nor ] in an array")
		}
	}
}

func (e *encoder) object(dst []byte) ([]byte, error) {
	start := len(dst)
	open := e.i
	dst = append(dst, 0)
	n := 0
	claims := false // a member says that this object stands for bytes
	e.i++
	if e.next() == '}' {
		e.i++
		return sized(dst, start, n, 0x80, 0xde), nil
	}
	for {
		if e.next() != '"' {
			return dst, e.bad("no name in an object")
		}
		name, err := e.str()
		if err != nil {
			return dst, err
		}
		if e.next() != ':' {
			return dst, e.bad("no : behind a name")
		}
		e.i++
		marker := !e.buffers && string(name) == "_placeholder"
		typed := e.buffers && string(name) == "type"
		dst = appendString(dst, name)
		at := len(dst)
		if dst, err = e.value(dst); err != nil {
			return dst, err
		}
		n++
		claims = claims || marker && dst[at] == 0xc3 ||
			typed && string(dst[at:]) == "\xa6Buffer"
		switch e.next() {
		case ',':
			e.i++
		case '}':
			e.i++
			if claims {
				return e.bytes(sized(dst, start, n, 0x80, 0xde), start, open)
			}
			return sized(dst, start, n, 0x80, 0xde), nil
		default:
			return dst, e.bad("neither , nor } in an object")
		}
	}
}

// bytes replaces the map at dst[start:], which says that it stands for bytes, by them.
func (e *encoder) bytes(dst []byte, start, open int) ([]byte, error) {
	if e.buffers {
		if data, ok := bufferOf(dst[start:]); ok {
			return msgp.AppendBytes(dst[:start], data), nil
		}
		return dst, nil // it only looked like a Buffer
	}
	num, ok := placeholderOf(dst[start:])
	if !ok || num >= uint64(len(e.attachments)) {
		return dst, malformed("JSON: a placeholder without its attachment at byte %d", open)
	}
	return msgp.AppendBytes(dst[:start], e.attachments[num]), nil
}

// placeholderOf reads the map {"_placeholder":true,"num":N}.
func placeholderOf(b []byte) (num uint64, ok bool) {
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil || n != 2 {
		return 0, false
	}
	for range n {
		var key []byte
		if key, b, err = msgp.ReadStringZC(b); err != nil {
			return 0, false
		}
		switch string(key) {
		case "num":
			num, b, err = msgp.ReadUint64Bytes(b)
			ok = true
		case "_placeholder":
			_, b, err = msgp.ReadBoolBytes(b)
		default:
			return 0, false
		}
		if err != nil {
			return 0, false
		}
	}
	return num, ok
}

// bufferOf reads the map {"type":"Buffer","data":[…]}.
func bufferOf(b []byte) (data []byte, ok bool) {
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil || n != 2 {
		return nil, false
	}
	for range n {
		var key []byte
		if key, b, err = msgp.ReadStringZC(b); err != nil {
			return nil, false
		}
		if string(key) == "type" {
			if _, b, err = msgp.ReadStringZC(b); err != nil {
				return nil, false
			}
			continue
		}
		var size uint32
		if size, b, err = msgp.ReadArrayHeaderBytes(b); err != nil || string(key) != "data" {
			return nil, false
		}
		data = make([]byte, 0, min(int(size), len(b)))
		for range size {
			var v uint64
			if v, b, err = msgp.ReadUint64Bytes(b); err != nil || v > 0xff {
				return nil, false
			}
			data = append(data, byte(v))
		}
		ok = true
	}
	return data, ok
}

// sized writes the header of the array or map of n elements at dst[start], where one
// byte is free: the short form, or the one of 16 or 32 bits.
func sized(dst []byte, start, n int, short, long byte) []byte {
	if n < 16 {
		dst[start] = short | byte(n)
		return dst
	}
	extra := 2
	if n > math.MaxUint16 {
		extra = 4
	}
	dst = append(dst, 0, 0, 0, 0)[:len(dst)+extra]
	copy(dst[start+1+extra:], dst[start+1:])
	if extra == 2 {
		dst[start] = long
		binary.BigEndian.PutUint16(dst[start+1:], uint16(n))
	} else {
		dst[start] = long + 1
		binary.BigEndian.PutUint32(dst[start+1:], uint32(n))
	}
	return dst
}

func appendString(dst, s []byte) []byte {
	return append(appendStringHeader(dst, len(s)), s...)
}

func appendStringHeader(dst []byte, n int) []byte {
	switch {
	case n < 32:
		return append(dst, 0xa0|byte(n))
	case n <= math.MaxUint8:
		return append(dst, 0xd9, byte(n))
	case n <= math.MaxUint16:
		return append(dst, 0xda, byte(n>>8), byte(n))
	default:
		return append(dst, 0xdb, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
}

// number writes a JSON number as JavaScript and notepack.io would: an integer where it
// is one, of 64 bits at most, a float64 otherwise. Integers keep all their digits.
func (e *encoder) number(dst []byte) ([]byte, error) {
	start := e.i
	integer := true
	e.skip('-')
	digits := e.digits()
	if digits == 0 || digits > 1 && e.src[e.i-digits] == '0' {
		return dst, e.bad("no value")
	}
	if e.skip('.') {
		integer = false
		if e.digits() == 0 {
			return dst, e.bad("no digit behind the point")
		}
	}
	if e.skip('e') || e.skip('E') {
		integer = false
		if !e.skip('+') {
			e.skip('-')
		}
		if e.digits() == 0 {
			return dst, e.bad("no digit in the exponent")
		}
	}
	text := e.src[start:e.i]
	if integer && len(text) < 21 {
		if text[0] == '-' {
			if v, err := strconv.ParseInt(string(text), 10, 64); err == nil {
				return msgp.AppendInt64(dst, v), nil
			}
		} else if v, err := strconv.ParseUint(string(text), 10, 64); err == nil {
			return msgp.AppendUint64(dst, v), nil
		}
	}
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil { // out of range: JavaScript reads Infinity and JSON knows no such number
		return append(dst, 0xc0), nil
	}
	return appendFloat(dst, v), nil
}

// appendFloat appends v, as an integer where it is one of 64 bits at most.
func appendFloat(dst []byte, v float64) []byte {
	if v == math.Trunc(v) {
		if v >= 0 && v < 1<<64 {
			return msgp.AppendUint64(dst, uint64(v))
		}
		if v < 0 && v >= -1<<63 {
			return msgp.AppendInt64(dst, int64(v))
		}
	}
	return msgp.AppendFloat64(dst, v)
}

func (e *encoder) skip(c byte) bool {
	if e.i < len(e.src) && e.src[e.i] == c {
		e.i++
		return true
	}
	return false
}

func (e *encoder) digits() (n int) {
	for e.i < len(e.src) && e.src[e.i]-'0' < 10 {
		e.i++
		n++
	}
	return n
}
