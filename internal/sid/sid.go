// Package sid makes session and socket ids that name the node they live on.
//
// An id has 20 characters of the URL-safe base64 alphabet, as the official
// servers make them: 15 bytes, of which 4 are the tag of the node and 11
// (88 bits) come from crypto/rand. The tag lets a balancer or another node find
// the owner of an id without a table and without asking anyone.
package sid

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// Len is the length of an id in characters.
const Len = 20

const tagBytes = 4

// A Tag is the part of an id that names a node: 32 bits of the hash of the node's id.
type Tag uint32

// TagOf returns the tag of the node with the given id.
func TagOf(node string) Tag {
	sum := sha256.Sum256([]byte(node))
	return Tag(binary.BigEndian.Uint32(sum[:]))
}

// String writes the tag as 8 hexadecimal digits, as the health check and the balancer show it.
func (t Tag) String() string { return fmt.Sprintf("%08x", uint32(t)) }

// New returns a fresh id on the node with the given tag. Any number of goroutines may call it.
func New(t Tag) string {
	var b [15]byte
	binary.BigEndian.PutUint32(b[:tagBytes], uint32(t))
	rand.Read(b[tagBytes:]) // never fails, by its documentation
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// TagIn returns the tag in id. It reports false where id is not of the form that
// New makes; it does not say that any node ever made it.
func TagIn(id string) (Tag, bool) {
	if len(id) != Len {
		return 0, false
	}
	var b [15]byte
	if _, err := base64.RawURLEncoding.Decode(b[:], []byte(id)); err != nil {
		return 0, false
	}
	return Tag(binary.BigEndian.Uint32(b[:tagBytes])), true
}
