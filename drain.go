package atoll

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atollhq/atoll/engine"
)

// ErrDrain is below the cause of a socket whose client was asked to go because its node is being emptied
// ([Server.Drain]): errors.Is(context.Cause(s.Context()), ErrDrain). The reason is ReasonShutdown.
var ErrDrain = errors.New("atoll: the node is being drained")

// ErrUndrained is returned by Drain where [Server.Undrain] ended it.
var ErrUndrained = errors.New("atoll: the drain was given up")

// A DrainError is returned by Drain where clients were cut off because they had not gone in time.
type DrainError struct {
	Cut int   // sessions
	Err error // why the time was up: the cause of a context; nil for DrainOptions.Window
}

func (e *DrainError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("atoll: drain: %d sessions were left at the end of DrainOptions.Window, and were cut off", e.Cut)
	}
	return fmt.Sprintf("atoll: drain: %d sessions were left, and were cut off: %v", e.Cut, e.Err)
}

func (e *DrainError) Unwrap() error { return e.Err }

// DrainOptions say how a server is emptied. A nil *DrainOptions has all the defaults.
type DrainOptions struct {
	// Lead is how long the server goes on as ever while its health (Server.Health) is 503 already, so
	// that balancers send nobody any more before sessions are refused. It should be longer than
	// a balancer takes to notice. If zero, 5 seconds. If negative, there is none.
	Lead time.Duration

	// Window is how long clients have to go, after Lead: a few at a time are asked, and those that
	// are left at its end are cut off. If zero, 30 seconds, or half as long again as Rate needs where that
	// is more, up to a day. If negative, all are asked at once and have Engine.CloseGrace to go.
	Window time.Duration

	// Rate is how many sessions are asked to go in a second. Each of them connects anew to another node,
	// a moment later, so it is how many handshakes the other nodes get besides. If zero, as many as
	// Window needs, with some of it left for those that are busy, and 50 at least; likewise if it is negative or
	// no number. What is less than 0.01 counts as that, what is more than a million as a million.
	Rate float64

	// Local is for Options.Drain: with it, other programs of the cluster (`atoll drain`) cannot drain the
	// server. Who can publish on the cluster's medium can disconnect its clients in any case.
	Local bool
}

const (
	leastRate   = 50 // sessions that are asked in a second where nobody said how many
	usualWindow = 30 * time.Second
	mostWindow  = 24 * time.Hour // where it follows from Rate

	slowest, fastest = 0.01, 1e6 // of DrainOptions.Rate
)

func (o *DrainOptions) lead() time.Duration {
	if o.Lead == 0 {
		return 5 * time.Second
	}
	return max(o.Lead, 0)
}

// rate is Rate within its limits; zero: none was given.
func (o *DrainOptions) rate() float64 {
	if !(o.Rate > 0) { // nor is NaN
		return 0
	}
	return min(max(o.Rate, slowest), fastest)
}

// A DrainState says how far a server is with being emptied.
type DrainState string

// The states.
const (
	Serving   DrainState = "serving"   // it is not being emptied
	Announced DrainState = "announced" // its health is 503, and all goes on (DrainOptions.Lead)
	Draining  DrainState = "draining"  // new sessions are refused, and clients are asked to go
	Drained   DrainState = "drained"   // they have gone
)

// DrainStats say how far a drain is.
type DrainStats struct {
	State DrainState
	Left  int   // sessions that are still there; 0 while the server is serving
	Asked int64 // sessions that were asked to go, since the server's start
	Cut   int64 // of these and others, those that were cut off
}

// drainage is what a server knows of being emptied.
type drainage struct {
	mu         sync.Mutex
	state      DrainState // empty: Serving
	run        *drain     // the one that is going on
	down       bool       // by Shutdown or Close: no more drains
	asked, cut int64
}

// A drain is one that is going on. What changes is under the drainage's mu.
type drain struct {
	window time.Duration // DrainOptions.Window; it counts until the window begins
	rate   float64       // sessions in a second, at least
	even   bool          // more where the window needs more
	lead   time.Time     // when Lead ends
	grace  time.Duration // of a window that is negative
	calm   time.Time     // until when those that are busy are left alone
	end    time.Time     // when the window ends; zero while Lead goes on
	hasty  error         // a context has ended: cut what is left
	gaveUp error         // why it ended early, without cutting: ErrUndrained, or ErrClosed by Shutdown
	kick   chan struct{} // something of this changed
	done   chan struct{}
	result error // before done is closed
}

