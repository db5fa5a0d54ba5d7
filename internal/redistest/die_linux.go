package redistest

import "syscall"

// dieWithUs has the kernel end the server if the test is killed.
func dieWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
