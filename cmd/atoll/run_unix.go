//go:build unix

package main

import (
	"os"
	"syscall"
)

const (
	terminateSignal = syscall.SIGTERM
	restartSignal   = syscall.SIGHUP
)

// passedOn are the signals that the processes get as they are.
var passedOn = []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2}
