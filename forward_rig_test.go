package atoll_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/adapter/natsbus"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/cluster"
)

// A fleet is some nodes, and a balancer before them that keeps no client on any: each request goes to a random one.
type fleet struct {
	testing.TB
	nodes []*fleetNode
	url   string
	bad   atomic.Int64 // answers with status 400 or more that went through the balancer

	mu   sync.Mutex
	pick func(r *http.Request) int // where the next request goes; nil: anywhere
}

type fleetNode struct {
	*atoll.Server
	cluster *cluster.Node
	http    *httptest.Server
	proxy   http.Handler
	conns   *tracked
	broken  atomic.Int64 // requests that the balancer had under way here when the node, or their client, went
	dead    atomic.Bool
	bus     cluster.Bus
}

// tracked is a listener that can cut all its connections, also those that were hijacked.
type tracked struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *tracked) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
	}
	return c, err
}

func (l *tracked) cut() {
	l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
}

// kill takes the node out of the world, as far as others can see.
func (n *fleetNode) kill() {
	n.dead.Store(true)
	n.conns.cut()
	_ = n.bus.Close()
}

// fleetOptions say what fleet is wanted.
type fleetOptions struct {
	nodes   int
	buses   func() cluster.Bus           // nil: in memory
	server  func(o *atoll.Options)       // changes the options of each node
	setup   func(i int, s *atoll.Server) // sets handlers
	carrier bool                         // nodes make no links
}

func newFleet(t testing.TB, o *fleetOptions) *fleet {
	f := &fleet{TB: t}
	buses := o.buses
	if buses == nil {
		hub := new(membus.Hub)
		buses = func() cluster.Bus { return membus.New(hub, nil) }
	}
	for i := range o.nodes {
		f.nodes = append(f.nodes, f.start(i, buses(), o))
	}
	for _, n := range f.nodes {
		eventually(t, "the nodes see each other", func() bool { return len(n.cluster.Peers()) == o.nodes-1 })
	}
	front := httptest.NewUnstartedServer(http.HandlerFunc(f.balance))
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.Start()
	f.url = front.URL
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
	})
	return f
}

func (f *fleet) start(i int, bus cluster.Bus, o *fleetOptions) *fleetNode {
	f.Helper()
	n := &fleetNode{bus: bus}
	hs := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { n.ServeHTTP(w, r) }))
	n.conns = &tracked{Listener: hs.Listener}
	hs.Listener = n.conns
	hs.Config.ErrorLog = log.New(io.Discard, "", 0)
	n.http = hs
	var err error
	if n.cluster, err = cluster.Join(f.Context(), bus, &cluster.Options{Name: fmt.Sprint("node", i), Logger: quiet()}); err != nil {
		f.Fatal(err)
	}
	so := &atoll.Options{Cluster: n.cluster, Logger: quiet(), Forward: &atoll.ForwardOptions{Advertise: "http://" + hs.Listener.Addr().String() + "/socket.io/"}}
	if o.carrier {
		so.Forward.Advertise = "-"
	}
	if o.server != nil {
		o.server(so)
	}
	n.Server = atoll.NewServer(so)
	if o.setup != nil {
		o.setup(i, n.Server)
	}
	hs.Start()
	to, _ := url.Parse(hs.URL)
	proxy := httputil.NewSingleHostReverseProxy(to)
	transport := &http.Transport{MaxIdleConnsPerHost: 500, DisableCompression: true}
	proxy.Transport = transport
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.ModifyResponse = func(r *http.Response) error {
		if n.dead.Load() {
			return errors.New("a killed process says nothing") // as its connections are cut one by one, it does
		}
		if r.StatusCode >= 400 {
			b, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(b))
			if f.bad.Add(1) < 10 {
				f.Logf("%s of node%d: status %d %s", r.Request.Method, i, r.StatusCode, b)
			}
		}
		return nil
	}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) {
		n.broken.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	}
	n.proxy = proxy
	f.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = n.Server.Close()
		_ = n.cluster.Close()
		_ = bus.Close()
		hs.CloseClientConnections()
		hs.Close()
	})
	return n
}

// balance sends a request to any node that lives.
func (f *fleet) balance(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	pick := f.pick
	f.mu.Unlock()
	i := -1
	if pick != nil {
		i = pick(r)
	}
	for i < 0 || f.nodes[i].dead.Load() {
		i = rand.IntN(len(f.nodes))
	}
	n := f.nodes[i]
	sound := false
	defer func() {
		if !sound { // in the middle of the answer, upon which the proxy panics
			n.broken.Add(1)
		}
	}()
	n.proxy.ServeHTTP(w, r)
	sound = true
}

// send says where requests go from now on.
func (f *fleet) send(pick func(r *http.Request) int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pick = pick
}

// client returns a client that is not connected.
func (f *fleet) client(o *client.Options) *client.Socket {
	f.Helper()
	if o.Logger == nil {
		o.Logger = quiet()
	}
	s, err := client.New(f.url, o)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	return s
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s: not within 30 s", what)
}

// natsBuses starts a NATS server and returns a source of buses over it.
func natsBuses(t testing.TB) func() cluster.Bus {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("NATS does not start")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return func() cluster.Bus {
		nc, err := nats.Connect(s.ClientURL(), nats.ReconnectWait(50*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return natsbus.New(nc, nil)
	}
}

// ask makes a request by way of the balancer.
func (f *fleet) ask(method, query, body string) (int, string) {
	f.Helper()
	req, err := http.NewRequestWithContext(f.Context(), method, f.url+"/socket.io/?"+query, strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		f.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		f.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// handshake opens a session by way of the balancer, and returns the query of its requests.
func (f *fleet) handshake() string {
	f.Helper()
	_, body := f.ask("GET", "EIO=4&transport=polling", "")
	_, id, _ := strings.Cut(body, `"sid":"`)
	id, _, ok := strings.Cut(id, `"`)
	if !ok {
		f.Fatalf("handshake: got %q", body)
	}
	return "EIO=4&transport=polling&sid=" + id
}

// breakOff begins to change a session to WebSocket, and gives up when that is possible.
func (f *fleet) breakOff(query string) {
	f.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		f.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(conn, "GET /socket.io/?%s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", wsQuery(query), upgradeHeaders)
	r := bufio.NewReader(conn)
	if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		f.Fatalf("upgrade: got %v and error %v, want 101", res, err)
	}
	_, _ = io.WriteString(conn, frame(0x81, "2probe"))
	b := make([]byte, 2+len("3probe"))
	if _, err := io.ReadFull(r, b); err != nil || string(b[2:]) != "3probe" {
		f.Fatalf("probe: got %q and error %v, want 3probe", b, err)
	}
}
