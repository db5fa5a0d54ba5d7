package cluster

import (
	"encoding/binary"
	"errors"
)

func appendString[S string | []byte](b []byte, s S) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendStrings[S string | []byte](b []byte, ss []S) []byte {
	b = binary.AppendUvarint(b, uint64(len(ss)))
	for _, s := range ss {
		b = appendString(b, s)
	}
	return b
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

var (
	errShort = errors.New("it ends too early")
	errList  = errors.New("a list is too long")
)

// A reader takes fields off b. After the first error all fields are zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail(errShort)
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// bytes returns a byte string, which shares memory with the message; nil if it is empty.
func (r *reader) bytes() []byte {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail(errShort)
		return nil
	}
	if n == 0 {
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

func (r *reader) string() string {
	s := r.bytes()
	if len(s) == 1 && s[0] == '/' {
		return "/" // the namespace that most have
	}
	return string(s)
}

func (r *reader) strings() []string { return list(r, r.string) }

func (r *reader) byteses() [][]byte { return list(r, r.bytes) }

// list reads a list. Memory grows with what is there, not with what is said to be there.
func list[T any](r *reader, next func() T) []T {
	n := r.uint()
	if n > maxList {
		r.fail(errList)
	} else if n > uint64(len(r.b)) { // each element takes a byte at least
		r.fail(errShort)
	}
	if r.err != nil || n == 0 {
		return nil
	}
	ts := make([]T, 0, min(n, 64))
	for range n {
		ts = append(ts, next())
		if r.err != nil {
			return nil
		}
	}
	return ts
}
