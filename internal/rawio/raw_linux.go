//go:build linux && !race

package rawio

import (
	"syscall"
	"unsafe"
)

// Can says that Read and Write work on this system.
const Can = true

// longCall is from how many bytes on a call takes long enough for the scheduler to know of it.
const longCall = 64 << 10

// Read reads what is there. At the end of a stream it returns 0 and nil.
func Read(fd int, b []byte) (int, error) {
	if len(b) > longCall {
		return again(syscall.Read, fd, b)
	}
	return call(syscall.SYS_READ, fd, b)
}

// Write writes as much of b as there is room for.
func Write(fd int, b []byte) (int, error) {
	if len(b) > longCall {
		return again(syscall.Write, fd, b)
	}
	return call(syscall.SYS_WRITE, fd, b)
}

func call(trap uintptr, fd int, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EAGAIN:
			return 0, syscall.EAGAIN // a constant, which needs no memory
		case syscall.EINTR:
			continue
		}
		return 0, errno
	}
}
