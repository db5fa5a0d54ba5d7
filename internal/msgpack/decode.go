package msgpack

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// AppendJSON appends the first MessagePack value of data to dst as JSON, and the bytes
// in it to attachments, leaving placeholders for them; numbers start at
// len(attachments). It returns what stands behind the value. Attachments are parts of data.
//
// A time becomes its ISO text, undefined what JSON.stringify makes of it, and an
// extension that notepack.io does not know the array of its type and its bytes.
// A map that says "_placeholder":true is refused: it would be taken for bytes.
func AppendJSON(dst, data []byte, attachments [][]byte) (out []byte, atts [][]byte, rest []byte, err error) {
	d := decoder{src: data, attachments: attachments}
	if dst, err = d.value(dst); err != nil {
		return dst, attachments, nil, err
	}
	return dst, d.attachments, d.src, nil
}

// AppendBufferJSON is like AppendJSON, and writes bytes as JSON.stringify writes a
// Buffer of Node.js: {"type":"Buffer","data":[1,2,3]}.
func AppendBufferJSON(dst, data []byte) (out, rest []byte, err error) {
	d := decoder{src: data, buffers: true}
	if dst, err = d.value(dst); err != nil {
		return dst, nil, err
	}
	return dst, d.src, nil
}

// A decoder reads MessagePack and writes JSON.
type decoder struct {
	src         []byte // what is not read yet
	depth       int
	attachments [][]byte
	buffers     bool
	undefined   bool // the value just written was undefined
}

func wrap(err error) error { return malformed("%v", err) }

func (d *decoder) value(dst []byte) ([]byte, error) {
	if len(d.src) == 0 {
		return dst, malformed("it ends where a value should be")
	}
	d.undefined = false
	switch c := d.src[0]; {
	case c < 0x80: // positive fixint
		d.src = d.src[1:]
		return strconv.AppendUint(dst, uint64(c), 10), nil
	case c < 0x90, c == 0xde, c == 0xdf:
		return d.nested(dst, d.object)
	case c < 0xa0, c == 0xdc, c == 0xdd:
		return d.nested(dst, d.array)
	case c < 0xc0, c == 0xd9, c == 0xda, c == 0xdb:
		s, rest, err := msgp.ReadStringZC(d.src)
		if err != nil {
			return dst, wrap(err)
		}
		d.src = rest
		return AppendQuoted(dst, s), nil
	case c == 0xc0:
		d.src = d.src[1:]
		return append(dst, "null"...), nil
	case c == 0xc2:
		d.src = d.src[1:]
		return append(dst, "false"...), nil
	case c == 0xc3:
		d.src = d.src[1:]
		return append(dst, "true"...), nil
	case c >= 0xc4 && c <= 0xc6:
		b, rest, err := msgp.ReadBytesZC(d.src)
		if err != nil {
			return dst, wrap(err)
		}
		d.src = rest
		return d.bytes(dst, b), nil
	case c >= 0xc7 && c <= 0xc9, c >= 0xd4 && c <= 0xd8:
		return d.extension(dst)
	default:
		return d.number(dst)
	}
}

func (d *decoder) nested(dst []byte, f func([]byte) ([]byte, error)) ([]byte, error) {
	if d.depth++; d.depth > MaxDepth {
		return dst, malformed("nested deeper than %d", MaxDepth)
	}
	dst, err := f(dst)
	d.depth--
	d.undefined = false
	return dst, err
}

func (d *decoder) array(dst []byte) ([]byte, error) {
	n, rest, err := msgp.ReadArrayHeaderBytes(d.src)
	if err != nil {
		return dst, wrap(err)
	}
	d.src = rest
	dst = append(dst, '[')
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = d.value(dst); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

func (d *decoder) object(dst []byte) ([]byte, error) {
	n, rest, err := msgp.ReadMapHeaderBytes(d.src)
	if err != nil {
		return dst, wrap(err)
	}
	d.src = rest
	dst = append(dst, '{')
	first := true
	for range n {
		start := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		key := len(dst)
		if dst, err = d.key(dst); err != nil {
			return dst, err
		}
		claims := !d.buffers && string(dst[key:]) == `"_placeholder"`
		dst = append(dst, ':')
		at := len(dst)
		if dst, err = d.value(dst); err != nil {
			return dst, err
		}
		if claims && string(dst[at:]) == "true" {
			return dst, malformed("a map that says _placeholder: true")
		}
		if d.undefined {
			dst = dst[:start] // as JSON.stringify does
			continue
		}
		first = false
	}
	return append(dst, '}'), nil
}

// key writes the key of a map as text, as JavaScript does.
func (d *decoder) key(dst []byte) ([]byte, error) {
	if len(d.src) == 0 {
		return dst, malformed("it ends where a key should be")
	}
	switch c := d.src[0]; {
	case c >= 0xa0 && c < 0xc0, c >= 0xd9 && c <= 0xdb:
		return d.value(dst)
	case c < 0x80, c == 0xc0, c == 0xc2, c == 0xc3, c >= 0xca && c <= 0xd3, c >= 0xe0:
		dst = append(dst, '"')
		dst, err := d.value(dst)
		return append(dst, '"'), err
	default:
		return dst, malformed("a key is neither text nor a number")
	}
}

func (d *decoder) bytes(dst, b []byte) []byte {
	if !d.buffers {
		dst = append(dst, `{"_placeholder":true,"num":`...)
		dst = strconv.AppendInt(dst, int64(len(d.attachments)), 10)
		d.attachments = append(d.attachments, b)
		return append(dst, '}')
	}
	dst = append(dst, `{"type":"Buffer","data":[`...)
	for i, c := range b {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, uint64(c), 10)
	}
	return append(dst, "]}"...)
}

