package sticky

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
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
	o     Options
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	proxy *httputil.ReverseProxy
	table *sessions
	start time.Time

	view    atomic.Pointer[view]
	turn    atomic.Uint64 // of the round robin
	picking sync.Mutex    // a choice by load and its reservation are one step

	unavailable atomic.Uint64 // requests that found no node
	unknown     atomic.Uint64 // requests of sessions that are on no node

	mu      sync.Mutex // guards what follows, and changes of view
	closed  bool       // no new sessions
	cut     bool       // nothing any more
	calls   map[*call]struct{}
	running sync.WaitGroup
	sweeper context.CancelFunc
	ended   chan struct{} // closed when the sweeper has ended
}

// A view is the set of nodes at a moment. It is never changed.
type view struct {
	list []*backend
	tags map[sid.Tag]*backend
}

// New starts a balancer. It returns at once: requests that come before the first
// health checks wait for these.
func New(opts *Options) (*Balancer, error) {
	d := &net.Dialer{KeepAlive: 15 * time.Second}
	return newBalancer(opts, d.DialContext)
}

func newBalancer(opts *Options, dial func(context.Context, string, string) (net.Conn, error)) (*Balancer, error) {
	o, err := opts.fill()
	if err != nil {
		return nil, err
	}
	l := &Balancer{
		o: o, dial: dial, start: time.Now(), ended: make(chan struct{}), calls: make(map[*call]struct{}),
		table: newSessions(o.MaxSessions, o.SessionIdle),
	}
	l.proxy = l.newProxy()
	l.view.Store(&view{})
	ctx, cancel := context.WithCancel(context.Background())
	l.sweeper = cancel
	go l.sweep(ctx)
	if err := l.SetBackends(o.Backends...); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// sweep forgets silent sessions until ctx ends.
func (l *Balancer) sweep(ctx context.Context) {
	defer close(l.ended)
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for l.table.sweep(now) {
			}
		}
	}
}

// SetBackends makes the given nodes the nodes of l. One that was there before, by its URL, keeps
// its sessions and its state. One that is not there any more is cut off at once; to take it away
// gently, call [Balancer.Drain] before and wait until its Sessions are 0. SetBackends returns an error, and
// changes nothing, where a URL makes no sense or is given twice, or l is closed.
func (l *Balancer) SetBackends(backends ...Backend) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errors.New("sticky: SetBackends: " + errClosed.Error())
	}
	old := make(map[string]*backend)
	for _, b := range l.view.Load().list {
		old[b.url.String()] = b
	}
	var list, added []*backend
	seen := make(map[string]bool)
	for _, spec := range backends {
		u, err := spec.parse()
		if err == nil && seen[u.String()] {
			err = errors.New("sticky: backend " + u.String() + " is given twice")
		}
		if err != nil {
			l.mu.Unlock()
			return err
		}
		seen[u.String()] = true
		b := old[u.String()]
		if b == nil {
			b = l.newBackend(u, spec.Name)
			added = append(added, b)
		}
		list = append(list, b)
	}
	for i, b := range list {
		b.mu.Lock()
		b.name = orElse(backends[i].Name, b.url.Host)
		b.mu.Unlock()
		delete(old, b.url.String())
	}
	for _, b := range added {
		var ctx context.Context
		ctx, b.stop = context.WithCancel(context.Background())
		go b.watch(ctx)
	}
	l.setView(list)
	l.mu.Unlock()

	for _, b := range old {
		b.remove(errDown)
	}
	for _, b := range old {
		<-b.done
		b.transport.CloseIdleConnections()
		b.forget()
	}
	return nil
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

// pick chooses a node for a new session that is none of tried, and counts the
// session as being opened there; the caller takes it out of opening again. It returns nil
// where no node is left.
func (l *Balancer) pick(policy Policy, tried []*backend) *backend {
	list := l.view.Load().list
	if len(list) == 0 {
		return nil
	}
	l.picking.Lock()
	defer l.picking.Unlock()
	var best *backend
	var first int
	if policy == Random {
		first = rand.IntN(len(list))
		policy = RoundRobin // among the others where that one is not there
	} else {
		first = int(l.turn.Add(1) % uint64(len(list)))
	}
	for i := range list {
		b := list[(first+i)%len(list)]
		if b.now() != Up || contains(tried, b) {
			continue
		}
		if best == nil || policy == LeastConnections && b.load() < best.load() {
			best = b
		}
		if policy == RoundRobin {
			break
		}
	}
	if best != nil {
		best.opening.Add(1)
	}
	return best
}

func contains(list []*backend, b *backend) bool {
	for _, c := range list {
		if b == c {
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

// settled waits until each node was checked once, or ctx ends. It reports whether it had to wait.
func (l *Balancer) settled(ctx context.Context) (waited bool) {
	for _, b := range l.view.Load().list {
		select {
		case <-b.checked:
			continue
		default:
		}
		waited = true
		select {
		case <-b.checked:
		case <-b.done:
		case <-ctx.Done():
			return true
		}
	}
	return waited
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
	<-l.ended
	for _, b := range list {
		b.remove(errClosed)
	}
	for _, c := range calls {
		c.hurry()
	}
	for _, b := range list {
		<-b.done
	}
	l.running.Wait()
	for _, b := range list {
		b.transport.CloseIdleConnections()
	}
	return nil
}
