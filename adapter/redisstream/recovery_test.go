//go:build unix

package redisstream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/redistest"
	"github.com/atollhq/atoll/recovery"
)

// envServer has TestMain be a server on the Redis at that address.
const envServer = "ATOLL_REDISSTREAM_SERVER"

// A server is a node with clients.
type server struct {
	srv    *atoll.Server
	node   *cluster.Node
	bus    cluster.Bus
	http   *http.Server
	addr   string
	served chan struct{}
}

func newServer(redis, id string) (*server, error) {
	bus, err := dialBus(redis)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	node, err := cluster.Join(ctx, bus, &cluster.Options{ID: id, Logger: quiet})
	if err != nil {
		bus.Close()
		return nil, err
	}
	x := &server{node: node, bus: bus, served: make(chan struct{})}
	x.srv = atoll.NewServer(&atoll.Options{Cluster: node, Recovery: &recovery.Options{}, Logger: quiet})
	x.srv.Of("/").OnConnect(func(ctx context.Context, s *atoll.Socket) error {
		if !s.Recovered() {
			s.SetData(map[string]any{"name": "ann"})
			s.Join("red")
		}
		return nil
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		x.close()
		return nil, err
	}
	x.addr = l.Addr().String()
	x.http = &http.Server{Handler: x.srv}
	go func() {
		defer close(x.served)
		x.http.Serve(l)
	}()
	return x, nil
}

// close shuts the node down as one should.
func (x *server) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	x.srv.Shutdown(ctx)
	if x.http != nil {
		x.http.Close()
		<-x.served
	}
	x.node.Close()
	x.bus.Close()
}

// serve is the process of a server. It ends when its standard input does.
func serve(redis string) error {
	x, err := newServer(redis, "")
	if err != nil {
		return err
	}
	fmt.Println(x.addr)
	io.Copy(io.Discard, os.Stdin)
	x.close()
	return nil
}

// A process is a server in a process of its own.
type process struct {
	addr  string
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{}
}

func startServer(t *testing.T, redis string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), envServer+"="+redis)
	p.cmd.Stderr = os.Stderr
	p.stdin, err = p.cmd.StdinPipe() // it ends with us
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	defer func() {
		go func() {
			p.cmd.Wait()
			close(p.ended)
		}()
	}()
	word, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("a server that did not start: %v", err)
	}
	p.addr = strings.TrimSpace(word)
	return p
}

// kill ends the process at once (SIGKILL), stop as one should.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// stop does not wait for the end.
func (p *process) stop() { p.stdin.Close() }

// A line leads a client to a server.
type line struct {
	mu    sync.Mutex
	addr  string // empty: nowhere
	conns []net.Conn
}

func (l *line) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	l.mu.Lock()
	addr := l.addr
	l.mu.Unlock()
	if addr == "" {
		return nil, errors.New("the line is down")
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
	}
	return c, err
}

// cut ends all connections, and lets none through until up.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addr = ""
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

func (l *line) up(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addr = addr
}

// A guest is a client that notes what it gets.
type guest struct {
	line *line
	sock *client.Socket

	mu     sync.Mutex
	got    []int
	visits []bool // of each connection: it was recovered
}

func newGuest(t *testing.T, addr string) *guest {
	t.Helper()
	g := &guest{line: &line{addr: addr}}
	sock, err := client.New("http://node", &client.Options{
		Transports: []string{client.WebSocket}, DialContext: g.line.dial, RetryConnect: true,
		ReconnectDelay: 5 * time.Millisecond, ReconnectDelayMax: 20 * time.Millisecond, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	g.sock = sock
	t.Cleanup(func() { sock.Close() })
	client.On(sock, "m", func(ctx context.Context, n int) error {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.got = append(g.got, n)
		return nil
	})
	sock.OnConnect(func(ctx context.Context) error {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.visits = append(g.visits, sock.Recovered())
		return nil
	})
	if err := sock.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

// visit waits for the connection with the given number, and returns whether it was recovered.
func (g *guest) visit(t *testing.T, n int) (recovered bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("connection %d", n), func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.visits) > n {
			recovered = g.visits[n]
		}
		return len(g.visits) > n
	})
	return recovered
}

// want waits until the guest got the events 0 to n-1, and checks that it did in order, each once.
func (g *guest) want(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d events", n), func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.got) >= n
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, x := range g.got {
		if i != x || len(g.got) != n {
			t.Fatalf("got events %v, want 0 to %d, each once", g.got, n-1)
		}
	}
}

// TestRecovery moves a client from node to node, five times in a row, in every way that it can lose its node: it keeps its
// id and its room, and gets what it has missed, in order, each once. Events come before, while it is away and after.
func TestRecovery(t *testing.T) {
	redis := redistest.Start(t)
	emitting, err := newServer(redis.Addr(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(emitting.close)
	red := emitting.srv.Of("/").To("red")
	for _, end := range []string{"cut", "closed", "killed"} {
		for _, before := range []int{0, 2} {
			t.Run(fmt.Sprintf("%s, %d events before", end, before), func(t *testing.T) {
				home, next := startServer(t, redis.Addr()), startServer(t, redis.Addr())
				g := newGuest(t, home.addr)
				id, n := g.sock.ID(), 0
				emit := func(count int) {
					t.Helper()
					for range count {
						if err := red.Emit(t.Context(), "m", n); err != nil {
							t.Fatal(err)
						}
						n++
					}
				}
				for round := range 5 {
					emit(before)
					if before > 0 && round%2 == 0 { // in the other rounds they may be on their way
						g.want(t, n)
					}
					switch end {
					case "cut":
						g.line.cut()
						emit(3)
						home, next = next, home
					case "closed":
						g.line.up("")
						home.stop()
						emit(3)
						<-home.ended
						home, next = next, startServer(t, redis.Addr())
					case "killed":
						g.line.up("")
						home.kill()
						emit(3)
						home, next = next, startServer(t, redis.Addr())
					}
					g.line.up(home.addr)
					emit(1)
					if !g.visit(t, round+1) {
						t.Fatalf("round %d: got a new session, want it recovered", round)
					}
					emit(1)
					g.want(t, n)
					if got := g.sock.ID(); got != id {
						t.Fatalf("got id %q, want the old one, %q", got, id)
					}
				}
				g.sock.Disconnect()
			})
		}
	}
}
