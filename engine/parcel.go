package engine

import (
	"encoding/binary"
	"errors"
	"time"
)

// The form of a parcel, with lengths and numbers as unsigned varints:
//
//	version (1 byte), flags (1 byte: 1 the client's connection was encrypted)
//	id, time of the request (Unix nanoseconds), request (both as they are kept: see shake)
//	milliseconds until the next ping
//	messages: how many, and for each: 1 byte (1: binary), length, data

const (
	parcelVersion = 1
	maxLines      = 128 << 10 // of a request that is sent along
	maxParcel     = maxLines + maxHeld + 1<<10
)

var errParcel = errors.New("engine: a malformed parcel")

// AppendBinary writes the parcel behind b. The result has less than 140 KiB more. There is no error.
func (p *Parcel) AppendBinary(b []byte) ([]byte, error) {
	var flags byte
	if p.hs.secure {
		flags |= 1
	}
	b = append(b, parcelVersion, flags)
	b = appendText(b, p.id)
	b = binary.AppendUvarint(b, uint64(p.hs.at))
	b = appendText(b, p.hs.lines)
	b = binary.AppendUvarint(b, uint64(p.ping/time.Millisecond))
	b = binary.AppendUvarint(b, uint64(len(p.kept)))
	for _, m := range p.kept {
		var kind byte
		if m.binary {
			kind = 1
		}
		b = appendText(append(b, kind), m.data)
	}
	return b, nil
}

func appendText[S string | []byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// UnmarshalBinary reads what AppendBinary wrote. It keeps nothing of data.
func (p *Parcel) UnmarshalBinary(data []byte) error {
	if len(data) < 2 || len(data) > maxParcel || data[0] != parcelVersion {
		return errParcel
	}
	d := unpacker{b: data[2:]}
	q := Parcel{id: string(d.text())}
	q.hs = shake{at: int64(d.uint()), lines: string(d.text()), secure: data[1]&1 != 0}
	if ms := d.uint(); ms < uint64(time.Hour*24*365/time.Millisecond) {
		q.ping = time.Duration(ms) * time.Millisecond
	}
	n := d.uint()
	if n > maxHeld/heldOverhead {
		return errParcel
	}
	size := 0
	for range n {
		kind, text := d.byte(), d.text()
		size += len(text) + heldOverhead
		q.kept = append(q.kept, kept{append([]byte(nil), text...), kind == 1})
	}
	if d.bad || len(d.b) > 0 || size > maxHeld || len(q.hs.lines) > maxLines {
		return errParcel
	}
	*p = q
	return nil
}

// An unpacker takes fields off b. After the first that is malformed all are zero.
type unpacker struct {
	b   []byte
	bad bool
}

func (d *unpacker) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *unpacker) text() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	t := d.b[:n]
	d.b = d.b[n:]
	return t
}

func (d *unpacker) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}
