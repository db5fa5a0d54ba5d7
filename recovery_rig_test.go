package atoll_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/recovery"
)

// A line is the network between a client and the server that it is pointed at.
type line struct {
	mu     sync.Mutex
	server *atolltest.Server
	conns  []*lineConn
	down   bool
}

type lineConn struct {
	net.Conn
	once sync.Once
	gone chan struct{}
}

func (l *line) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	server, down := l.server, l.down
	l.mu.Unlock()
	if down {
		return nil, errors.New("line: down")
	}
	c, err := server.Options(nil).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	lc := &lineConn{Conn: c, gone: make(chan struct{})}
	l.mu.Lock()
	l.conns = append(l.conns, lc)
	l.mu.Unlock()
	return lc, nil
}

// cut ends all connections, and lets no new ones through until up.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for _, c := range l.conns {
		_ = c.Conn.Close()
	}
	l.conns = nil
}

// vanish ends all connections at the client's side. The server is not told.
func (l *line) vanish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.once.Do(func() { close(c.gone) })
	}
	l.conns = nil
}

// up lets connections through, to server where it is not nil.
func (l *line) up(server *atolltest.Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
	if server != nil {
		l.server = server
	}
}

// at reports whether the line leads to server.
func (l *line) at(server *atolltest.Server) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.server == server
}

func (c *lineConn) Read(b []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	buf := make([]byte, len(b))
	go func() {
		n, err := c.Conn.Read(buf)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return copy(b, buf[:r.n]), r.err
	case <-c.gone:
		return 0, errors.New("line: vanished")
	}
}

func (c *lineConn) Write(b []byte) (int, error) {
	select {
	case <-c.gone:
		return 0, errors.New("line: vanished")
	default:
		return c.Conn.Write(b)
	}
}

// Close of a client that has vanished reaches nobody.
func (c *lineConn) Close() error {
	select {
	case <-c.gone:
		return nil
	default:
		return c.Conn.Close()
	}
}

// A caller is a client on a line, and what it has seen.
type caller struct {
	*client.Socket
	line *line

	mu   sync.Mutex
	seen []string
	back chan bool // one for each time it was connected: whether it was recovered
}

func call(t *testing.T, server *atolltest.Server, nsp string, auth map[string]any) *caller {
	t.Helper()
	c := &caller{line: &line{server: server}, back: make(chan bool, 100)}
	o := server.Options(&client.Options{Auth: auth, ReconnectDelay: 5 * time.Millisecond, ReconnectDelayMax: 100 * time.Millisecond, Jitter: -1, Logger: slog.New(slog.DiscardHandler)})
	o.DialContext = c.line.dial
	sock, err := client.New("http://atoll.test"+nsp, o)
	if err != nil {
		t.Fatal(err)
	}
	c.Socket = sock
	t.Cleanup(func() { _ = sock.Close() })
	sock.OnConnect(func(context.Context) error {
		c.back <- sock.Recovered()
		return nil
	})
	sock.OnAny(func(_ context.Context, e *client.Event) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		var first string
		if err := e.Args.Decode(0, &first); err != nil {
			first = e.Args.String()
		}
		c.seen = append(c.seen, e.Name+":"+first)
		return nil
	})
	if err := sock.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if <-c.back {
		t.Fatal("got a recovered socket at first, want a new one")
	}
	return c
}

// wait waits until the client is connected again.
func (c *caller) wait(t *testing.T, recovered bool) {
	t.Helper()
	select {
	case got := <-c.back:
		if got != recovered {
			t.Fatalf("recovered: got %v, want %v", got, recovered)
		}
	case <-time.After(10 * time.Minute):
		t.Fatal("not connected again after 10 minutes")
	}
}

// want checks what was seen since the last call.
func (c *caller) want(t *testing.T, events ...string) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	got := c.seen
	c.seen = nil
	c.mu.Unlock()
	if !slices.Equal(got, events) {
		t.Errorf("got events %q, want %q", got, events)
	}
}

// lobby has clients join the rooms that they ask for, and keeps what happens to sockets.
type lobby struct {
	mu      sync.Mutex
	sockets []*atoll.Socket // that OnConnect was called for
	asked   int             // times that a middleware was
	causes  []error
	refuse  bool
	slow    func() // what a middleware and OnConnect take their time with
}

func (l *lobby) register(srv *atoll.Server, nsp string) {
	ns := srv.Of(nsp)
	ns.Use(func(context.Context, *atoll.Socket) error {
		l.dawdle()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.asked++
		if l.refuse {
			return &atoll.ConnectError{Message: "no"}
		}
		return nil
	})
	ns.OnConnect(func(_ context.Context, s *atoll.Socket) error {
		var auth struct {
			Rooms []string
			Name  string
		}
		if err := s.Auth(&auth); err != nil {
			return err
		}
		if !s.Recovered() {
			s.Join(auth.Rooms...)
			s.SetData(map[string]any{"name": auth.Name})
		}
		l.dawdle()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.sockets = append(l.sockets, s)
		return nil
	})
	ns.OnDisconnect(func(_ *atoll.Socket, cause *atoll.DisconnectError) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.causes = append(l.causes, cause)
	})
}

func (l *lobby) dawdle() {
	l.mu.Lock()
	slow := l.slow
	l.mu.Unlock()
	if slow != nil {
		slow()
	}
}

func (l *lobby) last() *atoll.Socket {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sockets[len(l.sockets)-1]
}

// alone starts one server with recovery in memory.
func alone(t *testing.T, o *recovery.Options) (*atolltest.Server, *lobby) {
	srv := atoll.NewServer(&atoll.Options{Recovery: o, Logger: slog.New(slog.DiscardHandler)})
	var l lobby
	l.register(srv, "/")
	l.register(srv, "/other")
	return atolltest.Serve(t, srv), &l
}

func emitAll(t *testing.T, target interface {
	Emit(context.Context, string, ...any) error
}, events ...string) {
	t.Helper()
	for _, e := range events {
		if err := target.Emit(t.Context(), "e", e); err != nil {
			t.Errorf("emit: %v", err)
		}
	}
}
