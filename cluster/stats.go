package cluster

import "sync/atomic"

// Stats is what a node has counted since it joined, and what it holds now.
type Stats struct {
	Published uint64 // messages given to the bus: operations, questions, answers, heartbeats
	Lost      uint64 // messages that the bus did not take
	Received  uint64 // messages for this node, decoded

	Malformed  uint64 // messages that could not be decoded; dropped
	Duplicates uint64 // messages that came again; dropped
	Dropped    uint64 // operations that found the queue full (MaxQueue)
	Unattached uint64 // operations that came before a server was attached; dropped
	Stray      uint64 // answers that nobody waited for any more
	Trimmed    uint64 // times that the log had dropped what this node had yet to read
	Gaps       uint64 // messages of other nodes that did not come in time

	Asks    uint64 // questions asked
	Absent  uint64 // questions that ended with an AbsentError
	Answers uint64 // answers received

	Joins  uint64 // members seen to come, ourselves not among them
	Leaves uint64 // members that said goodbye
	Deaths uint64 // members that fell silent

	Peers   int   // members now, without ourselves
	Open    int   // questions that wait now
	Waiting int64 // bytes of operations that wait to be performed now
}

type counters struct {
	published, lost, received                         atomic.Uint64
	malformed, duplicates, dropped, unattached, stray atomic.Uint64
	trimmed, gaps, asks, absent, answers                       atomic.Uint64
	joins, leaves, deaths                             atomic.Uint64
}

// Stats returns the node's counters. Any number of goroutines may call it.
func (n *Node) Stats() Stats {
	c := &n.count
	s := Stats{
		Published: c.published.Load(), Lost: c.lost.Load(), Received: c.received.Load(),
		Malformed: c.malformed.Load(), Duplicates: c.duplicates.Load(), Dropped: c.dropped.Load(),
		Unattached: c.unattached.Load(), Stray: c.stray.Load(), Gaps: c.gaps.Load(),
		Asks: c.asks.Load(), Absent: c.absent.Load(), Answers: c.answers.Load(),
		Joins: c.joins.Load(), Leaves: c.leaves.Load(), Deaths: c.deaths.Load(),
		Waiting: n.inbox.size(),
	}
	n.mu.Lock()
	s.Peers, s.Open = len(n.peers), len(n.questions)
	n.mu.Unlock()
	return s
}
