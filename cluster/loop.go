package cluster

// Loop calls f on the node's loop, in order with the operations that arrive: all that the node had taken in
// before the call were performed, and none is performed meanwhile. It returns true when f
// has returned, and false where the node was closed before f was called. f must not
// block, and Loop must not be called by Do, by a hook or by f itself.
func (n *Node) Loop(f func()) bool {
	done := make(chan struct{})
	if !n.inbox.put(work{hook: func() { f(); close(done) }}, 0) {
		return false
	}
	select {
	case <-done:
		return true
	case <-n.looped:
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}
