//go:build !unix

package rawio

import "errors"

// Can says that Read and Write work on this system.
const Can = false

var errNone = errors.ErrUnsupported

// Read is not there.
func Read(int, []byte) (int, error) { return 0, errNone }

// Write is not there.
func Write(int, []byte) (int, error) { return 0, errNone }
