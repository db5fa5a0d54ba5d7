package sticky

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A front is what a balancer serves by itself, without net/http.
type front struct {
	l      *Balancer
	ctx    context.Context // ends when the balancer is closed
	cancel context.CancelFunc
	vigil  vigil
	loops  loops

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]struct{}
	clients   map[*client]struct{}
	conns     int // of all clients, WebSockets and those of inner too
	from      map[netip.Addr]int
	refused   time.Time // when a connection was last refused aloud

	inner    *http.Server // for HTTP/2 and the Fallback; nil until needed
	handover *handover
	lent     map[net.Conn]func() // those with TLS that inner serves, and what is called when it has closed them
}

func (l *Balancer) newFront() *front {
	f := &front{
		l: l, listeners: make(map[net.Listener]struct{}), clients: make(map[*client]struct{}), from: make(map[netip.Addr]int),
		lent: make(map[net.Conn]func()),
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.vigil.init(f)
	f.loops.init(&f.vigil)
	return f
}

// Serve serves the connections that ln accepts until ln or l is closed; it then returns an error, which
// is [http.ErrServerClosed] after [Balancer.Close]. It closes ln. Any number of goroutines may call it, with a listener each.
//
// It does what [http.Server] with l as its handler does, at a fraction of the cost, with the limits
// of [Options.Front]. It speaks HTTP/1.1 and 1.0. What it does not serve by itself it hands to a
// server of net/http, with l as its handler: HTTP/2 (where a TLS client chose it, or [Front.H2C] allows it), and connections with a
// request for the [Options.Fallback].
//
// It is fastest where ln is a [net.TCPListener], best one of a [net.ListenConfig] with KeepAlive -1, since who is gone is
// found by other means. ln may be that of [tls.NewListener], or [Balancer.ServeTLS] is called.
func (l *Balancer) Serve(ln net.Listener) error { return l.front.serve(ln, nil) }

// ServeTLS is [Balancer.Serve] with TLS, after the header of the PROXY protocol where there is one. conf is not
// changed; where its NextProtos are empty, they are h2 and http/1.1. It needs a certificate, or a function that finds one, without
// which the error says so at once. See [Certificates] for those that change.
func (l *Balancer) ServeTLS(ln net.Listener, conf *tls.Config) error {
	if conf == nil || len(conf.Certificates) == 0 && conf.GetCertificate == nil && conf.GetConfigForClient == nil {
		ln.Close()
		return errors.New("sticky: ServeTLS needs a tls.Config with Certificates, GetCertificate or GetConfigForClient")
	}
	conf = conf.Clone()
	if len(conf.NextProtos) == 0 {
		conf.NextProtos = []string{"h2", "http/1.1"}
	}
	return l.front.serve(ln, conf)
}

func (f *front) serve(ln net.Listener, conf *tls.Config) error {
	defer ln.Close()
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return http.ErrServerClosed
	}
	f.listeners[ln] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.listeners, ln)
	}()
	var pause time.Duration
	for {
		nc, err := ln.Accept()
		if err == nil {
			pause = 0
			f.welcome(nc, conf)
			continue
		}
		if f.ctx.Err() != nil {
			return http.ErrServerClosed
		}
		// As net/http does: when there are no descriptors left, some will be soon.
		if ne, ok := err.(interface{ Temporary() bool }); !ok || !ne.Temporary() {
			return err
		}
		pause = min(max(5*time.Millisecond, 2*pause), time.Second)
		f.l.o.Logger.Warn("sticky: cannot accept a connection; is the limit of open files too low?", "err", err)
		select {
		case <-time.After(pause):
		case <-f.ctx.Done():
			return http.ErrServerClosed
		}
	}
}

// welcome begins to serve a connection.
func (f *front) welcome(nc net.Conn, conf *tls.Config) {
	c := &client{f: f, conf: conf}
	c.init(nc)
	c.within(f.l.o.Front.HeaderTimeout)
	f.mu.Lock()
	full := f.l.o.Front.MaxConns > 0 && f.conns >= f.l.o.Front.MaxConns
	if f.closed || full {
		f.mu.Unlock()
		if full {
			c.tooMany()
		}
		nc.Close()
		return
	}
	f.conns++
	f.clients[c] = struct{}{}
	f.l.running.Add(1)
	f.mu.Unlock()
	go c.serve()
}

// seat counts a connection of a client at addr, when that is known. It reports false where there are too many.
func (f *front) seat(addr netip.Addr) bool {
	most := f.l.o.Front.MaxConnsPerAddress
	if most <= 0 || !addr.IsValid() {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	addr = addressBlock(addr)
	if f.from[addr] >= most {
		return false
	}
	f.from[addr]++
	return true
}

// vacate ends what welcome and seat began.
func (f *front) vacate(seated netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns--
	if seated.IsValid() {
		addr := addressBlock(seated)
		if f.from[addr]--; f.from[addr] <= 0 {
			delete(f.from, addr)
		}
	}
}

// forget says that c is not served here any more.
func (f *front) forget(c *client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.clients, c)
}

// pace is how often sweep is to be called.
func (f *front) pace() time.Duration {
	o := &f.l.o
	shortest := min(o.Front.HeaderTimeout, o.Front.IdleTimeout, o.IdleTimeout)
	for _, d := range []time.Duration{o.BodyTimeout, o.StallTimeout, o.Front.WebSocketIdle} {
		if d > 0 {
			shortest = min(shortest, d)
		}
	}
	return min(max(shortest/4, 20*time.Millisecond), time.Second)
}

// sweep ends what took too long.
func (f *front) sweep(now time.Time) {
	var late []*client
	f.mu.Lock()
	for c := range f.clients {
		if t := c.until.Load(); t != 0 && t < now.UnixNano() {
			late = append(late, c)
		}
	}
	f.mu.Unlock()
	for _, c := range late {
		c.expire()
	}
	f.loops.sweep()
}

var longAgo = time.Unix(1, 0)

// close ends everything but waits for nothing.
func (f *front) close() {
	f.mu.Lock()
	f.closed = true
	var clients []*client
	for c := range f.clients {
		clients = append(clients, c)
	}
	var listeners []net.Listener
	for ln := range f.listeners {
		listeners = append(listeners, ln)
	}
	inner, lent := f.inner, slices.Collect(maps.Keys(f.lent))
	f.mu.Unlock()
	f.cancel()
	for _, ln := range listeners {
		ln.Close()
	}
	for _, c := range clients {
		c.hurry()
	}
	for _, c := range lent {
		closeNow(c) // inner would say goodbye, to one after the other
	}
	if inner != nil {
		inner.Close()
	}
}

// end frees what is left when all clients are gone.
func (f *front) end() {
	f.vigil.close()
	f.loops.close()
}

// say logs why a connection was refused, not more than once in a second: whoever provokes it may do so often.
func (f *front) say(text string, args ...any) {
	now := time.Now()
	f.mu.Lock()
	quiet := now.Sub(f.refused) < time.Second
	if !quiet {
		f.refused = now
	}
	f.mu.Unlock()
	if !quiet {
		f.l.o.Logger.Warn(text, args...)
	}
}
