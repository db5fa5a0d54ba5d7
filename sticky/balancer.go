package sticky

import (
	"context"
	"maps"
	"net"
	"net/http/httputil"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/internal/sid"
)

// A Balancer spreads the sessions of Socket.IO clients over nodes. Make one with [New], end
// it with [Balancer.Shutdown] or [Balancer.Close]. Any number of goroutines may use it.
type Balancer struct {
	o     Options                 // as at the beginning
	live  atomic.Pointer[Options] // with what Reconfigure has changed
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	proxy *httputil.ReverseProxy
	front *front
	table *sessions
	start time.Time

	view    atomic.Pointer[view]
	turn    atomic.Uint64 // of the round robin
	picking sync.Mutex    // a choice by load and its reservation are one step

	cookies    *memory[*backend] // of nodes
	opening    bucket
	perAddress *buckets
	retry      budget
	refused    [reasons]atomic.Uint64
	latency    [operations]histogram
	changes    atomic.Uint64 // successful calls of Reconfigure
	failures   atomic.Uint64 // and others, and of ReloadFailed

	changing sync.Mutex                 // held while backends or options change; before mu
	found    []*finding                 // of each Discovery; changing guards it
	finders  atomic.Pointer[[]*finding] // found
	fixed    []Backend                  // those not found by discovery; changing guards it

	mu      sync.Mutex // guards what follows, and changes of view
	closed  bool       // no new sessions
	cut     bool       // nothing any more
	calls   map[*call]struct{}
	running sync.WaitGroup
	sweeper context.CancelFunc
	keepers sync.WaitGroup // the sweeper and what discovers
}

// A view is the set of nodes at a moment. It is never changed.
type view struct {
	list []*backend
	tags map[sid.Tag]*backend
}

// New starts a balancer. It returns at once: requests that come before the first
// health checks wait for these.
func New(opts *Options) (*Balancer, error) {
	d := &net.Dialer{KeepAlive: -1} // health checks find nodes that are gone
	return newBalancer(opts, d.DialContext)
}

func newBalancer(opts *Options, dial func(context.Context, string, string) (net.Conn, error)) (*Balancer, error) {
	o, err := opts.fill()
	if err != nil {
		return nil, err
	}
	l := &Balancer{
		o: o, dial: dial, start: time.Now(), calls: make(map[*call]struct{}),
		cookies: newMemory[*backend](100_000), perAddress: newBuckets(100_000),
		table: newSessions(o.MaxSessions, o.SessionIdle),
	}
	l.live.Store(&o)
	l.proxy = l.newProxy()
	l.front = l.newFront()
	l.view.Store(&view{})
	ctx, cancel := context.WithCancel(context.Background())
	l.sweeper = cancel
	l.keepers.Go(func() { l.sweep(ctx) })
	if err := l.SetBackends(o.Backends...); err != nil {
		l.Close()
		return nil, err
	}
	if err := l.discover(ctx, o.Discover); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// rules returns the options of now.
func (l *Balancer) rules() *Options { return l.live.Load() }

// sweep forgets silent sessions until ctx ends.
func (l *Balancer) sweep(ctx context.Context) {
	t := time.NewTicker(l.front.pace())
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			l.front.sweep(now)
			for _, b := range l.view.Load().list {
				b.pool.prune(now.Add(-l.o.IdleTimeout))
			}
			for l.table.sweep(now) {
			}
			l.retire(now)
		}
	}
}

// retag makes a new view after a node told its tag.
func (l *Balancer) retag() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setView(l.view.Load().list)
}

// setView makes a view of list. l.mu is held.
func (l *Balancer) setView(list []*backend) {
	v := &view{list: list, tags: make(map[sid.Tag]*backend)}
	for _, b := range list {
		b.mu.Lock()
		tag, ok := b.tag, b.tagged
		b.mu.Unlock()
		// Of two that claim one name (a node that moved to another port), the living one has it.
		if ok && (v.tags[tag] == nil || b.serves()) {
			v.tags[tag] = b
		}
	}
	l.view.Store(v)
}

