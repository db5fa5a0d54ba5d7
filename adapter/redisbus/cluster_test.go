//go:build unix

package redisbus_test

import (
	"os/exec"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/redistest"
)

// TestRedisCluster runs the kit on three Redis servers that are one Redis Cluster.
func TestRedisCluster(t *testing.T) {
	if _, err := exec.LookPath("redis-cli"); err != nil {
		t.Skip("redis-cli is not installed, which makes a cluster of servers")
	}
	t.Cleanup(func() { // the client has goroutines that look after old connections for 5 s
		for deadline := time.Now().Add(10 * time.Second); goleak.Find() != nil && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
		}
	})
	addrs := redistest.StartCluster(t)
	open := func(t *testing.T) cluster.Bus {
		c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: addrs, DisableCache: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		if c.Mode() != rueidis.ClientModeCluster {
			t.Fatalf("got mode %v, want a client of a cluster", c.Mode())
		}
		b := redisbus.New(c, nil)
		t.Cleanup(func() { b.Close() })
		return b
	}
	clustertest.TestBus(t, open)
	if !testing.Short() {
		clustertest.TestCluster(t, open)
	}
}
