//go:build unix

package clustertest

import (
	"os"
	"syscall"
	"testing"
)

var stop = func(t *testing.T, p *os.Process) { send(t, p, syscall.SIGSTOP) }

func resume(t *testing.T, p *os.Process) { send(t, p, syscall.SIGCONT) }

func send(t *testing.T, p *os.Process, s syscall.Signal) {
	t.Helper()
	if err := p.Signal(s); err != nil {
		t.Fatalf("signal %v: %v", s, err)
	}
}
