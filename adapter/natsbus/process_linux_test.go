package natsbus

import (
	"os/exec"
	"syscall"
)

// dieWithUs has the kernel end the process if the test is killed.
func dieWithUs(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
