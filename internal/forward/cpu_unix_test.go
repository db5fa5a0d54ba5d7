//go:build unix

package forward

import (
	"syscall"
	"time"
)

func init() {
	cpu = func() time.Duration {
		var u syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
}
