//go:build unix

package sticky

import "syscall"

// nothingThere reports whether there is nothing to read from fd, not even the end.
func nothingThere(fd uintptr) bool {
	var probe [1]byte
	_, _, err := syscall.Recvfrom(int(fd), probe[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == syscall.EAGAIN
}
