//go:build !unix

package clustertest

import (
	"os"
	"testing"
)

var stop func(*testing.T, *os.Process)

func resume(*testing.T, *os.Process) {}
