package clustertest

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the node when the test dies: a stopped process
// does not notice that its standard input ends.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
