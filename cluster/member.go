package cluster

import "time"

// A Member is a node as it announces itself.
type Member struct {
	ID      string    // crypto/rand.Text, or what the user chose; not empty
	Name    string    // for people: host and process, or what the user chose
	Started time.Time // when it joined
	Version int       // of the native format it speaks
}
