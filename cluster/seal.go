package cluster

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"sync"
)

// A seal authenticates messages of the native format with a key that all nodes have: behind a message
// stands the beginning of the HMAC-SHA256 of its topic, a zero byte and the message.
type seal struct{ macs sync.Pool }

const sealSize = 16

var errForged = errors.New("cluster: a message without the cluster's key")

func newSeal(key []byte) *seal {
	if len(key) == 0 {
		return nil
	}
	key = append([]byte(nil), key...)
	return &seal{sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, key)} }}}
}

// A mac is a hash with what it writes from and to, so that none of it is allocated for each message.
type mac struct {
	hash.Hash
	topic []byte
	sum   []byte
}

func (m *mac) of(topic string, data []byte) []byte {
	m.Reset()
	m.topic = append(append(m.topic[:0], topic...), 0)
	m.Write(m.topic)
	m.Write(data)
	m.sum = m.Sum(m.sum[:0])
	return m.sum[:sealSize]
}

// close appends the code of data on topic. A nil seal does nothing.
func (s *seal) close(topic string, data []byte) []byte {
	if s == nil {
		return data
	}
	m := s.macs.Get().(*mac)
	data = append(data, m.of(topic, data)...)
	s.macs.Put(m)
	return data
}

// open checks the code behind a message and takes it off.
func (s *seal) open(topic string, data []byte) ([]byte, error) {
	if s == nil {
		return data, nil
	}
	n := len(data) - sealSize
	if n < 0 {
		return nil, errForged
	}
	m := s.macs.Get().(*mac)
	ok := hmac.Equal(m.of(topic, data[:n:n]), data[n:])
	s.macs.Put(m)
	if !ok {
		return nil, errForged
	}
	return data[:n:n], nil
}

// sealed returns d with the key, which only Native can carry.
func sealed(d Dialect, key []byte) (Dialect, error) {
	if len(key) == 0 {
		return d, nil
	}
	x, ok := d.(native)
	if !ok {
		return nil, fmt.Errorf("cluster: Options.Key is set, but the official format of this bus cannot carry it: "+
			"leave it unset, or give the bus Atoll's own format: %w", ErrUnsupported)
	}
	if len(key) < minKey {
		return nil, fmt.Errorf("cluster: Options.Key has %d bytes: it must have at least %d", len(key), minKey)
	}
	x.seal = newSeal(key)
	return x, nil
}
