package sticky

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atollhq/atoll/internal/sid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if name := os.Getenv("STICKY_TEST_NODE"); name != "" { // started by process
		n := &node{name: name, tag: sid.TagOf(name), atoll: true}
		l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("STICKY_TEST_PORT"))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(l.Addr())
		go func() { // ends with its parent
			io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		http.Serve(l, n)
		return
	}
	goleak.VerifyTestMain(m)
}

// A node is as much of a Socket.IO server as a balancer can tell from one: it knows its
// sessions, holds polls, gives back what is posted, and echoes over what follows a WebSocket handshake.
type node struct {
	name   string
	tag    sid.Tag
	atoll  bool // its ids name it, and it says its name
	health atomic.Int32
	seen   atomic.Int64 // requests for Path
	proto  atomic.Value // the last X-Forwarded-Proto
	polls  sync.Map     // id → chan string
	srv    *http.Server
	url    string
	addr   string
	done   chan struct{}
}

// start runs a node in this process until the test ends.
func start(t testing.TB, name string, atoll bool) *node {
	t.Helper()
	n := &node{name: name, tag: sid.TagOf(name), atoll: atoll}
	n.listen(t, "127.0.0.1:0")
	t.Cleanup(n.stop)
	return n
}

func (n *node) listen(t testing.TB, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	n.addr = l.Addr().String()
	n.url = "http://" + n.addr
	n.srv = &http.Server{Handler: n}
	n.done = make(chan struct{})
	go func() {
		defer close(n.done)
		n.srv.Serve(l)
	}()
}

// stop cuts all connections, but those of WebSockets.
func (n *node) stop() {
	n.srv.Close()
	<-n.done
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if n.atoll {
		w.Header().Set("Atoll-Node", n.tag.String())
	}
	if !strings.HasPrefix(r.URL.Path, "/socket.io/") {
		if s := n.health.Load(); s != 0 {
			w.WriteHeader(int(s))
			return
		}
		io.WriteString(w, n.name)
		return
	}
	n.seen.Add(1)
	n.proto.Store(r.Header.Get("X-Forwarded-Proto"))
	id := r.URL.Query().Get("sid")
	box, ok := n.polls.Load(id)
	switch {
	case id != "" && !ok:
		w.Header().Set("From", n.name)
		http.Error(w, unknownSession, http.StatusBadRequest)
	case isWebSocket(r):
		n.echo(w, r)
	case id == "":
		id = n.open()
		fmt.Fprintf(w, `0{"sid":"%s","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000}`, id)
	case r.Method == http.MethodPost:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		box.(chan string) <- string(body)
		io.WriteString(w, "ok")
	default:
		select {
		case m := <-box.(chan string):
			w.Header().Set("From", n.name)
			io.WriteString(w, m)
		case <-r.Context().Done():
		}
	}
}

// open makes a session and returns its id.
func (n *node) open() string {
	var id string
	if n.atoll {
		id = sid.New(n.tag)
	} else {
		id = sid.New(sid.Tag(rand.Uint32()))
	}
	n.polls.Store(id, make(chan string, 16))
	return id
}

// echo agrees to a WebSocket, says hello at once and then gives back all bytes.
func (n *node) echo(w http.ResponseWriter, r *http.Request) {
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n%s",
		accept(r.Header.Get("Sec-WebSocket-Key")), n.name)
	rw.Flush()
	io.Copy(c, rw)
}

// A process is a node in a process of its own, which can be killed.
type process struct {
	cmd  *exec.Cmd
	addr string
	in   io.Closer
}

func spawn(t testing.TB, name, port string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), "STICKY_TEST_NODE="+name, "STICKY_TEST_PORT="+port)
	p.cmd.Stderr = os.Stderr
	p.in, _ = p.cmd.StdinPipe()
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("node %s did not start: %v", name, err)
	}
	p.addr = strings.TrimSpace(line)
	return p
}

// kill ends the process without warning, as SIGKILL does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
	p.in.Close()
}

// A served balancer is reached under its URL.
type served struct {
	URL      string
	Listener net.Listener
}

