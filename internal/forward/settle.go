package forward

import (
	"context"
	"time"
)

// Settle waits until no request or question of another node is being served here and every answer is written, or ctx ends: who
// then calls Close cuts nothing off. It should be called when handlers end soon. It reports whether all had an answer.
func (p *Peers) Settle(ctx context.Context) bool {
	for !p.settled() {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (p *Peers) settled() bool {
	for _, x := range p.view.Load().peers {
		x.mu.Lock()
		_, ins := x.lines()
		x.mu.Unlock()
		for _, in := range ins {
			in.mu.Lock()
			quiet := in.dead || in.active() == 0 && !in.busy && len(in.pending) == 0
			in.mu.Unlock()
			if !quiet {
				return false
			}
		}
	}
	return true
}
