//go:build unix && (!linux || race)

package engine

import "syscall"

// sysRead and sysWrite are read and write on a descriptor that does not block. (The race
// detector needs these, which it knows.)
func sysRead(fd int, b []byte) (int, error) { return syscall.Read(fd, b) }

func sysWrite(fd int, b []byte) (int, error) { return syscall.Write(fd, b) }
