package forward

import (
	"context"
	"time"
)

// Leave tells the other nodes that this one is about to go: what waits at them for clients of this one is answered soon (see
// [Way.Leaving]), and so is what comes later. It does not wait until they know. Forward goes on until Close.
func (p *Peers) Leave() {
	if p.leaving.Swap(true) {
		return
	}
	for _, x := range p.view.Load().peers {
		x.mu.Lock()
		outs, _ := x.lines()
		x.mu.Unlock()
		for _, o := range outs {
			o.say(kindLeave, 0)
		}
	}
}

// Settle waits until no request or question is under way, neither of this node nor of another, but for connections that are passed
// through, and every answer is written, or ctx ends: who then calls Close cuts nothing off. It should be called when handlers end
// soon, here and, after Leave, at the other nodes. It reports whether all had an answer.
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
		outs, ins := x.lines()
		x.mu.Unlock()
		for _, in := range ins {
			if !in.settled() {
				return false
			}
		}
		for _, o := range outs {
			if !o.settled() {
				return false
			}
		}
	}
	return true
}

func (in *inbound) settled() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.dead || in.active() == 0 && !in.busy && len(in.pending) == 0
}

func (o *outbound) settled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead {
		return true
	}
	for _, c := range o.calls {
		if !c.passed {
			return false
		}
	}
	return true
}
