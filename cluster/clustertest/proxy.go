package clustertest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// A Proxy stands between one bus and its medium, and can harm what passes.
type Proxy struct {
	listener net.Listener
	target   string
	tasks    sync.WaitGroup

	mu     sync.Mutex
	links  map[*link]struct{}
	held   chan struct{} // not nil: nothing passes, until it is closed
	cutAt  int           // over 0: links end after that many bytes more
	closed bool
}

// A link is one connection through the proxy.
type link struct{ client, server net.Conn }

func (l *link) end() {
	for _, c := range []net.Conn{l.client, l.server} {
		if c, ok := c.(*net.TCPConn); ok {
			c.SetLinger(0) // a reset, not a goodbye
		}
		c.Close()
	}
}

// NewProxy starts a proxy to target, which ends with t.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, target: target, links: make(map[*link]struct{})}
	p.tasks.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr returns the host and port that the proxy listens on.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.tasks.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		client.Close()
		return
	}
	l := &link{client, server}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		l.end()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(l, server, client) })
	both.Go(func() { p.copy(l, client, server) })
	both.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// copy passes on what comes in one direction.
func (p *Proxy) copy(l *link, to, from net.Conn) {
	defer l.end()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			n, last := p.pass(n)
			if _, err := to.Write(buf[:n]); err != nil || last {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while nothing may pass, and says how much of n bytes may, and whether they are the last.
func (p *Proxy) pass(n int) (int, bool) {
	p.mu.Lock()
	for p.held != nil && !p.closed {
		held := p.held
		p.mu.Unlock()
		<-held
		p.mu.Lock()
	}
	defer p.mu.Unlock()
	if p.cutAt > 0 {
		if p.cutAt -= n; p.cutAt <= 0 {
			n += p.cutAt
			p.cutAt = 0
			return max(n, 0), true
		}
	}
	return n, p.closed
}

// Cut ends the connection that next brings the proxy over n bytes, with a reset and in
// the middle of whatever it was carrying.
func (p *Proxy) Cut(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutAt = n
}

// CutAll ends all connections with a reset.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.end()
	}
}

// Hold lets nothing pass, in either direction, though all connections stay: the other
// side seems to be silent. Release ends it, and what was held arrives late.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = make(chan struct{})
	}
}

// Release ends Hold.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

func (p *Proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for l := range p.links {
		l.end()
	}
	p.mu.Unlock()
	p.Release()
	p.tasks.Wait()
}
