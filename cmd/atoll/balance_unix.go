//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// watchSignals sends to reload on SIGHUP and to rotate on SIGUSR1.
func watchSignals(reload, rotate chan<- os.Signal) {
	signal.Notify(reload, syscall.SIGHUP)
	signal.Notify(rotate, syscall.SIGUSR1)
}
