//go:build unix

package pgbus

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/recovery"
)

// envNode makes a process of this test's binary a node on the database that it names.
const envNode = "ATOLL_PGBUS_NODE"

// A home is a node with a server.
type home struct {
	server *atoll.Server
	http   *httptest.Server
	stop   func(context.Context) error
}

// serve starts a node in this process. Clients are in the room red.
func serve(ctx context.Context, url string) (*home, error) {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, err
	}
	bus := NewLog(pool, &LogOptions{Logger: quiet})
	node, err := cluster.Join(ctx, bus, &cluster.Options{Logger: quiet})
	if err != nil {
		return nil, err
	}
	h := &home{server: atoll.NewServer(&atoll.Options{Cluster: node, Recovery: &recovery.Options{}, Logger: quiet})}
	h.server.Of("/").OnConnect(func(_ context.Context, s *atoll.Socket) error {
		if !s.Recovered() {
			s.Join("red")
		}
		return nil
	})
	h.http = httptest.NewServer(h.server)
	h.stop = func(ctx context.Context) error {
		err := h.server.Shutdown(ctx)
		h.http.Close()
		node.Close()
		bus.Close()
		pool.Close()
		return err
	}
	return h, nil
}

// serveUntilEOF is what the process of a node does.
func serveUntilEOF(url string) int {
	ctx := context.Background()
	h, err := serve(ctx, url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(h.http.Listener.Addr())
	io.Copy(io.Discard, os.Stdin)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := h.stop(ctx); err != nil {
		return 1
	}
	return 0
}

// A house is a node in a process of its own.
type house struct {
	cmd   *exec.Cmd
	stdin io.Closer
	addr  string
}

func startHouse(t *testing.T, url string) *house {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &house{cmd: exec.Command(exe)}
	h.cmd.Env = append(os.Environ(), envNode+"="+url)
	h.cmd.Stderr = os.Stderr
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.kill)
	line, _ := bufio.NewReader(out).ReadString('\n')
	if h.addr = strings.TrimSpace(line); h.addr == "" {
		t.Fatal("the node did not start")
	}
	return h
}

func (h *house) kill() {
	h.cmd.Process.Kill()
	h.cmd.Wait()
}

func (h *house) shutdown() {
	h.stdin.Close()
	h.cmd.Wait()
}

// A guest is a client that can be cut off, and sent elsewhere.
type guest struct {
	*client.Socket
	back chan bool // whether it was recovered, for each time it was connected

	mu    sync.Mutex
	addr  string // where its connections go; nowhere if empty
	conns []net.Conn
	seen  []string
}

func newGuest(t *testing.T, addr string) *guest {
	t.Helper()
	g := &guest{addr: addr, back: make(chan bool, 100)}
	sock, err := client.New("http://"+addr, &client.Options{
		ReconnectDelay: 5 * time.Millisecond, ReconnectDelayMax: 50 * time.Millisecond, DialContext: g.dial, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	g.Socket = sock
	t.Cleanup(func() { sock.Close() })
	sock.OnConnect(func(context.Context) error { g.back <- sock.Recovered(); return nil })
	sock.Handle("e", func(_ context.Context, e *client.Event) error {
		var v string
		if err := e.Args.Decode(0, &v); err != nil {
			return err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.seen = append(g.seen, v)
		return nil
	})
	if err := sock.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-g.back
	return g
}

func (g *guest) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	g.mu.Lock()
	addr := g.addr
	g.mu.Unlock()
	if addr == "" {
		return nil, io.ErrUnexpectedEOF
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err == nil {
		g.mu.Lock()
		g.conns = append(g.conns, c)
		g.mu.Unlock()
	}
	return c, err
}

// cut ends the guest's connections and leads it to addr, nowhere if that is empty.
func (g *guest) cut(addr string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.addr = addr
	for _, c := range g.conns {
		c.Close()
	}
	g.conns = nil
}

func (g *guest) recovered(t *testing.T) {
	t.Helper()
	select {
	case ok := <-g.back:
		if !ok {
			t.Fatal("the client came back with a new session, want its own")
		}
	case <-time.After(time.Minute):
		t.Fatal("after a minute, the client is not back")
	}
}

// want waits for what was seen since the last call.
func (g *guest) want(t *testing.T, events ...string) {
	t.Helper()
	seen := func() []string {
		g.mu.Lock()
		defer g.mu.Unlock()
		return slices.Clone(g.seen)
	}
	eventually(t, fmt.Sprintf("events %q", events), func() bool { return len(seen()) >= len(events) })
	time.Sleep(50 * time.Millisecond) // for those that should not come
	if got := seen(); !slices.Equal(got, events) {
		t.Errorf("got events %q, want %q", got, events)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen = nil
}

// TestRecovery moves a session to another node, with everything that it missed: when the link is cut, when
// its node is stopped, and when its node is killed.
func TestRecovery(t *testing.T) {
	s := server(t)
	for name, end := range map[string]func(h *house, g *guest){
		"link cut":     func(_ *house, g *guest) { g.cut("") },
		"node stopped": func(h *house, g *guest) { g.cut(""); h.shutdown() },
		"node killed":  func(h *house, g *guest) { h.kill(); g.cut("") },
	} {
		for _, before := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s, %d events before", name, before), func(t *testing.T) {
				url := s.URL(s.Database(t))
				var homes [2]*home
				for i := range homes {
					h, err := serve(t.Context(), url)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() {
						ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
						defer cancel()
						h.stop(ctx)
					})
					homes[i] = h
				}
				owner := startHouse(t, url)
				emit := func(i int, events ...string) {
					t.Helper()
					for _, e := range events {
						if err := homes[i].server.Of("/").To("red").Emit(t.Context(), "e", e); err != nil {
							t.Errorf("emit: %v", err)
						}
					}
				}
				g := newGuest(t, owner.addr)
				id := g.ID()
				var want []string
				for i := range before {
					want = append(want, fmt.Sprint("before ", i))
				}
				emit(0, want...)
				g.want(t, want...)

				end(owner, g)
				large := strings.Repeat("large", 3000)
				emit(0, "1", "2")
				emit(0, large)
				emit(1, "3") // of another node: behind, because the emits before have returned
				g.cut(homes[1].http.Listener.Addr().String())
				g.recovered(t)
				if g.ID() != id {
					t.Errorf("got id %s, want %s", g.ID(), id)
				}
				emit(0, "4")
				g.want(t, "1", "2", large, "3", "4")

				for i := range 5 { // and on, from node to node
					g.cut("")
					emit(i%2, fmt.Sprint("away ", i))
					g.cut(homes[i%2].http.Listener.Addr().String())
					g.recovered(t)
					g.want(t, fmt.Sprint("away ", i))
				}
			})
		}
	}
}
