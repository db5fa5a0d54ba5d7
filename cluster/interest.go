package cluster

import "context"

// An AlwaysRouter is a Router whose nodes may have no choice: where Always is true, all
// nodes route, whatever Options.RouteRooms says and whether or not they announce themselves (the
// dynamic modes of the sharded Redis adapter). What Route names no topic for goes to all.
//
// Only an Emit that is told is routed. One for a room that this node has just told
// sockets of other nodes to join is not: it has Routed false, and goes to all.
type AlwaysRouter interface {
	Router
	Always() bool
}

// Enter says that this node has members of rooms that had none. When it returns nil, operations
// for these rooms arrive from every node. It waits for the medium where rooms are routed (see
// Options.RouteRooms and Router), and returns at once where they are not. After an error
// the node goes on trying.
func (n *Node) Enter(ctx context.Context, namespace string, rooms ...string) error { return nil }

// Exit says that this node has no members of rooms any more. It does not wait.
func (n *Node) Exit(namespace string, rooms ...string) {}

// Routes reports whether Enter and Exit do anything, so that who has no rooms to route need not call them.
func (n *Node) Routes() bool { return false }
