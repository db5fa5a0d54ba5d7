package redisbus

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/tinylib/msgp/msgp"

	"github.com/atollhq/atoll/cluster"
)

// placeKey is the key under which Atoll nodes add the place of a message in what its sender has said in
// the namespace: [life, number]. Node.js nodes ignore it. It stands among the options of a broadcast, and
// at the top of a request. Messages without a number do not have it.
const placeKey = "atoll"

var errPlace = errors.New("the place of a message is not its sender's life and a number, both above 0")

// extra is how many fields the place of m takes.
func extra(m *cluster.Message) uint32 {
	if m.Number == 0 {
		return 0
	}
	return 1
}

// appendPlace appends the place of m to a map of MessagePack.
func appendPlace(dst []byte, m *cluster.Message) []byte {
	if m.Number == 0 {
		return dst
	}
	dst = msgp.AppendArrayHeader(msgp.AppendString(dst, placeKey), 2)
	return msgp.AppendUint64(msgp.AppendUint64(dst, m.Life), m.Number)
}

// appendPlaceJSON appends the place of m to an object of JSON that has fields already.
func appendPlaceJSON(dst []byte, m *cluster.Message) []byte {
	if m.Number == 0 {
		return dst
	}
	dst = strconv.AppendUint(append(dst, `,"atoll":[`...), m.Life, 10)
	dst = strconv.AppendUint(append(dst, ','), m.Number, 10)
	return append(dst, ']')
}

// readPlace reads the place of m from MessagePack.
func readPlace(b []byte, m *cluster.Message) ([]byte, error) {
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return nil, err
	}
	if n != 2 {
		return nil, errPlace
	}
	if m.Life, b, err = msgp.ReadUint64Bytes(b); err != nil {
		return nil, err
	}
	if m.Number, b, err = msgp.ReadUint64Bytes(b); err != nil {
		return nil, err
	}
	if m.Life == 0 || m.Number == 0 {
		return nil, errPlace
	}
	return b, nil
}

// A wirePlace is a place in JSON.
type wirePlace struct{ life, number uint64 }

func (p *wirePlace) UnmarshalJSON(b []byte) error {
	var v []uint64
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	if len(v) != 2 || v[0] == 0 || v[1] == 0 {
		return errPlace
	}
	p.life, p.number = v[0], v[1]
	return nil
}

// set gives m its place, if there is one.
func (p *wirePlace) set(m *cluster.Message) {
	if p != nil {
		m.Life, m.Number = p.life, p.number
	}
}
