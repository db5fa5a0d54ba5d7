//go:build unix && (!linux || race)

package rawio

import "syscall"

// Can says that Read and Write work on this system.
const Can = true

// Read reads what is there. At the end of a stream it returns 0 and nil. (The race detector needs the calls of
// package syscall, which it knows.)
func Read(fd int, b []byte) (int, error) { return again(syscall.Read, fd, b) }

// Write writes as much of b as there is room for.
func Write(fd int, b []byte) (int, error) { return again(syscall.Write, fd, b) }
