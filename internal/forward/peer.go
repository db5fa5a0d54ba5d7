package forward

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/cluster"
)

const (
	firstPause   = 250 * time.Millisecond // until a link is tried again
	longestPause = 15 * time.Second
	stable       = 10 * time.Second // a link that lived so long is no sign of trouble

	// See "A node that is killed" in the documentation of the package.
	dialWithin   = 5 * time.Second        // at one URL
	redialWithin = time.Second            // likewise, of a node that had a link a moment ago
	greetWithin  = 2 * time.Second        // until a node has to say its first word
	greetDead    = 500 * time.Millisecond // one that takes no connections any more
	greetAgain   = 250 * time.Millisecond // a message may be lost

	greetRefusing = 50 * time.Millisecond // likewise, where the node takes no connections any more

	// In ticks, which are seconds.
	pingAfter   = 4  // silence on a line where something is under way
	pongWithin  = 6  // an answer to a ping
	askerSilent = 30 // who asks is gone
	writeWithin = 10 // one write
	carrierIdle = 60 // a session over the carrier
)

// A peer is one life of another node.
type peer struct {
	p       *Peers
	id      string
	started time.Time

	best atomic.Pointer[outbound] // link, for a quick look

	mu       sync.Mutex
	left     error     // not nil: it is gone, for this reason
	link     *outbound // over which it is asked
	via      *via      // or over this
	inLink   *inbound  // over which it asks
	inVia    *inVia
	inConn   uint64 // the instance that may make links here
	inCount  uint64 // the number of its last link
	greeting *greeting

	greeted    bool // it answered the last greeting
	silent     bool // it did not, and takes no connections either: nobody waits for it
	card       card // with this
	connecting bool
	met        chan struct{} // closed when the first greeting of connect has ended
	next       time.Time     // when connect may run again
	pause      time.Duration
	linked     time.Time // when link was made
	cut        int64     // the tick in which link broke last
	hasty      bool      // one was redialled at once, and did not live long
	complained bool
	replying   bool // to its greeting, or with a reset
	doubted    bool // somebody looks whether it is dead
}

func newPeer(p *Peers, m cluster.Member) *peer {
	return &peer{p: p, id: m.ID, started: m.Started}
}

// reach returns the line to a node.
func (p *Peers) reach(ctx context.Context, node string) (*outbound, error) {
	x := p.view.Load().peers[node]
	if x == nil {
		return nil, fmt.Errorf("%w: %w", ErrAway, errLeft)
	}
	if o := x.best.Load(); o != nil {
		return o, nil
	}
	return x.reach(ctx)
}

