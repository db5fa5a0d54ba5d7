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
	Unattached uint64 // operations that came before a server was attached, and what was sent to a node without Direct; dropped
	Stray      uint64 // answers that nobody waited for any more, and what was for an earlier life of this node
	Trimmed    uint64 // times that the log had dropped what this node had yet to read
	Gaps       uint64 // messages of other nodes that did not come in time, and were reported as lost (OnGap)
	Late       uint64 // messages that came after they were reported as lost; dropped
	Forged     uint64 // messages without the cluster's key (Options.Key); dropped

	Repaired  uint64 // messages of other nodes that came because this node asked for them again
	Resent    uint64 // messages sent again because another node asked for them
	Forgotten uint64 // senders and lanes given up because there were too many to follow

	Asks    uint64 // questions asked
	Absent  uint64 // questions that ended with an AbsentError
	Answers uint64 // answers received

	Joins   uint64 // members seen to come, ourselves not among them
	Leaves  uint64 // members that said goodbye
	Deaths  uint64 // members that fell silent
	Refused uint64 // announcements of nodes beyond the 4,096 that a cluster can have

	Peers   int   // members now, without ourselves
	Open    int   // questions that wait now
	Waiting int64 // bytes of operations that wait to be performed now
	Held    int64 // bytes of operations that wait for others before them now (Options.RepairWait)
	Kept    int64 // bytes kept to be sent again now (Options.Resend)
}

type counters struct {
	published, lost, received                         atomic.Uint64
	malformed, duplicates, dropped, unattached, stray atomic.Uint64
	trimmed, gaps, asks, absent, answers              atomic.Uint64
	joins, leaves, deaths, refused                    atomic.Uint64
	forged, resent                                    atomic.Uint64
}

// Stats returns the node's counters. Any number of goroutines may call it.
func (n *Node) Stats() Stats {
	c := &n.count
	s := Stats{
		Published: c.published.Load(), Lost: c.lost.Load(), Received: c.received.Load(),
		Malformed: c.malformed.Load(), Duplicates: c.duplicates.Load(), Dropped: c.dropped.Load() + n.hold.count.dropped.Load(),
		Unattached: c.unattached.Load(), Stray: c.stray.Load(), Trimmed: c.trimmed.Load(), Gaps: c.gaps.Load(),
		Asks: c.asks.Load(), Absent: c.absent.Load(), Answers: c.answers.Load(),
		Joins: c.joins.Load(), Leaves: c.leaves.Load(), Deaths: c.deaths.Load(), Refused: c.refused.Load(),
		Late: n.hold.count.late.Load(), Forged: c.forged.Load(),
		Repaired: n.hold.count.repaired.Load(), Resent: c.resent.Load(), Forgotten: n.hold.count.forgot.Load(),
		Waiting: n.inbox.size(), Held: n.hold.size(), Kept: n.outlet.size(),
	}
	n.mu.Lock()
	s.Peers, s.Open = len(n.peers), len(n.questions)
	n.mu.Unlock()
	return s
}
