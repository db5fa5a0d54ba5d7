package natsbus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/recovery"
)

// envHome tells a process that it is to serve clients: the address of its bus.
const envHome = "ATOLL_NATSBUS_HOME"

// A home is a node with a server, which listens for clients.
type home struct {
	addr   string
	bus    cluster.Bus
	node   *cluster.Node
	server *atoll.Server
	http   *http.Server
	served chan struct{}
	once   sync.Once
}

// dialLog is dial, or Connect and OpenLog where the address is the URL of a NATS server.
func dialLog(address string) (cluster.Bus, error) {
	if !strings.HasPrefix(address, "nats://") {
		return dial(address)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	b, err := Connect(ctx, address, nil)
	if err != nil {
		return nil, err
	}
	l, err := OpenLog(ctx, b, &LogOptions{Logger: silent})
	if err != nil {
		b.Close()
		return nil, err
	}
	return l, nil
}

func openHome(address string) (h *home, err error) {
	h = &home{served: make(chan struct{})}
	if h.bus, err = dialLog(address); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	h.node, err = cluster.Join(ctx, h.bus, &cluster.Options{Heartbeat: 200 * time.Millisecond, DeadAfter: time.Second, Logger: silent})
	if err != nil {
		h.bus.Close()
		return nil, err
	}
	h.server = atoll.NewServer(&atoll.Options{Cluster: h.node, Recovery: &recovery.Options{}, Logger: silent})
	h.server.Of("/").OnConnect(func(_ context.Context, s *atoll.Socket) error {
		if !s.Recovered() {
			s.Join("red")
			s.SetData(map[string]any{"name": "ann"})
		}
		return nil
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, h.node.Close(), h.bus.Close())
	}
	h.addr = l.Addr().String()
	h.http = &http.Server{Handler: h.server, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(h.served)
		h.http.Serve(l)
	}()
	return h, nil
}

// stop shuts everything down.
func (h *home) stop() {
	h.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		h.server.Shutdown(ctx)
		h.http.Close()
		<-h.served
		h.node.Close()
		h.bus.Close()
	})
}

func homeMain(address string) error {
	h, err := openHome(address)
	if err != nil {
		return err
	}
	fmt.Println(h.addr)
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// A line leads a client to the home that it is pointed at.
type line struct {
	mu    sync.Mutex
	to    string // empty while it is cut
	conns []net.Conn
}

func (l *line) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == "" {
		return nil, errors.New("the line is cut")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, l.to)
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

// point cuts the line and leads it to another address.
func (l *line) point(to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = to
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

// guest is a client that was in the room "red" from its first connection.
type guest struct {
	*client.Socket
	line line
	back chan bool // for each connection: whether it was recovered

	mu   sync.Mutex
	seen []string
}

func visit(t *testing.T, addr string) *guest {
	t.Helper()
	g := &guest{back: make(chan bool, 100)}
	g.line.to = addr
	var err error
	g.Socket, err = client.New("http://atoll.test/", &client.Options{
		DialContext: g.line.dial, Transports: []string{client.WebSocket}, Logger: slog.New(slog.DiscardHandler),
		ReconnectDelay: 10 * time.Millisecond, ReconnectDelayMax: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	g.OnConnect(func(context.Context) error {
		g.back <- g.Recovered()
		return nil
	})
	g.OnAny(func(_ context.Context, e *client.Event) error {
		var text string
		e.Args.Decode(0, &text)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.seen = append(g.seen, text)
		return nil
	})
	if err := g.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if <-g.back {
		t.Fatal("got a recovered socket at first, want a new one")
	}
	return g
}

func (g *guest) recovered(t *testing.T) {
	t.Helper()
	select {
	case got := <-g.back:
		if !got {
			t.Error("connected again, but not recovered")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("not connected again after 30 s")
	}
}

// want waits until the guest has seen so many events, and checks them: in order, each once.
func (g *guest) want(t *testing.T, n int) {
	t.Helper()
	seen := func() []string {
		g.mu.Lock()
		defer g.mu.Unlock()
		return slices.Clone(g.seen)
	}
	defer func() {
		if t.Failed() {
			t.Logf("got events %q", seen())
		}
	}()
	eventually(t, fmt.Sprintf("%d events", n), func() bool { return len(seen()) >= n })
	for i, e := range seen() {
		if e != fmt.Sprint(i) {
			t.Fatalf("got events %q, want 0 to %d, each once", seen(), n-1)
		}
	}
}

// TestRecovery moves clients to other nodes after what happens to them and theirs.
func TestRecovery(t *testing.T) {
	media := map[string]func(t *testing.T) string{
		"external": func(t *testing.T) string { return startServer(t).url() },
		"embedded": storeAt,
	}
	for medium, start := range media {
		for _, end := range []string{"link cut", "node closed", "process killed"} {
			for _, before := range []int{0, 3} {
				t.Run(fmt.Sprintf("%s/%s/%d events before", medium, end, before), func(t *testing.T) {
					testRecovery(t, start(t), end, before)
				})
			}
		}
	}
}

func testRecovery(t *testing.T, address, end string, before int) {
	open := func() *home {
		h, err := openHome(address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.stop)
		return h
	}
	var first string
	var kill func()
	if end == "process killed" { // it comes first, so that it keeps the store where there is one
		first, kill = startHome(t, address)
	}
	homes := []*home{open(), open()}
	if kill == nil {
		h := open()
		first, kill = h.addr, h.stop
	}
	n := 0
	say := func() { // always one, because the order of two is not promised while the store is away
		t.Helper()
		if err := homes[1].server.Of("/").To("red").Emit(t.Context(), "e", fmt.Sprint(n)); err != nil && !errors.Is(err, cluster.ErrDelayed) {
			t.Errorf("emit: %v", err)
		}
		n++
	}
	g := visit(t, first)
	id := g.ID()
	for range before {
		say()
		g.want(t, n)
	}
	g.line.point("")
	if end != "link cut" {
		kill()
	}
	for range 5 {
		say()
		time.Sleep(20 * time.Millisecond)
	}
	g.line.point(homes[0].addr)
	g.recovered(t)
	g.want(t, n)
	for i := range 5 { // and on, from node to node
		g.line.point("")
		say()
		g.line.point(homes[(i+1)%2].addr)
		g.recovered(t)
		g.want(t, n)
	}
	if g.ID() != id {
		t.Errorf("got id %s, want the first, %s", g.ID(), id)
	}
	eventually(t, "one socket in the cluster", func() bool { // as soon as a dead node is known to be dead
		count, err := homes[0].server.Of("/").Count(t.Context())
		return count == 1 && err == nil
	})
}

// startHome starts a home in a process of its own.
func startHome(t *testing.T, address string) (addr string, kill func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), envHome+"="+address)
	cmd.Stderr = os.Stderr
	dieWithUs(cmd)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	t.Cleanup(kill)
	word, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the home says %q: %v", word, err)
	}
	return strings.TrimSpace(word), kill
}
