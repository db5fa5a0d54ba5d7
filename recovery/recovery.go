// Package recovery keeps what a client needs to go on after its connection was lost: its session
// (id, rooms, data), and what it has missed. It is a seam: [Sessions] is what a medium implements,
// beside [cluster.Log]; [Memory] does both for one node.
//
// See https://socket.io/docs/v4/connection-state-recovery.
package recovery

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrUnknown is wrapped by what Take returns where there is no such session, or not any more.
	ErrUnknown = errors.New("recovery: no such session")
	// ErrFull is wrapped by what Create returns where the store takes no more.
	ErrFull = errors.New("recovery: the store is full")
)

// A Session is what is kept of a socket. All strings are binary-safe: they may hold any bytes.
type Session struct {
	PID       string   // the private id, which only the client knows; what it asks for is whatever it likes
	SID       string   // the socket's id
	Namespace string   // where it is in; empty where another server wrote the session and did not say
	Rooms     []string // the socket's own among them
	Data      []byte   // JSON of the socket's data; nil (or empty) for none

	// Offset is a place in the log: what is before it, and at it, and was for the socket,
	// was sent to it. Last is the offset of the last event that was sent to it by then; empty for none.
	// So a client that has Last, or something behind it, has missed nothing up to Offset, even where
	// the log does not reach back to Last any more. Start is where the log stood when the client was given its
	// PID: a client that has got no event yet has missed what is behind that, unless Last is empty, too.
	// All three are empty where another server wrote the session and did not say.
	Offset string
	Last   string
	Start  string

	// Revision is the store's: it tells this state of the session from all others.
	Revision string
}

// Sessions keeps sessions. Its methods may be called by any number of goroutines at once.
// They keep nothing of what they are given. A medium's Bus implements it where
// the medium can keep things; the server finds it by assertion. recoverytest holds the
// tests that each must pass.
type Sessions interface {
	// Create stores s for ttl, over whatever was there, and sets s.Revision.
	Create(ctx context.Context, s *Session, ttl time.Duration) error

	// Update stores the states of ss, each for ttl from now, and sets their revisions. What
	// it returns in taken was not stored, because the store holds no session of that id, or one with
	// another revision: somebody else has taken it, or its time was up. After an error some
	// may be stored: those have a new revision. Updating one session is for one goroutine at a time.
	Update(ctx context.Context, ss []*Session, ttl time.Duration) (taken []*Session, err error)

	// Take returns a session, with the revision that it was last stored under, and removes it, as one step:
	// of several who try, one gets it. For the others, and after the time is up, the error wraps
	// ErrUnknown. Any other error says that the store is away.
	Take(ctx context.Context, pid string) (*Session, error)

	// Drop removes s, if its revision is still the store's. If not, it does nothing and returns nil.
	Drop(ctx context.Context, s *Session) error
}
