package sticky

import (
	"io"
	"net"
	"sync"
	"time"
)

// A bufferPool holds buffers of one size.
type bufferPool struct{ p sync.Pool }

const bufferSize = 16 << 10

// buffers is shared by the bodies of requests and the WebSockets.
var buffers bufferPool

// Get returns a buffer of bufferSize bytes.
func (b *bufferPool) Get() []byte {
	if p, ok := b.p.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return new([bufferSize]byte)[:]
}

// Put takes back what Get returned.
func (b *bufferPool) Put(buf []byte) { b.p.Put((*[bufferSize]byte)(buf)) }

// pump copies from src to dst until src ends (it then returns nil) or either fails.
// It holds no buffer while it waits for src, where the connection allows that. A dst that takes
// nothing for stall, or for half of it, is a failure.
func pump(dst, src net.Conn, stall time.Duration, idle *idleness) error {
	var from, to wire
	from.init(src)
	to.init(dst)
	idle.mark()
	idle.wait(src)
	var small []byte
	if from.raw == nil {
		small = make([]byte, 2<<10)
	}
	for {
		buf, n, err := small, 0, error(nil)
		if small == nil {
			buf, n, err = from.await()
		} else {
			n, err = src.Read(buf)
		}
		if n == 0 && err == io.EOF {
			return nil
		}
		if n == 0 && err != nil {
			if idle.over(src, err) {
				return err
			}
			continue
		}
		idle.mark()
		werr := to.write(buf[:n], stall)
		if small == nil {
			buffers.Put(buf)
		}
		if werr != nil {
			return werr
		}
	}
}
