// Package demo is what `atoll demo` shows: a chat on several nodes, each a process of
// its own, behind the load balancer, with a page that draws the cluster while it works.
//
// The parent process ([Run]) serves the page, runs the balancer, and starts and ends the
// nodes ([Supervisor]). It is a member of the cluster itself, which is how it hears what
// the nodes report and every message that is said. The nodes ([RunNode]) are the same
// program again; they serve the chat, and nothing of it depends on the parent: what was
// said lately is in the memory of every node, and a new node asks the others for it.
//
// Browsers hold two connections: one through the balancer to some node, for the chat,
// and one to the parent, for the picture, so that the picture goes on while nodes die.
package demo
