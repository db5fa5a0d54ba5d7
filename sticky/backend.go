package sticky

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/internal/sid"
)

// A State says what a node gets.
type State int32

// The states.
const (
	// Starting is a node that was not checked yet. It gets nothing until it was.
	Starting State = iota
	// Up is a node that gets sessions.
	Up
	// Draining is a node that keeps its sessions and gets no new ones: because
	// [Balancer.Drain] says so, or because its health check answers 503.
	Draining
	// Down is a node that gets nothing.
	Down
)

// String returns the name in lower case.
func (s State) String() string {
	switch s {
	case Starting:
		return "starting"
	case Up:
		return "up"
	case Draining:
		return "draining"
	case Down:
		return "down"
	}
	return fmt.Sprintf("State(%d)", int32(s))
}

// MarshalText writes the name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *State) UnmarshalText(text []byte) error {
	for t := Starting; t <= Down; t++ {
		if string(text) == t.String() {
			*s = t
			return nil
		}
	}
	return fmt.Errorf("sticky: no state %q", text)
}

// errDown ends what is under way to a node when that goes down or is taken away.
var errDown = errors.New("the node is down")

// errClosed ends what is under way when the balancer is closed.
var errClosed = errors.New("the balancer is closed")

// A dialError says that no connection was made, so that nothing can have been processed.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// A backend is a node. Any number of goroutines may use it.
type backend struct {
	l         *Balancer
	url       *url.URL
	transport *http.Transport // for requests that come by ServeHTTP
	pool      pool            // connections for those that come by Serve
	checker   *http.Transport // for checks, a fresh connection each

	first *entry // the head of its sessions; the table's

	opening  atomic.Int64 // sessions that are being opened
	sessions atomic.Int64 // live sessions
	sockets  atomic.Int64 // WebSockets
	active   atomic.Int64 // requests under way, WebSockets not counted
	requests atomic.Uint64
	errors   atomic.Uint64

	hash       uint64 // of the URL
	weight     atomic.Int64
	most       atomic.Int64 // sessions; 0 or less where there is no limit
	suspected  atomic.Int64 // until when, in nanoseconds
	suspicions atomic.Uint64
	retries    atomic.Uint64    // requests that went elsewhere afterwards
	statuses   [6]atomic.Uint64 // answers, by the first digit
	upAt       atomic.Int64     // when it came up last, having been down
	turn       [2]int64         // the balancer's picking guards it
	cookies    sync.Map         // the values that name it, by secret

	state   atomic.Int32  // a State, written with mu held
	checked chan struct{} // closed after the first check
	kick    chan struct{} // wishes for a check at once
	stop    context.CancelFunc
	done    chan struct{} // closed when the checks have ended

	mu       sync.Mutex
	name     string
	alive    State     // Starting, Up or Down, by the checks
	refusing bool      // answers its checks with 503
	drained  bool      // by Drain
	told     bool      // to drain, by its Backend
	leaves   time.Time // when it is cut off, being taken away; zero where it is not
	removed  bool
	good     int // checks in a row
	bad      int
	broke    bool // the last bad one, instead of not answering
	tag      sid.Tag
	tagged   bool
	hint     sid.Tag // what the last session id that was not known to name a node began with
	lastErr  string
	since    time.Time
	blotter  blotter
	flights  flight // the head of a ring
}

// A flight is a request or a WebSocket that is under way to a backend. cut is called at most
// once, without a lock held, and must not wait. It may come late, when the flight is over already.
type flight struct {
	cut        func(ticket uint64, cause error)
	ticket     uint64  // what cut is called with
	prev, next *flight // in the ring of its backend; nil where it is in none
}

func (l *Balancer) newBackend(u *url.URL, name string) *backend {
	b := &backend{
		l: l, url: u, name: orElse(name, u.Host), since: time.Now(),
		hash:    hashOf(u.String()),
		checked: make(chan struct{}), kick: make(chan struct{}, 1), done: make(chan struct{}),
	}
	b.grab() // makes the ring
	var conf *tls.Config
	if u.Scheme == "https" {
		conf = b.tlsConfig()
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	b.transport = &http.Transport{
		DialContext:            b.dial,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    l.o.DialTimeout,
		Protocols:              protocols,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    1024,
		IdleConnTimeout:        l.o.IdleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxHead,
	}
	b.checker = b.transport.Clone()
	b.checker.DialContext = l.dial
	b.checker.DisableKeepAlives = true
	return b
}

func (b *backend) tlsConfig() *tls.Config {
	conf := b.l.o.TLS.Clone()
	if conf == nil {
		conf = new(tls.Config)
	}
	conf.NextProtos = []string{"http/1.1"}
	if conf.ServerName == "" {
		conf.ServerName = b.url.Hostname()
	}
	return conf
}

// dial makes a connection for a request, and draws its conclusions from a failure.
func (b *backend) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, b.l.o.DialTimeout)
	defer cancel()
	c, err := b.l.dial(ctx, network, addr)
	if err == nil {
		return c, nil
	}
	if refused(err) {
		b.down(err)
	} else if !errors.Is(err, context.Canceled) {
		b.suspect()
	}
	return nil, &dialError{err}
}

