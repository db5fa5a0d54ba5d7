//go:build unix

package sticky

import (
	"io"
	"syscall"
)

// canTry says that sockets can be read without waiting.
const canTry = true

// tryRead reads what is there. It reports false, and holds no buffer, where that is nothing.
func (r *idleReader) tryRead(fd uintptr) bool {
	buf := buffers.Get()
	for {
		n, err := syscall.Read(int(fd), buf)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			buffers.Put(buf)
			return false
		case err != nil:
			r.err = err
		case n == 0:
			r.err = io.EOF
		default:
			r.n = n
		}
		r.buf = buf
		return true
	}
}
