package sticky

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/atollhq/atoll/internal/http1"
)

// A handover is the listener through which net/http gets the connections that it is to serve.
type handover struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, http.ErrServerClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handover) Addr() net.Addr { return &net.TCPAddr{} }

// A guest is a connection that somebody else reads: net/http, or TLS above it.
type guest struct {
	net.Conn
	prefix []byte // was read already
	remote net.Addr
	free   func() // called once, after Close
	once   sync.Once
}

func (g *guest) Read(b []byte) (int, error) {
	if len(g.prefix) > 0 {
		n := copy(b, g.prefix)
		g.prefix = g.prefix[n:]
		return n, nil
	}
	return g.Conn.Read(b)
}

func (g *guest) RemoteAddr() net.Addr { return g.remote }

// CloseWrite ends one half.
func (g *guest) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}

func (g *guest) Close() error {
	err := g.Conn.Close()
	g.once.Do(g.free)
	return err
}

// A secureGuest tells net/http that there is TLS below.
type secureGuest struct {
	guest
	state tls.ConnectionState
}

// ConnectionState is what net/http asks for.
func (g *secureGuest) ConnectionState() tls.ConnectionState { return g.state }

// serveInner starts the server of net/http. f.mu is held, and f is not closed.
func (f *front) serveInner() {
	o := &f.l.o
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(o.Front.H2C)
	f.inner = &http.Server{
		Handler: http.HandlerFunc(f.serveGuest), Protocols: protocols,
		ReadHeaderTimeout: o.Front.HeaderTimeout, IdleTimeout: o.Front.IdleTimeout, MaxHeaderBytes: o.Front.MaxHeaderBytes,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		ConnState: func(c net.Conn, s http.ConnState) {
			if s == http.StateClosed || s == http.StateHijacked {
				f.returned(c)
			}
		},
	}
	f.handover = &handover{conns: make(chan net.Conn), done: make(chan struct{})}
	f.l.running.Add(1)
	go func() {
		defer f.l.running.Done()
		f.inner.Serve(f.handover)
	}()
}

// serveGuest is l.ServeHTTP without what the front refuses, apart from heads, which are for net/http.
func (f *front) serveGuest(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		refuse(w, r, refusal{http1.ErrRefused.Status, plainText, http1.ErrRefused.Text + "\n"})
		return
	}
	if most := f.l.o.Front.MaxBody; most > 0 && r.ContentLength != 0 {
		if r.ContentLength > most {
			refuse(w, r, longBody)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, most)
	}
	f.l.ServeHTTP(w, r)
}

// give lets net/http serve the connection from here on, with what was read of it.
func (c *client) give() {
	f := c.f
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return
	}
	if f.inner == nil {
		f.serveInner()
	}
	nc := c.lend()
	f.mu.Unlock()
	c.leave()
	select {
	case f.handover.conns <- nc:
	case <-f.handover.done:
		closeNow(nc)
		f.returned(nc)
	}
}

// lend returns the connection as net/http is to see it. f.mu is held.
func (c *client) lend() net.Conn {
	f, seated := c.f, c.seated
	free := func() { f.vacate(seated) }
	prefix := slices.Clone(c.buf[c.r:c.w])
	t, secure := c.Conn.(*tls.Conn)
	if !secure {
		return &guest{Conn: c.Conn, prefix: prefix, remote: c.addr(), free: free}
	}
	nothing := func() {}
	if c.below {
		free = nothing
	}
	if len(prefix) == 0 { // net/http wants to see it itself, to speak HTTP/2
		f.lent[t] = free
		return t
	}
	g := &secureGuest{guest: guest{Conn: t, prefix: prefix, remote: t.RemoteAddr(), free: free}, state: t.ConnectionState()}
	f.lent[g] = nothing
	return g
}

// returned is told that net/http does not serve c any more.
func (f *front) returned(c net.Conn) {
	f.mu.Lock()
	free := f.lent[c]
	delete(f.lent, c)
	f.mu.Unlock()
	if free != nil {
		free()
	}
}

// addr returns the client's address as net/http wants it.
func (c *client) addr() net.Addr {
	if c.remote.IsValid() {
		return net.TCPAddrFromAddrPort(c.remote)
	}
	return c.RemoteAddr()
}
