package cluster

import "time"

// A Member is a node as it announces itself.
type Member struct {
	ID      string    // crypto/rand.Text, or what the user chose; not empty
	Name    string    // for people: host and process, or what the user chose
	Started time.Time // when it joined
	Version int       // of the native format it speaks
	Routes  bool      // it subscribes to the rooms that it has members of (Options.RouteRooms)

	// Strange says that it has members of a room that is named like a socket of another member, so that
	// what is for such rooms must go to all.
	Strange bool
	// Observer says that it is no member at all: it asks the members to announce themselves.
	Observer bool
}
