package cluster

// Lanes returns how many lanes the node numbers, besides that of all, and how many it follows.
func (n *Node) Lanes() (out, in int) {
	n.outlet.mu.Lock()
	out = len(n.outlet.lanes) + len(n.outlet.direct)
	n.outlet.mu.Unlock()
	n.hold.mu.Lock()
	defer n.hold.mu.Unlock()
	return out, len(n.hold.lanes)
}
