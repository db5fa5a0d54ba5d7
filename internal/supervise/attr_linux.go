package supervise

import "syscall"

// attributes make a process the first of a group of its own, so that Ctrl-C reaches it by us alone, and have it told to end
// where we are killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