// balance starts a balancer that serves by itself, or, in TestNetHTTP, as the handler of a server.
func balance(t testing.TB, o *Options, backends ...string) (*Balancer, *served) {
	t.Helper()
	if o == nil {
		o = new(Options)
	}
	for _, u := range backends {
		o.Backends = append(o.Backends, Backend{URL: u})
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Health.Timeout == 0 {
		o.Health.Timeout = patience
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(t.Name(), "TestNetHTTP/") {
		srv := httptest.NewUnstartedServer(l)
		srv.Config.ReadHeaderTimeout = o.Front.HeaderTimeout
		srv.Config.MaxHeaderBytes = o.Front.MaxHeaderBytes
		srv.Start()
		t.Cleanup(func() {
			l.Close()
			srv.CloseClientConnections()
			srv.Close()
			http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		})
		return l, &served{srv.URL, srv.Listener}
	}
	return l, serve(t, l)
}

// serve lets l serve until the test ends.
func serve(t testing.TB, l *Balancer) *served {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Serve(ln) }()
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		l.Close()
		if err := <-done; err != http.ErrServerClosed {
			t.Errorf("Serve: got %v, want %v", err, http.ErrServerClosed)
		}
	})
	return &served{"http://" + ln.Addr().String(), ln}
}

// The other front goes through the same.
func TestNetHTTP(t *testing.T) {
	for _, f := range []struct {
		name string
		test func(*testing.T)
	}{
		{"SessionsStayOnTheirNode", TestSessionsStayOnTheirNode}, {"KeepAliveMixed", TestKeepAliveMixed}, {"WebSocket", TestWebSocket},
		{"WebSocketDeclined", TestWebSocketDeclined}, {"Smuggling", TestSmuggling}, {"HostileClients", TestHostileClients},
		{"CloseCutsStalledClients", TestCloseCutsStalledClients},
	} {
		t.Run(f.name, f.test)
	}
}

const polling = "/socket.io/?EIO=4&transport=polling"

// do makes a request and returns the answer and its body.
func do(t testing.TB, method, url, body string) (*http.Response, string) {
	t.Helper()
	resp, got, err := try(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, got
}

func try(method, url, body string) (*http.Response, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// openSession opens a session by long-polling and returns its id.
func openSession(t testing.TB, base string) string {
	t.Helper()
	resp, body := do(t, "GET", base+polling, "")
	var open struct{ SID string }
	if resp.StatusCode != 200 || json.Unmarshal(bytes.TrimPrefix([]byte(body), []byte("0")), &open) != nil {
		t.Fatalf("handshake: status %d, body %q", resp.StatusCode, body)
	}
	return open.SID
}

// talk posts a message in a session, polls it back and returns the name of the node.
func talk(t testing.TB, base, id, msg string) string {
	t.Helper()
	url := base + polling + "&sid=" + id
	if resp, body := do(t, "POST", url, msg); resp.StatusCode != 200 || body != "ok" {
		t.Fatalf("POST: status %d, body %q", resp.StatusCode, body)
	}
	resp, body := do(t, "GET", url, "")
	if resp.StatusCode != 200 || body != msg {
		t.Fatalf("GET: status %d, body of %d bytes; want 200, %d bytes", resp.StatusCode, len(body), len(msg))
	}
	return resp.Header.Get("From")
}

// A socket is a raw WebSocket connection: what comes after the handshake are plain bytes.
type socket struct {
	net.Conn
	br   *bufio.Reader
	resp *http.Response
}

// dialSocket asks for a WebSocket, with further lines in the header; early is sent in one piece with the request.
func dialSocket(t testing.TB, base, query, early string, headers ...string) *socket {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return upgrade(t, c, query, early, headers...)
}

// upgrade is dialSocket over a connection that is there.
func upgrade(t testing.TB, c net.Conn, query, early string, headers ...string) *socket {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "GET /socket.io/?EIO=4&transport=websocket%s HTTP/1.1\r\nHost: example.org\r\nConnection: keep-alive, Upgrade\r\n"+
		"Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n%s", query, strings.Join(append(headers, ""), "\r\n"), early)
	s := &socket{Conn: c, br: bufio.NewReader(c)}
	var err error
	s.resp, err = http.ReadResponse(s.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// expect reads as many bytes as want has and compares.
func (s *socket) expect(t testing.TB, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s.br, got); err != nil || string(got) != want {
		t.Fatalf("got %.60q, %v, want %.60q", got, err, want)
	}
}

// expectEnd reads until the connection ends, and says how long that took.
func (s *socket) expectEnd(t testing.TB) time.Duration {
	t.Helper()
	begin := time.Now()
	_, err := io.Copy(io.Discard, s.br)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Fatalf("connection did not end in %v", time.Since(begin))
	}
	return time.Since(begin)
}

// patience is how long anything may take on a busy machine.
const patience = 30 * time.Second

// waitFor polls until cond holds.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}
