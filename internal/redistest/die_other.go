//go:build unix && !linux

package redistest

import "syscall"

func dieWithUs() *syscall.SysProcAttr { return nil }
