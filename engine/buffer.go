package engine

import "sync"

// bufferSize is the size of the buffers that reads and writes borrow: the most
// that one read takes, and the largest frame that is copied rather than written by itself.
const bufferSize = 16 << 10

type buffer [bufferSize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func getBuffer() *buffer { return buffers.Get().(*buffer) }

func putBuffer(b *buffer) {
	if b != nil {
		buffers.Put(b)
	}
}
