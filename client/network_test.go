package client_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/client"
)

// A network joins clients and a server in memory, and can be cut.
type network struct {
	conns chan net.Conn
	done  chan struct{}
	down  atomic.Bool

	mu    sync.Mutex
	dials []time.Time
	open  []*link
}

// A link is one connection, as the client has it.
type link struct {
	net.Conn
	frozen atomic.Bool
	closed chan struct{}
	once   sync.Once
}

var errDown = errors.New("the network is down")

func newNetwork() *network {
	return &network{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error   { close(n.done); return nil }
func (n *network) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, time.Now())
	n.mu.Unlock()
	if n.down.Load() {
		return nil, errDown
	}
	c, s := net.Pipe()
	select {
	case n.conns <- s:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l := &link{Conn: c, closed: make(chan struct{})}
	n.mu.Lock()
	n.open = append(n.open, l)
	n.mu.Unlock()
	return l, nil
}

// cut closes all connections and lets no new ones come, until heal.
func (n *network) cut() {
	n.down.Store(true)
	n.mu.Lock()
	open := n.open
	n.open, n.dials = nil, nil
	n.mu.Unlock()
	for _, l := range open {
		l.Close()
	}
}

func (n *network) heal() { n.down.Store(false) }

// freeze lets nothing through any more, without a word.
func (n *network) freeze() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.open {
		l.frozen.Store(true)
	}
}

func (n *network) dialed() []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dials)
}

func (l *link) Read(b []byte) (int, error) {
	for {
		k, err := l.Conn.Read(b)
		if !l.frozen.Load() {
			return k, err
		}
		if err != nil {
			<-l.closed
			return 0, err
		}
	}
}

func (l *link) Write(b []byte) (int, error) {
	if l.frozen.Load() {
		return len(b), nil
	}
	return l.Conn.Write(b)
}

func (l *link) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Conn.Close()
}

// inMemory runs f with a server in memory, under simulated time.
func inMemory(t *testing.T, o *atoll.Options, f func(t *testing.T, n *network, options client.Options)) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		if o == nil {
			o = new(atoll.Options)
		}
		o.Logger = slog.New(slog.DiscardHandler)
		srv := serverFor(o)
		hs := &http.Server{Handler: srv}
		go hs.Serve(n)
		f(t, n, client.Options{DialContext: n.dial, Jitter: -1, Transports: []string{client.WebSocket}, Logger: o.Logger})
		srv.Close()
		hs.Close()
	})
}

func connected(t *testing.T, o *client.Options) *client.Socket {
	t.Helper()
	s, err := client.Dial(t.Context(), "http://memory", o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
