//go:build linux && !race

package engine

import (
	"syscall"
	"unsafe"
)

// sysRead and sysWrite are read and write on a descriptor that does not block. They do not
// tell the scheduler: a call that returns at once needs nobody to take over meanwhile. Telling
// it wakes the runtime's monitor thread each time that a process with little to do gets a
// message, which costs more than the message itself.
func sysRead(fd int, b []byte) (int, error) {
	if len(b) > longCall {
		return syscall.Read(fd, b)
	}
	return rawCall(syscall.SYS_READ, fd, b)
}

func sysWrite(fd int, b []byte) (int, error) {
	if len(b) > longCall {
		return syscall.Write(fd, b)
	}
	return rawCall(syscall.SYS_WRITE, fd, b)
}

// longCall is from how many bytes on a call takes long enough for the scheduler to know of it.
const longCall = 64 << 10

func rawCall(trap uintptr, fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
