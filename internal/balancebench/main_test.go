package main

import (
	"os"
	"runtime"
	"testing"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("BALANCEBENCH_ROLE"); role != "" {
		child(role)
		return
	}
	os.Exit(m.Run())
}

// The figures of a run this short mean nothing; that each load gets through each proxy does.
func TestSmoke(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	if err := run(1, "", 0.01, ""); err != nil {
		t.Error(err)
	}
}
