package atoll_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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
	dead    atomic.Bool
	kill    func() // without a word
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
	n := &fleetNode{}
	hs := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.dead.Load() {
			panic(http.ErrAbortHandler)
		}
		n.ServeHTTP(w, r)
	}))
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
		if r.StatusCode >= 400 {
			b, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(b))
			if f.bad.Add(1) < 10 {
				f.Logf("%s of node%d: status %d %s", r.Request.Method, i, r.StatusCode, b)
			}
		}
		return nil
	}
	n.proxy = proxy
	stop := sync.OnceFunc(func() {
		n.dead.Store(true)
		_ = bus.Close()
		hs.CloseClientConnections()
		_ = n.Server.Close()
		_ = n.cluster.Close()
		hs.Close()
	})
	n.kill = stop
	f.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
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
	f.nodes[i].proxy.ServeHTTP(w, r)
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

// total sums up a counter of all nodes.
func (f *fleet) total(of func(s *atoll.Stats) int64) (n int64) {
	for _, x := range f.nodes {
		s := x.Stats()
		n += of(&s)
	}
	return n
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
