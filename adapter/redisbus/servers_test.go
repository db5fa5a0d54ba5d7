//go:build unix

package redisbus_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/redistest"
)

// opener returns a function that makes buses with clients of their own, which go with the test.
func opener(o rueidis.ClientOption) func(t testing.TB) *redisbus.Bus {
	o.DisableCache = true
	return func(t testing.TB) *redisbus.Bus {
		t.Helper()
		c, err := rueidis.NewClient(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		b := redisbus.New(c, &redisbus.Options{Logger: quiet})
		t.Cleanup(func() { b.Close() })
		return b
	}
}

// kit runs the kit; the whole of it takes half a minute and is left out where the tests are to be short.
func kit(t *testing.T, open func(t testing.TB) *redisbus.Bus) {
	t.Helper()
	f := func(t *testing.T) cluster.Bus { return open(t) }
	t.Run("bus", func(t *testing.T) { clustertest.TestBus(t, f) })
	if !testing.Short() {
		t.Run("cluster", func(t *testing.T) { clustertest.TestCluster(t, f) })
	}
}

// lull waits until the goroutines have ended with which a client of many servers looks after old
// connections, for five seconds.
func lull(t *testing.T) {
	t.Cleanup(func() {
		for deadline := time.Now().Add(15 * time.Second); goleak.Find() != nil && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
		}
	})
}

func TestTLS(t *testing.T) {
	s := redistest.StartTLS(t)
	open := opener(rueidis.ClientOption{InitAddress: []string{s.Addr()}, TLSConfig: s.ClientTLS(), ForceSingleClient: true})
	clustertest.TestBus(t, func(t *testing.T) cluster.Bus { return open(t) })
}

func TestValkey(t *testing.T) {
	s := redistest.StartValkey(t)
	kit(t, opener(rueidis.ClientOption{InitAddress: []string{s.Addr()}, ForceSingleClient: true}))
}

// TestACL runs a cluster as users who may do nothing but what the package's documentation says.
func TestACL(t *testing.T) {
	s := redistest.Start(t)
	commands := []string{
		"resetkeys", "resetchannels", "-@all", "+hello", "+ping", "+publish",
		"+subscribe", "+unsubscribe", "+psubscribe", "+punsubscribe", "+pubsub|numsub",
	}
	s.AddUser(t, "everywhere", "secret", append(commands, "&*")...)
	s.AddUser(t, "chat", "secret", append(commands, "&socket.io-*", "&socket.io#/#*", "&socket.io#/chat-1#*")...)
	as := func(user string) func(t testing.TB) *redisbus.Bus {
		return opener(rueidis.ClientOption{
			InitAddress: []string{s.Addr()}, Username: user, Password: "secret", ForceSingleClient: true, ClientSetInfo: rueidis.DisableClientSetInfo,
		})
	}
	clustertest.TestCluster(t, func(t *testing.T) cluster.Bus { return as("everywhere")(t) })

	open := as("chat")
	clustertest.TestFault(t, &clustertest.Rig{Open: func(t testing.TB, _ string) cluster.Bus { return open(t) }}, func(*testing.T) {})
	b := open(t)
	d := redisbus.NewDialect(nil)
	for _, topic := range append(d.Topics("me", ""), d.Topics("me", "/chat-1")...) {
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
	if _, err := b.Subscribe(ctx, "socket.io#/other#*", func(string, []byte) {}); err == nil {
		t.Error("Subscribe to a namespace that the user may not use: got no error, want one")
	}
}

func TestSentinel(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	lull(t)
	s := redistest.StartSentinel(t)
	open := opener(rueidis.ClientOption{InitAddress: s.Addrs(), Sentinel: rueidis.SentinelOption{MasterSet: redistest.MasterName}})
	t.Run("bus", func(t *testing.T) { clustertest.TestBus(t, func(t *testing.T) cluster.Bus { return open(t) }) })
	t.Run("failover", func(t *testing.T) {
		clustertest.TestFault(t, &clustertest.Rig{Open: func(t testing.TB, _ string) cluster.Bus { return open(t) }},
			func(t *testing.T) { s.Failover(t) })
	})
}

func TestRedisCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	lull(t)
	c := redistest.StartReplicated(t)
	open := opener(rueidis.ClientOption{InitAddress: c.Addrs()})
	kit(t, func(t testing.TB) *redisbus.Bus { return open(t) })
	r := &clustertest.Rig{Open: func(t testing.TB, _ string) cluster.Bus { return open(t) }}
	slot := c.Slot(t, "socket.io") // of the node through which is published
	t.Run("slots move", func(t *testing.T) {
		clustertest.TestFault(t, r, func(t *testing.T) {
			for range 2 {
				for _, p := range c.Primaries(t) {
					c.MoveSlot(t, slot, p)
				}
			}
		})
	})
	t.Run("failover", func(t *testing.T) {
		clustertest.TestFault(t, r, func(t *testing.T) {
			owner := c.Owner(t, slot)
			owner.Kill()
			c.Promoted(t, slot, owner)
		})
	})
}