func (d *decoder) number(dst []byte) ([]byte, error) {
	c := d.src[0]
	switch {
	case c == 0xca:
		v, rest, err := msgp.ReadFloat32Bytes(d.src)
		if err != nil {
			return dst, wrap(err)
		}
		d.src = rest
		return appendNumber(dst, float64(v)), nil
	case c == 0xcb:
		v, rest, err := msgp.ReadFloat64Bytes(d.src)
		if err != nil {
			return dst, wrap(err)
		}
		d.src = rest
		return appendNumber(dst, v), nil
	case c >= 0xcc && c <= 0xcf:
		v, rest, err := msgp.ReadUint64Bytes(d.src)
		if err != nil {
			return dst, wrap(err)
		}
		d.src = rest
		return strconv.AppendUint(dst, v, 10), nil
	case c >= 0xd0 && c <= 0xd3, c >= 0xe0:
		v, rest, err := msgp.ReadInt64Bytes(d.src)
		if err != nil {
			return dst, wrap(err)
		}
		d.src = rest
		return strconv.AppendInt(dst, v, 10), nil
	default:
		return dst, malformed("0x%02x starts no value", c)
	}
}

// appendNumber writes v as JSON.stringify does.
func appendNumber(dst []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(dst, "null"...)
	}
	if v == 0 {
		return append(dst, '0') // minus zero too
	}
	format := byte('f')
	if abs := math.Abs(v); abs < 1e-6 || abs >= 1e21 {
		format = 'e'
	}
	dst = strconv.AppendFloat(dst, v, format, -1, 64)
	if n := len(dst); format == 'e' && n >= 4 && dst[n-2] == '0' && (dst[n-3] == '-' || dst[n-3] == '+') {
		dst[n-2] = dst[n-1] // 1e-07 is 1e-7
		dst = dst[:n-1]
	}
	return dst
}

// The extension types that notepack.io knows. Type 0 is its own, of three meanings.
const (
	extOld  = 0  // fixext 1: undefined; fixext 8: a time in milliseconds; others: an ArrayBuffer
	extTime = -1 // https://github.com/msgpack/msgpack/blob/master/spec.md#timestamp-extension-type
)

func (d *decoder) extension(dst []byte) ([]byte, error) {
	c := d.src[0]
	var head int   // bytes up to the type
	var size int64 // bytes of the data; of 32 bits, which an int need not hold
	switch {
	case c >= 0xd4:
		head, size = 1, 1<<(c-0xd4)
	default:
		width := 1 << (c - 0xc7) // of the length
		if head = 1 + width; len(d.src) < head {
			return dst, malformed("it ends in the length of an extension")
		}
		for _, b := range d.src[1:head] {
			size = size<<8 | int64(b)
		}
	}
	if int64(len(d.src)-head-1) < size {
		return dst, malformed("it ends in an extension")
	}
	kind := int8(d.src[head])
	end := head + 1 + int(size)
	data := d.src[head+1 : end]
	d.src = d.src[end:]

	switch {
	case kind == extOld && c == 0xd4:
		d.undefined = true
		return append(dst, "null"...), nil
	case kind == extOld && c == 0xd7:
		hi, lo := int32(binary.BigEndian.Uint32(data)), binary.BigEndian.Uint32(data[4:])
		return appendTime(dst, float64(hi)*(1<<32)+float64(lo)), nil
	case kind == extOld && c <= 0xc9:
		return d.bytes(dst, data), nil
	case kind == extTime && size == 4:
		return appendTime(dst, float64(binary.BigEndian.Uint32(data))*1e3), nil
	case kind == extTime && size == 8:
		v := binary.BigEndian.Uint64(data)
		return appendTime(dst, float64(v&(1<<34-1))*1e3+float64(v>>34/1e6)), nil
	case kind == extTime && size == 12:
		ns, s := binary.BigEndian.Uint32(data), int64(binary.BigEndian.Uint64(data[4:]))
		return appendTime(dst, float64(s)*1e3+float64(ns/1e6)), nil
	default:
		dst = strconv.AppendInt(append(dst, '['), int64(kind), 10)
		return append(d.bytes(append(dst, ','), data), ']'), nil
	}
}

// appendTime writes a time, given in milliseconds since 1970, as Date.toJSON does.
func appendTime(dst []byte, ms float64) []byte {
	if math.Abs(ms) > 8.64e15 {
		return append(dst, "null"...) // an invalid Date
	}
	t := time.UnixMilli(int64(ms)).UTC()
	dst = append(dst, '"')
	if year := t.Year(); year >= 0 && year <= 9999 {
		return t.AppendFormat(dst, `2006-01-02T15:04:05.000Z"`)
	} else if year < 0 {
		dst = append(dst, '-')
		dst = appendYear(dst, -year)
	} else {
		dst = append(dst, '+')
		dst = appendYear(dst, year)
	}
	return t.AppendFormat(dst, `-01-02T15:04:05.000Z"`)
}

// appendYear writes six digits.
func appendYear(dst []byte, year int) []byte {
	for d := 100_000; d > 0; d /= 10 {
		dst = append(dst, '0'+byte(year/d%10))
	}
	return dst
}
