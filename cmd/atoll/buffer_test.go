//go:build unix

package main

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// A lockedBuffer holds what a process prints, while others read it.
type lockedBuffer struct {
	mu   sync.Mutex
	b    strings.Builder
	some chan struct{}
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.some <- struct{}{}:
	default:
	}
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// until waits until want is in it.
func (l *lockedBuffer) until(t *testing.T, want string) {
	t.Helper()
	for deadline := time.After(20 * time.Second); !strings.Contains(l.String(), want); {
		select {
		case <-l.some:
		case <-deadline:
			t.Fatalf("got %q, want %q in it", l.String(), want)
		}
	}
}
