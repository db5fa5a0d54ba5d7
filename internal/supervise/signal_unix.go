//go:build unix

package supervise

import (
	"os"
	"syscall"
)

const terminate = syscall.SIGTERM

// signalGroup sends a signal to a process and those that it has started: a shell does not pass it on.
func signalGroup(p *os.Process, sig os.Signal) {
	if s, ok := sig.(syscall.Signal); ok {
		_ = syscall.Kill(-p.Pid, s) // it may be gone
	}
}

// killGroup ends a process and those that it has started.
func killGroup(p *os.Process) { signalGroup(p, syscall.SIGKILL) }
