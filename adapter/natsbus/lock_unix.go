//go:build unix

package natsbus

import (
	"fmt"
	"os"
	"syscall"
)

// locks says that lock keeps others out.
const locks = true

// lock locks a file for as long as the process lives and the file is open.
func lock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// abandoned reports whether the process that wrote a record is no more.
func abandoned(f *os.File, _ record) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil
}

// private reports an error if anybody but us could write in a directory.
func private(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ok || int(s.Uid) != os.Getuid() {
		return fmt.Errorf("%s must be a directory that is ours alone (mode 0700): remove it, or choose another", path)
	}
	return nil
}