// Drain begins (on) or ends draining the backend with the given URL, as it was given to
// SetBackends, or name. It reports whether there is one.
func (l *Balancer) Drain(backend string, on bool) bool {
	for _, b := range l.view.Load().list {
		b.mu.Lock()
		name := b.name
		b.mu.Unlock()
		if u, err := (Backend{URL: backend}).parse(); name == backend || err == nil && u.String() == b.url.String() {
			b.drain(on)
			return true
		}
	}
	return false
}

// find returns the node of a session, and its pinned entry where there is one; nil
// where the session is on no node that is known.
func (l *Balancer) find(id string) (*backend, *entry) {
	if e := l.table.pin(id); e != nil {
		return e.b, e
	}
	v := l.view.Load()
	if t, ok := sid.TagIn(id); ok {
		if b := v.tags[t]; b != nil {
			return b, nil
		}
	}
	if len(v.list) == 1 {
		return v.list[0], nil // where else?
	}
	return nil, nil
}

// settled waits until nodes were looked for and each was checked once, or ctx ends. It reports whether it had to wait.
func (l *Balancer) settled(ctx context.Context) (waited bool) {
	if all := l.finders.Load(); all != nil {
		for _, f := range *all {
			waited = wait(ctx, f.first, nil) || waited
		}
	}
	for _, b := range l.view.Load().list {
		waited = wait(ctx, b.checked, b.done) || waited
		if ctx.Err() != nil {
			return waited
		}
	}
	return waited
}

// wait waits for a, b or the end of ctx. It reports whether a had not come before.
func wait(ctx context.Context, a, b <-chan struct{}) bool {
	select {
	case <-a:
		return false
	default:
	}
	select {
	case <-a:
	case <-b:
	case <-ctx.Done():
	}
	return true
}

// begin counts a request as running. It reports false when l is closed.
func (l *Balancer) begin(c *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return false
	}
	l.running.Add(1)
	l.calls[c] = struct{}{}
	return true
}

// finish ends what begin began.
func (l *Balancer) finish(c *call) {
	l.note(c)
	l.mu.Lock()
	delete(l.calls, c)
	l.mu.Unlock()
	c.mu.Lock() // waits for hurry
	c.over = true
	c.mu.Unlock()
	l.running.Done()
}

// Shutdown takes no new sessions any more (they get status 503), waits until all that is
// under way has ended, WebSockets included, or ctx has, and then closes l. It returns the
// error of ctx where that was first. Sessions that poll go on until then; to be rid of
// them too, end ctx. Call it beside [http.Server.Shutdown], which does not know of the WebSockets.
func (l *Balancer) Shutdown(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	for _, b := range l.view.Load().list {
		b.drain(true)
	}
	var err error
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for err == nil && l.busy() {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-t.C:
		}
	}
	l.Close()
	return err
}

// busy reports whether anything is under way or a session is remembered.
func (l *Balancer) busy() bool {
	for _, b := range l.view.Load().list {
		if b.active.Load() > 0 || b.sockets.Load() > 0 || b.load() > 0 {
			return true
		}
	}
	return false
}

// Close cuts all that is under way and returns when all goroutines of l have ended. A client
// that does not take its answer then is waited for no longer than a second. It returns nil. It can be called again, and at any time.
func (l *Balancer) Close() error {
	l.mu.Lock()
	l.closed, l.cut = true, true
	list := l.view.Load().list
	calls := slices.Collect(maps.Keys(l.calls))
	l.mu.Unlock()
	l.sweeper()
	l.keepers.Wait()
	for _, b := range list {
		b.remove(errClosed)
	}
	for _, c := range calls {
		c.hurry()
	}
	l.front.close()
	for _, b := range list {
		<-b.done
	}
	l.running.Wait()
	l.front.end()
	for _, b := range list {
		b.transport.CloseIdleConnections()
		b.pool.close()
	}
	return nil
}
