package engine

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atollhq/atoll/engine/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a listener in memory, so that time can be simulated.
type memory struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newMemory() *memory { return &memory{conns: make(chan net.Conn), done: make(chan struct{})} }

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}
func (m *memory) Close() error   { m.once.Do(func() { close(m.done) }); return nil }
func (m *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (m *memory) dial() (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case m.conns <- b:
		return a, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

// A recorder is a Handler that notes what it is told.
type recorder struct {
	c       *Conn
	message func(r *recorder, data string, binary bool)
	flush   func(r *recorder)

	mu      sync.Mutex
	got     []string
	flushes int
	ended   chan struct{}
	cause   error
	late    bool // something was called after Closed
}

func (r *recorder) Message(data []byte, binary bool) {
	text := string(data)
	if binary {
		text = "b:" + text
	}
	r.mu.Lock()
	r.got = append(r.got, text)
	r.late = r.late || r.cause != nil
	r.mu.Unlock()
	if r.message != nil {
		r.message(r, string(data), binary)
	}
}

func (r *recorder) Flush() {
	r.mu.Lock()
	r.flushes++
	r.mu.Unlock()
	if r.flush != nil {
		r.flush(r)
	}
}

func (r *recorder) Closed(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cause != nil {
		panic("Closed was called twice")
	}
	r.cause = cause
	close(r.ended)
}

func (r *recorder) flushed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flushes
}

func (r *recorder) messages() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.got, " ")
}

// wait waits for the end of the session and returns its cause.
func (r *recorder) wait(t testing.TB) *CloseError {
	t.Helper()
	select {
	case <-r.ended:
	case <-time.After(time.Minute):
		t.Fatal("the session did not end")
	}
	return r.cause.(*CloseError)
}

func text(s string) wire.Packet {
	return wire.Seal(append(make([]byte, wire.Headroom), s...), false)
}

func bin(s string) wire.Packet {
	return wire.Seal(append(make([]byte, wire.Headroom), s...), true)
}

// echo sends back what came.
func echo(r *recorder, data string, isBin bool) {
	if isBin {
		r.c.Send(bin(data))
	} else {
		r.c.Send(text(data))
	}
}

// A rig is a server with an in-memory or a real listener, and clients.
type rig struct {
	testing.TB
	s    *Server
	hs   *http.Server
	dial func() (net.Conn, error)
	host string
	http *http.Client

	scheme string // empty: http

	mu    sync.Mutex
	recs  []*recorder
	setup func(r *recorder)

	refuse chan error // where set, the accept function waits for what to return
}

// newRig starts a server in memory, for use in a synctest bubble too.
func newRig(t testing.TB, o *Options, setup func(*recorder)) *rig {
	m := newMemory()
	g := makeRig(t, o, setup)
	g.dial, g.host = m.dial, "memory"
	g.serve(m)
	return g
}

// newRealRig starts a server on the loopback interface.
func newRealRig(t testing.TB, o *Options, setup func(*recorder)) *rig {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := makeRig(t, o, setup)
	g.host = l.Addr().String()
	g.dial = func() (net.Conn, error) { return net.Dial("tcp", g.host) }
	g.serve(l)
	return g
}

func makeRig(t testing.TB, o *Options, setup func(*recorder)) *rig {
	if o == nil {
		o = &Options{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	g := &rig{TB: t, setup: setup}
	g.s = NewServer(g.accept, o)
	return g
}

func (g *rig) accept(c *Conn) (Handler, error) {
	r := &recorder{c: c, ended: make(chan struct{})}
	if g.setup != nil {
		g.setup(r)
	}
	if g.refuse != nil {
		if err := <-g.refuse; err != nil {
			return nil, err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.recs = append(g.recs, r)
	return r, nil
}

func (g *rig) serve(l net.Listener) {
	g.hs = &http.Server{Handler: g.s, ErrorLog: log.New(io.Discard, "", 0)}
	go g.hs.Serve(l)
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return g.dial() }, DisableCompression: true}
	g.http = &http.Client{Transport: tr}
	g.Cleanup(func() {
		g.s.Close()
		tr.CloseIdleConnections()
		g.hs.Close()
		g.mu.Lock()
		defer g.mu.Unlock()
		for i, r := range g.recs {
			r.mu.Lock()
			if r.late {
				g.Errorf("session %d: got a Message after Closed, want none", i)
			}
			r.mu.Unlock()
		}
	})
}

// rec returns the handler of the session that began as number i.
func (g *rig) rec(i int) *recorder {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.recs[i]
}

// all returns the handlers of all sessions so far.
func (g *rig) all() []*recorder {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.recs)
}

func (g *rig) url(query string) string {
	return cmp.Or(g.scheme, "http") + "://" + g.host + "/engine.io/?" + query
}

// do makes a request and returns status and body.
func (g *rig) do(method, query, body string, header ...string) (int, string, http.Header) {
	g.Helper()
	status, text, h, err := g.try(g.Context(), method, query, body, header...)
	if err != nil {
		g.Fatalf("%s %s: %v", method, query, err)
	}
	return status, text, h
}

func (g *rig) try(ctx context.Context, method, query, body string, header ...string) (int, string, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, g.url(query), strings.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := g.http.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), res.Header, err
}

// openPoll opens a session over polling and returns its id.
func (g *rig) openPoll() string {
	g.Helper()
	status, body, _ := g.do("GET", "EIO=4&transport=polling", "")
	if status != 200 || body == "" || body[0] != '0' {
		g.Fatalf("handshake: got %d %q, want 200 and an open packet", status, body)
	}
	var h struct{ SID string }
	if err := json.Unmarshal([]byte(body[1:]), &h); err != nil {
		g.Fatal(err)
	}
	return h.SID
}

func poll(sid string) string { return "EIO=4&transport=polling&sid=" + sid }

func (g *rig) get(sid string) (int, string) {
	g.Helper()
	status, body, _ := g.do("GET", poll(sid), "")
	return status, body
}

func (g *rig) post(sid, body string) (int, string) {
	g.Helper()
	status, text, _ := g.do("POST", poll(sid), body)
	return status, text
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s: not within 10 s", what)
}

// newTLSRig starts a server behind TLS on the loopback interface.
func newTLSRig(t testing.TB, o *Options, setup func(*recorder)) *rig {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewUnstartedServer(nil)
	ts.StartTLS() // for its certificate
	cert := ts.TLS.Certificates
	ts.Close()
	g := makeRig(t, o, setup)
	g.host = l.Addr().String()
	g.dial = func() (net.Conn, error) {
		return tls.Dial("tcp", g.host, &tls.Config{InsecureSkipVerify: true})
	}
	g.serve(tls.NewListener(l, &tls.Config{Certificates: cert}))
	return g
}

// chunked makes a POST without Content-Length and returns the status.
func (g *rig) chunked(sid, body string) int {
	g.Helper()
	req, err := http.NewRequest("POST", g.url(poll(sid)), io.MultiReader(strings.NewReader(body)))
	if err != nil {
		g.Fatal(err)
	}
	res, err := g.http.Do(req)
	if err != nil {
		g.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode
}
