//go:build !unix

package natsbus

import (
	"net"
	"os"
	"time"
)

// locks says that lock keeps nobody out.
const locks = false

// lock does nothing where there are no advisory locks.
func lock(*os.File) error { return nil }

// abandoned reports whether nobody listens any more where a record says.
func abandoned(_ *os.File, r record) bool {
	c, err := net.DialTimeout("tcp", r.Route, 200*time.Millisecond)
	if err != nil {
		return true
	}
	c.Close()
	return false
}

// private trusts that the user's temporary directory is the user's.
func private(string) error { return nil }
