//go:build unix

package redistest

import "testing"

// A server that finds its port taken does not take the other for itself.
func TestForeign(t *testing.T) {
	other := Start(t)
	s := &Server{settings: settings{binary: "redis-server", dir: t.TempDir()}, port: other.port}
	if err := s.Restart(); err == nil {
		s.Kill()
		t.Error("got no error, want one: another server has the port")
	}
}
