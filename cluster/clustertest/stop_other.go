//go:build !unix

package clustertest

import (
	"os"
	"testing"
)

func stop(t *testing.T, _ *os.Process) { t.Skip("this system has no SIGSTOP") }

func resume(*testing.T, *os.Process) {}
