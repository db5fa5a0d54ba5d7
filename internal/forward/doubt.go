package forward

import (
	"context"
	"fmt"
	"time"
)

// A node that is asked over the carrier, and was killed, is noticed by what the medium knows: that nobody subscribes for it any more.
// How long it is silent proves nothing, since a machine may keep a process waiting for seconds; but it says when to ask.

const (
	doubtWithin = 500 * time.Millisecond // for the medium to say it
	doubtLate   = 100 * time.Millisecond // by which an announcement may come late without any doubt
)

var errDeaf = fmt.Errorf("%w: nobody listens for it", errLeft)

// doubt sees to it that a node with a session over the carrier is looked after if it stays silent. It is called once in a second.
func (x *peer) doubt() {
	limit := min(x.p.node.Heartbeat(), time.Second) + doubtLate
	wait := limit - x.p.node.Silence(x.id)
	if wait > time.Second {
		return
	}
	x.mu.Lock()
	busy := x.doubted || x.left != nil || x.via == nil && x.inVia == nil
	x.doubted = x.doubted || !busy
	x.mu.Unlock()
	if busy {
		return
	}
	done := func() {
		x.mu.Lock()
		x.doubted = false
		x.mu.Unlock()
	}
	if !x.p.group.Go(func() {
		defer done()
		if x.isDeaf(wait, limit) {
			x.deafen()
		}
	}) {
		done()
	}
}

// isDeaf waits, and then reports whether the node has been silent for as long as limit and the medium says that nobody listens for it. It says so
// twice, as a subscription may be on its way back, and knows that somebody listens for us.
func (x *peer) isDeaf(wait, limit time.Duration) bool {
	n := x.p.node
	for range 2 {
		select {
		case <-time.After(wait):
		case <-x.p.ctx.Done():
			return false
		}
		if n.Silence(x.id) < limit || x.listens(x.id) {
			return false
		}
		wait = greetAgain
	}
	return x.listens(x.p.self) && n.Silence(x.id) >= limit
}

func (x *peer) listens(node string) bool {
	ctx, cancel := context.WithTimeout(x.p.ctx, doubtWithin)
	defer cancel()
	return x.p.node.Listens(ctx, node)
}

// deafen ends what goes over the carrier, so that nobody waits until the cluster declares the node dead. It has to answer a greeting before it
// is asked anything again.
func (x *peer) deafen() {
	x.mu.Lock()
	via, in := x.via.end(), x.inVia.end()
	x.greeted, x.next = false, time.Time{}
	x.mu.Unlock()
	if via != nil {
		via.fail(errDeaf)
	}
	if in != nil {
		in.fail(errDeaf)
	}
}
