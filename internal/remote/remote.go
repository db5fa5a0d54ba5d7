// Package remote holds what programs ask of the nodes of a cluster beyond Socket.IO, as server-side events of the
// namespace "/" whose names begin with "atoll:". Other servers have no handler for these.
package remote

// Drain is the event with which a node is drained: its argument is a DrainOrder, its answer a DrainReport. Each
// node answers, so that who asks sees them all, but only Node obeys.
const Drain = "atoll:drain"

// What a DrainOrder has a node do.
const (
	Begin  = "drain"
	Undo   = "undrain"
	Report = "" // nothing
)

// A DrainOrder is what a node is asked to do.
type DrainOrder struct {
	Node   string  `json:"node,omitempty"`   // its id
	Do     string  `json:"do,omitempty"`     // one of the words above
	Lead   int64   `json:"lead,omitempty"`   // milliseconds; the fields of atoll.DrainOptions. All zero: what the node is set to
	Window int64   `json:"window,omitempty"` // milliseconds
	Rate   float64 `json:"rate,omitempty"`
}

// A DrainReport is how far a node is.
type DrainReport struct {
	ID    string `json:"id"`
	Name  string `json:"name,omitempty"`
	Tag   string `json:"tag"`
	State string `json:"state"` // an atoll.DrainState, or "shutting down"
	Left  int    `json:"left"`  // sessions, also where nothing is drained
	Asked int64  `json:"asked"`
	Cut   int64  `json:"cut"`
	Error string `json:"error,omitempty"` // why the order was not obeyed
}
