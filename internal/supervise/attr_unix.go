//go:build unix && !linux

package supervise

import "syscall"

// attributes make a process the first of a group of its own, so that Ctrl-C reaches it by us alone.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
