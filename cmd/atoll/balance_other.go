//go:build !unix

package main

import "os"

// watchSignals does nothing: there are no such signals.
func watchSignals(reload, rotate chan<- os.Signal) {}
