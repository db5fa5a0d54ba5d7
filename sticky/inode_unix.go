//go:build unix

package sticky

import (
	"io/fs"
	"syscall"
)

// inode returns the number of a file in its file system.
func inode(fi fs.FileInfo) uint64 {
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Ino)
	}
	return 0
}