// reach returns the link, or the session over the carrier while there is none. It waits until the node has said once
// that it is there to be asked.
func (x *peer) reach(ctx context.Context) (*outbound, error) {
	for {
		x.mu.Lock()
		switch {
		case x.left != nil:
			defer x.mu.Unlock()
			return nil, fmt.Errorf("%w: %w", ErrAway, x.left)
		case x.link != nil:
			defer x.mu.Unlock()
			return x.link, nil
		}
		if !x.connecting && !time.Now().Before(x.next) {
			x.connecting, x.met = true, make(chan struct{})
			if !x.p.group.Go(x.connect) {
				x.connecting = false
				x.mu.Unlock()
				return nil, ErrClosed
			}
		}
		if x.via == nil && x.greeted && x.met == nil {
			x.via = newVia(x)
		}
		if x.via != nil && (x.met == nil || x.via.out.heard.Load() > x.cut) {
			defer x.mu.Unlock()
			return x.via.out, nil
		}
		met := x.met
		if x.silent {
			met = nil
		}
		x.mu.Unlock()
		if met == nil {
			return nil, fmt.Errorf("%w: it did not answer lately", ErrAway)
		}
		select {
		case <-met:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-x.p.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// connect greets the node, and makes a link to it if it can be reached. One that had a link is dialled first: where
// nobody listens any more it is most likely dead, and who wants something of it should not wait long.
func (x *peer) connect() {
	x.mu.Lock()
	known, again := x.card, !x.linked.IsZero() && len(x.card.urls) > 0
	x.mu.Unlock()
	var o *outbound
	var err error
	refused := false
	within := greetWithin
	if again {
		o, err = x.dial(known, redialWithin)
		if refused = errors.Is(err, errRefused) && !errors.Is(err, context.DeadlineExceeded); refused {
			within = greetDead
		}
	}
	if o == nil {
		h, e := x.greet(within, refused)
		x.mu.Lock()
		x.greeted, x.silent = e == nil, e != nil && refused
		if e == nil {
			x.card = h
		}
		if x.left != nil {
			e = x.left
		}
		x.meet()
		via := x.via
		x.mu.Unlock()
		if e != nil && via != nil {
			via.out.fail(e)
		}
		if err == nil || !slices.Equal(h.urls, known.urls) {
			err = e
			if err == nil {
				o, err = x.dial(h, dialWithin)
			}
		}
	}
	x.mu.Lock()
	x.meet()
	x.connecting = false
	if o != nil && x.left == nil && !o.isDead() {
		x.link, x.linked, x.complained = o, time.Now(), false
		x.best.Store(o)
		x.mu.Unlock()
		if x.p.leaving.Load() { // since a moment ago, when this link was not known
			o.say(kindLeave, 0)
		}
		return
	}
	x.back()
	complain := err != nil && err != errNoURL && x.p.ctx.Err() == nil && x.left == nil && !x.complained
	x.complained = x.complained || complain
	x.mu.Unlock()
	if o != nil {
		o.fail(errLeft) // the node left while it was dialled: nobody else knows of this link
	}
	if complain {
		x.p.log.Warn("forward: no link to another node: requests go over the cluster's carrier, which costs more", "node", x.id, "err", err)
	}
}

// meet lets those go on who wait for the first greeting. x.mu is held.
func (x *peer) meet() {
	if x.met != nil {
		close(x.met)
		x.met = nil
	}
}

// back sets when connect may run again. x.mu is held.
func (x *peer) back() {
	x.pause = min(max(2*x.pause, firstPause), longestPause)
	x.next = time.Now().Add(x.pause)
}

// lost is told that a line has ended.
func (x *peer) lost(o *outbound) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.via != nil && x.via.out == o {
		x.via = nil
	}
	if x.link == o {
		x.link, x.cut = nil, x.p.tick.Load()
		x.best.Store(nil)
		if time.Since(x.linked) >= stable {
			x.pause, x.hasty = 0, false
		}
		switch {
		case x.card.instance == 0: // it forwards no more, as it said: next stays
		case !x.hasty:
			x.hasty, x.next = true, time.Time{}
		default:
			x.back()
		}
	}
}

// lostInbound is told that a line has ended.
func (x *peer) lostInbound(in *inbound) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.inLink == in {
		x.inLink = nil
	}
	if x.inVia != nil && x.inVia.in == in {
		x.inVia = nil
	}
}

// leave ends all lines: the node is gone.
func (x *peer) leave(cause error) {
	x.mu.Lock()
	if x.left == nil {
		x.left = cause
	}
	x.meet() // a dial that hangs holds up nobody
	outs, ins := x.lines()
	met := x.inConn != 0
	x.mu.Unlock()
	if met && cause == ErrClosed {
		x.tell(binary.BigEndian.AppendUint64([]byte{mailVersion, mailBye}, x.p.instance))
	}
	for _, o := range outs {
		o.fail(cause)
	}
	for _, in := range ins {
		in.fail(cause)
	}
}

// lines returns the lines that there are. x.mu is held.
func (x *peer) lines() (outs []*outbound, ins []*inbound) {
	if x.link != nil {
		outs = append(outs, x.link)
	}
	if x.via != nil {
		outs = append(outs, x.via.out)
	}
	if x.inLink != nil {
		ins = append(ins, x.inLink)
	}
	if x.inVia != nil {
		ins = append(ins, x.inVia.in)
	}
	return outs, ins
}

// look looks after the lines, once in a tick.
func (x *peer) look(now int64) {
	x.mu.Lock()
	outs, ins := x.lines()
	carried := x.via != nil || x.inVia != nil
	x.mu.Unlock()
	if carried {
		x.doubt()
	}
	idle := int64(x.p.o.Idle / time.Second)
	for _, o := range outs {
		limit := max(idle, 1)
		if o.carrier {
			limit = carrierIdle
		}
		o.look(now, limit)
	}
	for _, in := range ins {
		in.look(now, max(idle, carrierIdle)+carrierIdle)
	}
}

func (o *outbound) look(now, idle int64) {
	o.mu.Lock()
	active, since := len(o.calls) > 0, o.idle
	if !active && now-since >= idle {
		o.failLocked(errIdle)
		return
	}
	o.mu.Unlock()
	switch at := o.pinged.Load(); {
	case o.stuck(now):
	case at != 0 && now-at >= pongWithin:
		o.fail(errSilent)
	case at == 0 && active && now-o.heard.Load() >= pingAfter:
		o.pinged.Store(now)
		o.say(kindPing, 0)
	}
}

func (in *inbound) look(now, idle int64) {
	in.mu.Lock()
	active, since := in.active() > 0, in.idle
	if !active && now-since >= idle {
		in.failLocked(errIdle)
		return
	}
	in.mu.Unlock()
	if !in.stuck(now) && active && now-in.heard.Load() >= askerSilent {
		in.fail(errSilent)
	}
}

// stuck ends a line whose write takes too long, and reports whether it did.
func (l *line) stuck(now int64) bool {
	at := l.begun.Load()
	if at == 0 || now-at < writeWithin {
		return false
	}
	l.fail(errStuck)
	return true
}
