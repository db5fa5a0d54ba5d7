package cluster

import (
	"context"
	"slices"
	"sync"
)

// expected is whom a question waits for.
type expected struct {
	members map[string]bool // which of the members; nil means all
	counted bool            // the medium was asked how many will answer
	total   int             // where counted: how many will answer, with and without a name
	exact   bool            // where counted: members and total tell who will answer without a name
}

// expect finds out whom to wait for in a namespace. Where the dialect has to count, it
// counts subscribers, and two things disturb: a member may not have opened the namespace, and
// a ghost (a frozen process) may still be subscribed though nobody should wait for it.
// Both are seen by whether the topics that only they have are subscribed to.
func (n *Node) expect(ctx context.Context, namespace string) (expected, error) {
	x, ok := n.dialect.(Expecter)
	if !ok {
		return expected{}, nil
	}
	e, self := expected{counted: true}, n.self.ID
	if _, ok := n.dialect.(Observable); ok && n.o.Observer {
		self = "" // it is not among those that are counted
	}
	c, ok := n.bus.(Counter)
	if !ok || n.topicOf("probe", namespace) == "" {
		var err error
		e.total, err = x.Expect(ctx, n.bus, self, namespace)
		return e, err
	}

	n.mu.Lock()
	ids := make([]string, 0, len(n.peers)+len(n.ghosts))
	for id := range n.peers {
		ids = append(ids, id)
	}
	members := len(ids)
	for id := range n.ghosts {
		ids = append(ids, id)
	}
	n.mu.Unlock()

	// All at once: a client that pipelines makes one round trip of it.
	counts := make([]int, len(ids))
	errs := make([]error, len(ids)+1)
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() { counts[i], errs[i] = c.Count(ctx, n.topicOf(id, namespace)) })
	}
	e.total, errs[len(ids)] = x.Expect(ctx, n.bus, self, namespace)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return expected{}, err
		}
	}
	e.exact = true
	e.members = make(map[string]bool, members)
	for i, id := range ids {
		switch {
		case counts[i] == 0:
		case i < members:
			e.members[id] = true
		case e.total > 0:
			e.total--
		}
	}
	return e, nil
}

// topicOf returns a topic of the namespace that only the node with the given id
// subscribes to, and nothing where the dialect has no such topics.
func (n *Node) topicOf(id, namespace string) string {
	ours := n.dialect.Topics(n.self.ID, namespace)
	for _, topic := range n.dialect.Topics(id, namespace) {
		if !slices.Contains(ours, topic) {
			return topic
		}
	}
	return ""
}
