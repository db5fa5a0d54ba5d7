//go:build unix

package redisshard_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/adapter/redisshard"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/redistest"
)

// opener returns a function that makes buses with clients of their own, which go with the test.
func opener(o rueidis.ClientOption) func(t testing.TB) *redisshard.Bus {
	o.DisableCache = true
	return func(t testing.TB) *redisshard.Bus {
		t.Helper()
		c, err := rueidis.NewClient(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		b := redisshard.New(c, &redisshard.Options{Logger: quiet})
		t.Cleanup(func() { b.Close() })
		return b
	}
}

func TestTLS(t *testing.T) {
	s := redistest.StartTLS(t)
	open := opener(rueidis.ClientOption{InitAddress: []string{s.Addr()}, TLSConfig: s.ClientTLS(), ForceSingleClient: true})
	clustertest.TestBus(t, func(t *testing.T) cluster.Bus { return open(t) })
}

func TestValkey(t *testing.T) {
	s := redistest.StartValkey(t)
	open := opener(rueidis.ClientOption{InitAddress: []string{s.Addr()}, ForceSingleClient: true})
	clustertest.TestBus(t, func(t *testing.T) cluster.Bus { return open(t) })
	clustertest.TestRouted(t, func(t *testing.T) cluster.Bus { return open(t) })
}

// TestACL runs a cluster as a user who may do nothing but what the package's documentation says.
func TestACL(t *testing.T) {
	s := redistest.Start(t)
	s.AddUser(t, "chat", "secret", "resetkeys", "resetchannels", "-@all", "+hello", "+ping", "+spublish", "+ssubscribe",
		"+sunsubscribe", "+pubsub|shardnumsub", "&socket.io-atoll#*", "&socket.io#/#*", "&socket.io#/chat#*")
	open := opener(rueidis.ClientOption{
		InitAddress: []string{s.Addr()}, Username: "chat", Password: "secret", ForceSingleClient: true, ClientSetInfo: rueidis.DisableClientSetInfo,
	})
	clustertest.TestFault(t, &clustertest.Rig{Open: func(t testing.TB, _ string) cluster.Bus { return open(t) }}, func(*testing.T) {})
	b := open(t)
	d := redisshard.NewDialect(nil)
	for _, topic := range append(d.Topics("me", ""), append(d.Topics("me", "/chat"), d.Route("/chat", "room"))...) {
		if sub, err := b.Subscribe(t.Context(), topic, func(string, []byte) {}); err != nil {
			t.Errorf("Subscribe(%q): %v", topic, err)
		} else {
			sub.Close()
		}
	}
	if err := b.Publish(t.Context(), "another", nil); err == nil {
		t.Error("Publish to a channel that the user may not use: got no error, want one")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := b.Subscribe(ctx, "socket.io#/other#", func(string, []byte) {}); err == nil {
		t.Error("Subscribe to a namespace that the user may not use: got no error, want one")
	}
}

// TestSentinel has the master die while nodes talk.
func TestSentinel(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	settle(t)
	s := redistest.StartSentinel(t)
	open := opener(rueidis.ClientOption{InitAddress: s.Addrs(), Sentinel: rueidis.SentinelOption{MasterSet: redistest.MasterName}})
	clustertest.TestFault(t, &clustertest.Rig{Open: func(t testing.TB, _ string) cluster.Bus { return open(t) }},
		func(t *testing.T) { s.Failover(t) })
}
