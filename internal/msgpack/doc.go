// Package msgpack translates between JSON with placeholders and attachments, as
// Socket.IO events stand in memory, and MessagePack with the bytes inline, as
// Node.js servers put them on a bus.
//
// The bytes it writes are those of notepack.io, which the official Redis adapter
// uses: the shortest form of each number, string, array and map. One thing it does
// not copy: integers of 2^64 and more are floats, where notepack.io writes another number.
//
// Nothing here panics on any input, and what is allocated is in proportion to how long the
// input is, whatever lengths the input claims: the most, some thirty times, for empty byte
// strings that become placeholders or Buffers. (Where an int has 32 bits, msgp panics at lengths of
// 2 GiB and more; cluster.Node recovers.)
//
// See https://github.com/msgpack/msgpack/blob/master/spec.md
package msgpack

import (
	"errors"
	"fmt"
)

// MaxDepth is how deep arrays and maps may be nested. Deeper input is refused.
const MaxDepth = 1000

// ErrSyntax is wrapped by all errors of this package that are about the input.
var ErrSyntax = errors.New("msgpack: malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSyntax, fmt.Sprintf(format, args...))
}
