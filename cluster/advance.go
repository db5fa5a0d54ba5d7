package cluster

import (
	"context"
	"fmt"
)

// Advance moves Position on to the end of the log where nothing was kept in the namespace in between. A log that
// several namespaces share forgets, while the others go on, where a quiet one stood. It reads what is in the log
// behind the position.
func (n *Node) Advance(ctx context.Context, namespace string) error {
	from := n.Position(namespace)
	log, ok := n.logbook.log.(Ender)
	if from == "" || !ok {
		return nil
	}
	topic, err := n.keptTopic(namespace)
	if err != nil {
		return fmt.Errorf("cluster: advance: %w", err)
	}
	end, err := log.End(ctx, topic)
	if err != nil {
		return fmt.Errorf("cluster: advance: %w", err)
	}
	b := &n.logbook
	if b.log.Compare(end, from) <= 0 {
		return nil
	}
	for r, err := range b.log.Since(ctx, topic, from) {
		if err != nil {
			return fmt.Errorf("cluster: advance: %w", err)
		}
		if b.log.Compare(r.Offset, end) <= 0 {
			return nil // it moves by itself
		}
		break
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at[topic] == from {
		b.at[topic] = end
	}
	return nil
}
