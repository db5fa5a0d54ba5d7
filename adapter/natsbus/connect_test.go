package natsbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
)

// natsServer starts a NATS server as an operator would have it, on a port of its own if port is -1.
func natsServer(t *testing.T, port int, routes ...*url.URL) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true, MaxPayload: 64 << 20, Routes: routes,
		Cluster: server.ClusterOpts{Name: "ops", Host: "127.0.0.1", Port: -1},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(5 * time.Second) {
		t.Fatal("the NATS server did not start")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

func connect(t *testing.T, url string) *Bus {
	t.Helper()
	b, err := Connect(t.Context(), url, nil)
	if err != nil {
		t.Fatalf("Connect: %v", err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestConnect(t *testing.T) {
	s := natsServer(t, -1)
	open := func(t *testing.T) cluster.Bus { return connect(t, s.ClientURL()) }
	t.Run("bus", func(t *testing.T) { clustertest.TestBus(t, open) })
	t.Run("cluster", func(t *testing.T) { clustertest.TestCluster(t, open) })
}

// Nodes connected to different servers of one NATS cluster.
func TestConnectTwoServers(t *testing.T) {
	a := natsServer(t, -1)
	b := natsServer(t, -1, &url.URL{Scheme: "nats-route", Host: a.ClusterAddr().String()})
	eventually(t, "a route", func() bool { return a.NumRoutes() > 0 && b.NumRoutes() > 0 })
	urls := []string{a.ClientURL(), b.ClientURL()}
	i := 0
	open := func(t *testing.T) cluster.Bus {
		i++
		return connect(t, urls[i%2])
	}
	t.Run("bus", func(t *testing.T) { clustertest.TestBus(t, open) })
}

func TestServerRestarts(t *testing.T) {
	s := natsServer(t, -1)
	port := s.Addr().(*net.TCPAddr).Port
	a, b := connect(t, s.ClientURL()), connect(t, s.ClientURL())
	got := make(chan string, 100)
	if _, err := b.Subscribe(t.Context(), "t", func(_ string, m []byte) { got <- string(m) }); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	s.WaitForShutdown()
	eventually(t, "an error of Publish", func() bool {
		start := time.Now()
		err := a.Publish(t.Context(), "t", []byte("lost"))
		if took := time.Since(start); took > time.Second {
			t.Errorf("Publish while away took %v, want an error at once", took)
		}
		return errors.Is(err, ErrAway)
	})
	if _, err := a.Subscribe(t.Context(), "t", func(string, []byte) {}); !errors.Is(err, ErrAway) {
		t.Errorf("Subscribe while away: got error %v, want ErrAway", err)
	}
	natsServer(t, port)
	n := 0
	eventually(t, "a message when the server is back", func() bool {
		n++
		a.Publish(t.Context(), "t", fmt.Append(nil, n))
		select {
		case m := <-got:
			if m == "lost" {
				t.Error("got what was refused, want it lost")
			}
			return true
		case <-time.After(20 * time.Millisecond):
			return false
		}
	})
	if got := b.Stats().Reconnects; got != 1 {
		t.Errorf("got %d reconnects, want 1", got)
	}
}

func TestConnectFails(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := Connect(ctx, "nats://user:secret@127.0.0.1:1", nil)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got error %v, want one without the password", err)
	}
}

func TestNewLeavesTheConnectionOpen(t *testing.T) {
	s := natsServer(t, -1)
	c := connect(t, s.ClientURL())
	b := New(c.Conn(), nil)
	if _, err := b.Subscribe(t.Context(), "t", func(string, []byte) {}); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if err := c.Publish(t.Context(), "t", []byte("x")); err != nil {
		t.Errorf("after the Close of a bus on the same connection: got error %v, want none", err)
	}
}
