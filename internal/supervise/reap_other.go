//go:build !linux

package supervise

// reap does nothing here.
func (s *Supervisor) reap() (stop func()) { return func() {} }

// listens is not known here.
func listens(int) []int { return nil }