// Drain empties the server, so that its clients are on other nodes when it ends. Without losing anything, since the
// official client reconnects by itself when its connection ends; with [Options.Recovery] it has its
// session then, and gets what was sent meanwhile.
//
//  1. Health says 503 at once, and for DrainOptions.Lead all else goes on, so that balancers notice.
//  2. New sessions are refused, with status 503. Those that are there are asked to go, at a pace, spread
//     evenly within DrainOptions.Window: idle ones first, then those that are sending, and those with something
//     under way (a message that arrives, a handler that runs, an ack that is awaited) when that is done, or
//     three quarters of the window are over. Each gets what is queued for it, and its handlers get what it
//     had sent. No client is told that it is disconnected from a namespace.
//  3. At the end of the window, or when ctx ends, those that are left are cut off.
//
// WebSockets of other nodes' sessions that are only passed through this node (ForwardOptions) are neither counted nor asked: they go
// on until Shutdown or Close, which cut them, and their clients reconnect.
//
// Drain returns when no session is left: nil, or a *DrainError where some were cut off. The server
// goes on refusing sessions, until [Server.Undrain] or its end; follow with Shutdown to end it. A nil o is
// Options.Drain.
//
// A call while a drain goes on joins it and speeds it up, where o says so: the shorter Lead and Window count, and
// the higher Rate, from the moment of the call. Shutdown and Close end a drain; then it returns nil.
func (srv *Server) Drain(ctx context.Context, o *DrainOptions) error {
	handoff(ctx)
	d, err := srv.beginDrain(o)
	if d == nil {
		return err
	}
	select {
	case <-d.done:
		return d.result
	case <-ctx.Done():
	}
	srv.drain.mu.Lock()
	if d.hasty == nil {
		d.hasty = context.Cause(ctx)
	}
	srv.drain.mu.Unlock()
	d.wake()
	<-d.done // it waits for nobody any more
	return d.result
}

// beginDrain begins a drain, or speeds up the one that goes on. It returns nil where all is done.
func (srv *Server) beginDrain(o *DrainOptions) (*drain, error) {
	if o == nil {
		o = srv.opts.Drain
	}
	if o == nil {
		o = new(DrainOptions)
	}
	grace := srv.opts.Engine.CloseGrace
	if grace <= 0 {
		grace = 5 * time.Second // as the engine
	}
	now := time.Now()
	x := &srv.drain
	x.mu.Lock()
	if x.down || x.state == Drained {
		x.mu.Unlock()
		return nil, nil
	}
	if d := x.run; d != nil {
		d.hurry(o, now)
		x.mu.Unlock()
		d.wake()
		return d, nil
	}
	d := &drain{
		window: o.Window, rate: o.rate(), even: o.rate() == 0, lead: now.Add(o.lead()), grace: grace,
		kick: make(chan struct{}, 1), done: make(chan struct{}),
	}
	x.run, x.state = d, Announced
	srv.work.Go(func() { srv.drainOut(d) }) // before x.mu is free: Shutdown waits for it
	x.mu.Unlock()
	srv.log.Info("draining: the health of this node is 503, and clients will be asked to go", "lead", o.lead(), "sessions", srv.eng.Stats().Sessions)
	return d, nil
}

// hurry makes d as fast as o wants it. The drainage's mu is held.
func (d *drain) hurry(o *DrainOptions, now time.Time) {
	if t := now.Add(o.lead()); t.Before(d.lead) {
		d.lead = t
	}
	d.rate = max(d.rate, o.rate())
	if o.Window == 0 {
		return
	}
	d.even = d.even || o.rate() == 0
	if d.end.IsZero() {
		if d.window == 0 || o.Window < d.window {
			d.window = o.Window
		}
	} else if o.Window < 0 || now.Add(o.Window).Before(d.end) {
		d.begin(o.Window, now)
	}
}

// wake has the drain look at what has changed.
func (d *drain) wake() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// Undrain gives up a drain, also one that is done: the server is healthy and takes sessions again. Clients that have gone
// stay where they are. It reports false, and does nothing, where there was no drain, or the server is shut down.
func (srv *Server) Undrain() bool {
	x := &srv.drain
	x.mu.Lock()
	d := x.run
	if x.down || d == nil && x.state != Drained {
		x.mu.Unlock()
		return false
	}
	if d != nil {
		d.gaveUp = ErrUndrained
	}
	x.state = Serving
	x.run = nil
	srv.eng.Refuse(0)
	x.mu.Unlock()
	if d != nil {
		d.wake()
		<-d.done
	}
	srv.log.Info("the drain was given up: this node takes sessions again")
	return true
}

// endDrain ends a drain because the server ends.
func (srv *Server) endDrain() {
	x := &srv.drain
	x.mu.Lock()
	defer x.mu.Unlock()
	x.down = true
	if d := x.run; d != nil {
		if d.gaveUp == nil {
			d.gaveUp = ErrClosed
		}
		d.wake()
	}
}

// stats returns how far the drain is, and whether the server is shut down.
func (x *drainage) stats(eng *engine.Server) (s DrainStats, down bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s = DrainStats{State: x.state, Asked: x.asked, Cut: x.cut}
	if s.State == "" {
		s.State = Serving
	}
	if s.State != Serving || x.down {
		s.Left = eng.Stats().Sessions
	}
	return s, x.down
}
