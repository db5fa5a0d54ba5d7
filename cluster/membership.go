package cluster

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/atollhq/atoll/internal/sid"
)

// A peer is a member other than ourselves.
type peer struct {
	Member
	life  uint64
	tag   sid.Tag
	heard time.Time
}

// A ghost is a member that fell silent. Its process may be frozen, and its
// subscriptions may still be counted by the medium.
type ghost struct {
	Member
	since time.Time
}

const (
	ghostsStay = 5 * time.Minute
	helloGap   = 10 * time.Millisecond // between two announcements

	// Whoever can publish can announce members. A cluster is not that large.
	maxPeers  = 4096
	maxGhosts = 4096
	maxName   = 256 // bytes of a name
)

// Peers returns the other members of the cluster, the longest-standing first.
func (n *Node) Peers() []Member {
	n.mu.Lock()
	ms := make([]Member, 0, len(n.peers))
	for _, p := range n.peers {
		ms = append(ms, p.Member)
	}
	n.mu.Unlock()
	slices.SortFunc(ms, func(a, b Member) int {
		if c := a.Started.Compare(b.Started); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return ms
}

// heard takes in an announcement.
func (n *Node) heard(m *Message) {
	now := time.Now()
	member := *m.Member
	member.ID = m.From
	if len(member.Name) > maxName {
		member.Name = strings.ToValidUTF8(member.Name[:maxName], "")
	}

	n.mu.Lock()
	old := n.peers[m.From]
	if old != nil && old.life == m.Life {
		old.heard = now
		if old.Routes != member.Routes || old.Strange != member.Strange {
			old.Routes, old.Strange = member.Routes, member.Strange
			n.reroute()
		}
		n.mu.Unlock()
		return
	}
	if old == nil && len(n.peers) >= maxPeers {
		n.mu.Unlock()
		n.count.refused.Add(1)
		n.warn("peers", "cluster: more nodes announce themselves than a cluster can have; the new ones are not members", "max", maxPeers, "from", m.From)
		return
	}
	n.peers[m.From] = &peer{Member: member, life: m.Life, tag: sid.TagOf(m.From), heard: now}
	delete(n.ghosts, m.From)
	n.membersChanged()
	if old != nil { // it was restarted, and was so quick that nobody missed it
		n.tellMember(old.Member, false, true)
	}
	n.tellMember(member, true, false)
	qs := n.asking(old != nil)
	n.mu.Unlock()

	n.count.joins.Add(1)
	if old != nil {
		n.count.deaths.Add(1)
	}
	for _, q := range qs {
		q.lose(m.From)
	}
	signal(n.hello) // it does not know us either
}

// touch notes that a member was heard.
func (n *Node) touch(id string) {
	if id == "" {
		return
	}
	n.mu.Lock()
	if p := n.peers[id]; p != nil {
		p.heard = time.Now()
	}
	n.mu.Unlock()
}

// left takes in a goodbye. That of an earlier life is not for the member that is there now.
func (n *Node) left(id string, life uint64) {
	n.mu.Lock()
	p := n.peers[id]
	if p == nil || p.life != life {
		n.mu.Unlock()
		return
	}
	delete(n.peers, id)
	n.membersChanged()
	n.tellMember(p.Member, false, false)
	qs := n.asking(true)
	n.mu.Unlock()

	n.count.leaves.Add(1)
	for _, q := range qs {
		q.lose(id)
	}
}

// bury removes the members that were silent for too long.
func (n *Node) bury(now time.Time) {
	n.mu.Lock()
	var ids []string
	for id, p := range n.peers {
		if now.Sub(p.heard) > n.o.DeadAfter {
			ids = append(ids, id)
			delete(n.peers, id)
			n.haunt(ghost{p.Member, now})
			n.tellMember(p.Member, false, true)
		}
	}
	for id, g := range n.ghosts {
		if now.Sub(g.since) > ghostsStay {
			delete(n.ghosts, id)
		}
	}
	n.unwatched(now)
	if len(ids) > 0 {
		n.membersChanged()
	}
	qs := n.asking(len(ids) > 0)
	n.mu.Unlock()

	n.count.deaths.Add(uint64(len(ids)))
	for _, q := range qs {
		for _, id := range ids {
			q.lose(id)
		}
	}
}

// haunt remembers a member that fell silent, and forgets the oldest of those where they are too many. n.mu is held.
func (n *Node) haunt(g ghost) {
	if len(n.ghosts) >= maxGhosts {
		oldest := g
		for _, x := range n.ghosts {
			if x.since.Before(oldest.since) {
				oldest = x
			}
		}
		if oldest.ID == g.ID {
			return
		}
		delete(n.ghosts, oldest.ID)
	}
	n.ghosts[g.ID] = g
}

// tellMember has the hooks called on the loop. n.mu is held, so that the calls are in order.
func (n *Node) tellMember(m Member, up, died bool) {
	leave, member := n.o.OnLeave, n.o.OnMember
	if !up && leave != nil {
		n.inbox.put(work{hook: func() { leave(m, died) }}, 0)
	}
	if member != nil {
		n.inbox.put(work{hook: func() { member(m, up) }}, 0)
	}
}

// gap takes note of lost messages.
func (n *Node) gap(from string, first, last uint64) {
	n.count.gaps.Add(last - first + 1)
	n.inbox.put(work{hook: func() {
		n.warn("gap", "cluster: messages of another node were lost on the way", "from", from, "first", first, "last", last)
		if f := n.o.OnGap; f != nil {
			f(from, first, last)
		}
	}}, 0)
}

// rival takes note of another node that announces itself with our id.
func (n *Node) rival(m *Message) {
	n.warn("rival", "cluster: another node has the same id; neither hears the other", "id", n.self.ID)
	if m.Member != nil && m.Member.Started.After(n.self.Started) {
		signal(n.hello) // it came after us, and shall find out in its Join
		return
	}
	signal(n.rivals)
}

// announce publishes "I am here", or an observer's call to the members to say so.
func (n *Node) announce(ctx context.Context) error {
	self := n.self
	n.mu.Lock()
	self.Strange = n.strange.is
	n.mu.Unlock()
	if self.Observer = n.o.Observer; self.Observer {
		self.Routes = n.o.RouteRooms || n.receiver.Load() == nil
	}
	topic, data, err := n.encode(&Message{Kind: Heartbeat, Member: &self})
	if err != nil {
		return err
	}
	return n.publish(ctx, topic, data)
}

// pulse announces the node, regularly and when somebody new was heard.
func (n *Node) pulse() {
	tick := time.NewTicker(n.o.Heartbeat)
	defer tick.Stop()
	rest := time.NewTimer(helloGap)
	defer rest.Stop()
	for {
		select { // a crowd that comes at once gets one answer
		case <-rest.C:
		case <-n.ctx.Done():
			return
		}
		select {
		case <-tick.C:
		case <-n.hello:
		case <-n.ctx.Done():
			return
		}
		if n.o.Observer && (n.o.RouteRooms || n.receiver.Load() == nil) {
			rest.Reset(helloGap)
			continue
		}
		ctx, cancel := context.WithTimeout(n.ctx, n.o.Heartbeat)
		if err := n.announce(ctx); err != nil && n.ctx.Err() == nil {
			n.warn("away", "cluster: the bus is away: other nodes are not reached", "err", err)
		}
		cancel()
		rest.Reset(helloGap)
	}
}

// watch looks for members that fell silent and messages that never came.
func (n *Node) watch() {
	tick := time.NewTicker(max(n.o.Heartbeat/4, time.Millisecond))
	defer tick.Stop()
	last := time.Now()
	calm := calm{last}
	swept, full := last, uint64(0)
	for {
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
		now := time.Now()
		if now.Sub(last) > n.o.DeadAfter/2 {
			n.excuse(now) // we were frozen, and what they said waits to be read
		}
		last = now
		calm.look(n, now)
		n.bury(now)
		n.tidy(now, &swept, &full)
	}
}

// excuse gives every member a fresh start.
func (n *Node) excuse(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.peers {
		p.heard = now
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
