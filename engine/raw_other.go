//go:build !unix

package engine

// rawIO is empty where the system has no reads and writes that do not wait.
type rawIO struct{}

func (k *socket) setRaw() {}

func (k *socket) readRaw() (data []byte, b *buffer, err error) { panic("unreachable: raw is nil") }

func (k *socket) try(b []byte) (int, error) { panic("unreachable: raw is nil") }
