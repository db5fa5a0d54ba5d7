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
	// ErrTaken says that somebody else has taken the session meanwhile.
	ErrTaken = errors.New("recovery: the session was taken")
)

// A Session is what is kept of a socket.
type Session struct {
	PID   string   // the private id, which only the client knows
	SID   string   // the socket's id
	Rooms []string // the socket's own among them
	Data  []byte   // JSON of the socket's data; nil for none

	// Revision is the store's: it tells this state of the session from all others.
	Revision string
}

// Sessions keeps sessions. Its methods may be called by any number of goroutines at once.
// A medium's Bus implements it where the medium can keep things; the server finds it by assertion.
type Sessions interface {
	// Create stores s for ttl, over whatever was there, and sets s.Revision.
	Create(ctx context.Context, s *Session, ttl time.Duration) error

	// Update stores the states of ss, each for ttl from now, and sets their revisions. What
	// it returns in taken was not stored, because the store holds no session of that id, or one with another
	// revision: somebody else has taken it.
	Update(ctx context.Context, ss []*Session, ttl time.Duration) (taken []*Session, err error)

	// Take returns a session and removes it, as one step: of several who try, one gets it.
	// For the others, and after the time is up, the error wraps ErrUnknown.
	Take(ctx context.Context, pid string) (*Session, error)

	// Drop removes s, if its revision is still the store's.
	Drop(ctx context.Context, s *Session) error
}
