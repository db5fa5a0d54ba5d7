// Package atolltest runs servers, clusters and clients in memory, for tests: of Atoll, and
// of what is built on it. Nothing listens on a port, so tests run at once with others,
// and under testing/synctest, where time is simulated.
//
//	func TestChat(t *testing.T) {
//		srv := atoll.NewServer(nil)
//		chat.Register(srv) // the code under test
//		sock := atolltest.Serve(t, srv).Dial(t, "/chat", nil)
//		…
//	}
package atolltest

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"testing"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/memnet"
)

// A Server is a server that clients in the same process can reach.
type Server struct {
	*atoll.Server
	listener *memnet.Listener
}

// Serve serves srv in memory until the test ends, and closes it then.
func Serve(t testing.TB, srv *atoll.Server) *Server {
	t.Helper()
	s := &Server{srv, memnet.Listen()}
	hs := &http.Server{Handler: srv}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = hs.Serve(s.listener) // ends with Close
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		_ = hs.Close()
		<-done
	})
	return s
}

// Options returns o, or the defaults if o is nil, with the server as the network.
func (s *Server) Options(o *client.Options) *client.Options {
	var c client.Options
	if o != nil {
		c = *o
	}
	c.DialContext = s.listener.Dial
	if c.Transports == nil {
		c.Transports = []string{client.WebSocket}
	}
	return &c
}

// New returns a client that is not connected yet, for a namespace. Without o.Transports it
// uses WebSocket. It is closed when the test ends.
func (s *Server) New(t testing.TB, namespace string, o *client.Options) *client.Socket {
	t.Helper()
	sock, err := client.New("http://atoll.test"+namespace, s.Options(o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sock.Close() })
	return sock
}

// Dial is New, connected.
func (s *Server) Dial(t testing.TB, namespace string, o *client.Options) *client.Socket {
	t.Helper()
	sock := s.New(t, namespace, o)
	if err := sock.Connect(t.Context()); err != nil {
		t.Fatalf("connect to %s: %v", namespace, err)
	}
	return sock
}

// A Node is one server of a cluster in memory.
type Node struct {
	*Server
	Name    string
	Cluster *cluster.Node
	Bus     *membus.Bus // freezes, thaws and cuts off the node
}

// NodeOptions say what node Start is to start. A nil *NodeOptions means all defaults.
type NodeOptions struct {
	// Server are the server's options. Start sets Cluster, and Logger, where it is nil, to one that
	// discards.
	Server atoll.Options

	// Cluster are the options of its place in the cluster. Start sets Name, and Logger as above.
	Cluster cluster.Options

	// Log has the hub keep what nodes tell each other, so that Server.Recovery works across nodes where
	// Recovery.Sessions is the same for all of them, for example one recovery.Memory.
	Log bool

	// Setup, where set, sets the handlers before the server serves.
	Setup func(srv *atoll.Server)
}

// Start starts a server of the cluster on hub, and ends it with the test.
func Start(t testing.TB, hub *membus.Hub, name string, o *NodeOptions) *Node {
	t.Helper()
	if o == nil {
		o = &NodeOptions{}
	}
	n := &Node{Name: name}
	var bus cluster.Bus
	if o.Log {
		b := membus.NewLog(hub, &membus.LogOptions{Options: membus.Options{Name: name}})
		bus, n.Bus = b, b.Bus
	} else {
		n.Bus = membus.New(hub, &membus.Options{Name: name})
		bus = n.Bus
	}
	co, so := o.Cluster, o.Server
	co.Name = name
	if co.Logger == nil {
		co.Logger = slog.New(slog.DiscardHandler)
	}
	if so.Logger == nil {
		so.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if n.Cluster, err = cluster.Join(context.Background(), bus, &co); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.Cluster.Close()
		_ = bus.Close()
	})
	so.Cluster = n.Cluster
	srv := atoll.NewServer(&so)
	if o.Setup != nil {
		o.Setup(srv)
	}
	n.Server = Serve(t, srv)
	return n
}

// Cluster starts n servers, named "node1" and so on, in one cluster on hub, and ends them
// with the test. setup, which may be nil, sets the handlers of each before it serves.
func Cluster(t testing.TB, hub *membus.Hub, n int, setup func(name string, srv *atoll.Server)) []*Node {
	t.Helper()
	nodes := make([]*Node, n)
	for i := range nodes {
		name := "node" + strconv.Itoa(i+1)
		nodes[i] = Start(t, hub, name, &NodeOptions{Setup: func(srv *atoll.Server) {
			if setup != nil {
				setup(name, srv)
			}
		}})
	}
	return nodes
}
