package sticky

import (
	"context"
	"crypto/tls"
	"sync"
	"time"
)

// An upstream is a connection to a node.
type upstream struct {
	wire
	b     *backend
	kept  bool      // was used before
	ended bool      // has told its end
	idle  time.Time // since when, in the pool
}

// A pool keeps connections to one node for the next request. The last one used is the first to be used again.
type pool struct {
	mu     sync.Mutex
	list   []*upstream
	closed bool
}

// maxKept is how many are kept.
const maxKept = 4096

func (p *pool) get() *upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.list)
	if n == 0 {
		return nil
	}
	u := p.list[n-1]
	p.list[n-1] = nil
	p.list = p.list[:n-1]
	return u
}

// put keeps u, or closes it.
func (p *pool) put(u *upstream) {
	u.idle, u.kept = time.Now(), true
	p.mu.Lock()
	keep := !p.closed && len(p.list) < maxKept
	if keep {
		p.list = append(p.list, u)
	}
	p.mu.Unlock()
	if !keep {
		u.Close()
	}
}

// prune closes what was idle since before t.
func (p *pool) prune(t time.Time) {
	p.mu.Lock()
	n := 0
	for n < len(p.list) && p.list[n].idle.Before(t) {
		n++
	}
	old := append([]*upstream(nil), p.list[:n]...)
	if n > 0 {
		rest := copy(p.list, p.list[n:])
		clear(p.list[rest:])
		p.list = p.list[:rest]
	}
	p.mu.Unlock()
	for _, u := range old {
		u.Close()
	}
}

// close closes all, and what will be put.
func (p *pool) close() {
	p.mu.Lock()
	list := p.list
	p.list, p.closed = nil, true
	p.mu.Unlock()
	for _, u := range list {
		u.Close()
	}
}

// connect makes a new connection to b.
func (b *backend) connect(ctx context.Context) (*upstream, error) {
	conn, err := b.dial(ctx, "tcp", b.url.Host)
	if err != nil {
		return nil, err
	}
	if b.url.Scheme == "https" {
		ctx, cancel := context.WithTimeout(ctx, b.l.o.DialTimeout)
		defer cancel()
		t := tls.Client(conn, b.tlsConfig())
		if err := t.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, &dialError{err}
		}
		conn = t
	}
	u := &upstream{b: b}
	u.init(conn)
	return u, nil
}
