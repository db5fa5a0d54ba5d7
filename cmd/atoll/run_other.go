//go:build !unix

package main

import (
	"os"
	"syscall"
)

const (
	terminateSignal = syscall.SIGTERM
	restartSignal   = syscall.SIGHUP // nobody sends it here
)

var passedOn []os.Signal
