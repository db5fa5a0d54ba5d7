package wire

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
)

// separator stands between the packets of a payload.
const separator = 0x1e

// binaryMark stands before a binary message in a payload, in place of a type.
const binaryMark = 'b'

// Errors of NextPacket.
var (
	ErrEmptyPacket = errors.New("engine.io: empty packet")
	ErrBase64      = errors.New("engine.io: binary packet is not base64")
)

// PayloadLen returns how many bytes AppendPayload would append.
func PayloadLen(ps []Packet) int {
	n := len(ps) - 1 // separators
	for i := range ps {
		if ps[i].Binary {
			n += 1 + base64.StdEncoding.EncodedLen(len(ps[i].Data))
		} else {
			n += 1 + len(ps[i].Data)
		}
	}
	return max(n, 0)
}

// AppendPayload appends the packets as they stand in the body of a long-polling
// request or response: separated, and binary ones as base64.
//
// See https://socket.io/docs/v4/engine-io-protocol/#http-long-polling-1
func AppendPayload(dst []byte, ps []Packet) []byte {
	for i := range ps {
		if i > 0 {
			dst = append(dst, separator)
		}
		p := &ps[i]
		if p.Binary {
			dst = append(dst, binaryMark)
			dst = base64.StdEncoding.AppendEncode(dst, p.Data)
		} else {
			dst = append(dst, byte(p.Type))
			dst = append(dst, p.Data...)
		}
	}
	return dst
}

// NextPacket takes the first packet off a payload and returns it with what stands
// behind it; more is false after the last one. The packet's data lies in payload: binary
// data is decoded in place, so payload is changed. It does not check that text is UTF-8.
func NextPacket(payload []byte) (p Packet, rest []byte, more bool, err error) {
	one := payload
	if i := bytes.IndexByte(payload, separator); i >= 0 {
		one, rest, more = payload[:i], payload[i+1:], true
	}
	if len(one) == 0 {
		return p, nil, false, ErrEmptyPacket
	}
	if one[0] == binaryMark {
		data, err := unbase64(one[1:])
		return Packet{Type: Message, Binary: true, Data: data}, rest, more, err
	}
	p, err = ParsePacket(one)
	return p, rest, more, err
}

// ParsePacket parses one text packet, as it stands in a WebSocket text message.
// Its data is the rest of b.
func ParsePacket(b []byte) (Packet, error) {
	if len(b) == 0 {
		return Packet{}, ErrEmptyPacket
	}
	t := Type(b[0])
	if !t.valid() {
		return Packet{}, fmt.Errorf("engine.io: unknown packet type %q", b[0])
	}
	return Packet{Type: t, Data: b[1:]}, nil
}

// unbase64 decodes b in place, piece by piece so that source and destination never overlap.
func unbase64(b []byte) ([]byte, error) {
	var piece [768]byte
	n := 0
	for src := b; len(src) > 0; {
		k := min(len(src), len(piece)/3*4)
		m, err := base64.StdEncoding.Decode(piece[:], src[:k])
		if err != nil || k < len(src) && m != len(piece) {
			return nil, ErrBase64 // also padding, or a line break, in the middle
		}
		n += copy(b[n:], piece[:m])
		src = src[k:]
	}
	return b[:n], nil
}
