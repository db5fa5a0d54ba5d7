//go:build !unix

package supervise

import (
	"os"
	"syscall"
)

const terminate = syscall.SIGTERM

func attributes() *syscall.SysProcAttr { return nil }

// signalGroup ends a process: there is no gentler way.
func signalGroup(p *os.Process, _ os.Signal) { _ = p.Kill() }

// killGroup ends a process.
func killGroup(p *os.Process) { _ = p.Kill() }
