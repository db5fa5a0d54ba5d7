//go:build unix

package clustertest

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// stop stops a process. The signal takes a moment to reach all its threads.
func stop(t *testing.T, p *os.Process) {
	t.Helper()
	send(t, p, syscall.SIGSTOP)
	time.Sleep(50 * time.Millisecond)
}

func resume(t *testing.T, p *os.Process) {
	t.Helper()
	send(t, p, syscall.SIGCONT)
}

func send(t *testing.T, p *os.Process, s syscall.Signal) {
	t.Helper()
	if err := p.Signal(s); err != nil {
		t.Fatalf("signal %v: %v", s, err)
	}
}