// now returns the state.
func (b *backend) now() State { return State(b.state.Load()) }

// serves reports whether b gets requests of sessions that it has.
func (b *backend) serves() bool { s := b.now(); return s == Up || s == Draining }

// load is how many sessions b has or will have in a moment.
func (b *backend) load() int64 { return b.sessions.Load() + b.opening.Load() }

// enter says that f goes to b. It reports false where b is down.
func (b *backend) enter(f *flight) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.removed || b.alive != Up {
		return false
	}
	f.prev, f.next = b.flights.prev, &b.flights
	f.prev.next, f.next.prev = f, f
	return true
}

func (b *backend) leave(f *flight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.next != nil {
		f.prev.next, f.next.prev = f.next, f.prev
		f.prev, f.next = nil, nil
	}
}

// failed counts an error that is the node's.
func (b *backend) failed(err error) {
	b.errors.Add(1)
	b.mu.Lock()
	b.lastErr = err.Error()
	b.mu.Unlock()
	b.misses(time.Now())
}

// start begins the checks.
func (b *backend) start() {
	var ctx context.Context
	ctx, b.stop = context.WithCancel(context.Background())
	go b.watch(ctx)
}

// apply takes over what spec says, except its URL.
func (b *backend) apply(spec Backend, m *Limits) {
	b.weight.Store(int64(orElse(spec.Weight, 1)))
	b.most.Store(int64(orElse(spec.MaxSessions, m.SessionsPerNode)))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.name, b.told, b.leaves = orElse(spec.Name, b.url.Host), spec.Drain, time.Time{}
	b.settle()
}

// suspect asks for a check at once.
func (b *backend) suspect() {
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// down says that b does not answer, and cuts what is under way to it.
func (b *backend) down(err error) {
	b.mu.Lock()
	if b.removed {
		b.mu.Unlock()
		return
	}
	b.lastErr = err.Error()
	b.good = 0
	was := b.alive
	b.alive = Down
	flights := b.grab()
	b.settle()
	b.mu.Unlock()
	if was != Down {
		b.l.o.Logger.Warn("sticky: node is down", "node", b.url.Host, "err", err)
	}
	cutAll(flights, errDown)
	if was != Down {
		b.forget()
		b.l.retag() // one that moved may have its name by now
	}
}

// forget takes the sessions of b out of the table: they are over.
func (b *backend) forget() {
	for b.l.table.forgetSome(b) {
	}
}

// remove ends b for good. The caller waits for b.done.
func (b *backend) remove(cause error) {
	b.mu.Lock()
	b.removed = true
	b.alive = Down
	b.settle()
	flights := b.grab()
	b.mu.Unlock()
	b.stop()
	cutAll(flights, cause)
}

// grab takes all flights. b.mu is held.
func (b *backend) grab() []flight {
	var all []flight
	for f := b.flights.next; f != nil && f != &b.flights; {
		next := f.next
		f.prev, f.next = nil, nil
		all = append(all, flight{cut: f.cut, ticket: f.ticket})
		f = next
	}
	b.flights.prev, b.flights.next = &b.flights, &b.flights
	return all
}

func cutAll(flights []flight, cause error) {
	for _, f := range flights {
		f.cut(f.ticket, cause)
	}
}

// settle computes the state from its parts. b.mu is held.
func (b *backend) settle() {
	s := b.alive
	if s == Up && (b.drained || b.told || b.refusing || !b.leaves.IsZero()) {
		s = Draining
	}
	if State(b.state.Swap(int32(s))) != s {
		b.since = time.Now()
	}
}

// drain begins or ends draining.
func (b *backend) drain(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drained = on
	b.settle()
}

// learnTag remembers that the ids of b begin with t.
func (b *backend) learnTag(t sid.Tag) {
	b.mu.Lock()
	known := b.tagged && b.tag == t
	b.tag, b.tagged = t, true
	b.mu.Unlock()
	if !known {
		b.l.retag()
	}
}

// learnHint learns a tag from an id that b made and that comes without the header Atoll-Node (a
// proxy in between may have dropped it): two ids that begin with the same 32 bits do so for a reason.
func (b *backend) learnHint(id string) {
	t, ok := sid.TagIn(id)
	if !ok {
		return
	}
	b.mu.Lock()
	again := b.hint == t
	b.hint = t
	b.mu.Unlock()
	if again {
		b.learnTag(t)
	}
}
