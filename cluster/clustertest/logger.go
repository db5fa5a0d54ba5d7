package clustertest

import (
	"log/slog"
	"strings"
	"testing"
)

// logger sends what a node logs to the test's log.
func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(writer{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type writer struct{ t *testing.T }

func (w writer) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
