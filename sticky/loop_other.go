//go:build !linux

package sticky

// Elsewhere than on Linux each tunnel has two goroutines, and that a client has gone is noticed when it is written to.

type (
	loops struct{}
	loop  struct{}
	pipe  struct{}
)

func (*loops) init(*vigil)                 {}
func (*loops) add(*tunnel) bool            { return false }
func (*loops) cut(t *tunnel)               { t.close() }
func (*loops) watch(*client, *watched) int { return -1 }
func (*loops) unwatch(int, *client)        {}
func (*loops) sweep()                      {}
func (*loops) close()                      {}
