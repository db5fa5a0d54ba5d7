//go:build !unix

package sticky

// canTry says that sockets cannot be read without waiting.
const canTry = false

func (r *idleReader) tryRead(uintptr) bool { return true }
