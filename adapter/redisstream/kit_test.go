//go:build unix

package redisstream_test

import (
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/redisstream"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/redistest"
	"github.com/atollhq/atoll/recovery"
	"github.com/atollhq/atoll/recovery/recoverytest"
)

// patience is how long a Redis on a busy machine may think.
const patience = 10 * time.Second

func TestBus(t *testing.T) {
	s := redistest.Start(t)
	clustertest.TestBus(t, func(t *testing.T) cluster.Bus {
		return open(t, s, &redisstream.Options{Logger: quiet, PublishTimeout: patience})
	})
}

func TestCluster(t *testing.T) {
	s := redistest.Start(t)
	clustertest.TestCluster(t, func(t *testing.T) cluster.Bus {
		return open(t, s, &redisstream.Options{Logger: quiet, PublishTimeout: patience})
	})
}

// TestStreams runs the kit on several streams.
func TestStreams(t *testing.T) {
	s := redistest.Start(t)
	clustertest.TestCluster(t, func(t *testing.T) cluster.Bus {
		return open(t, s, &redisstream.Options{StreamName: "other", ChannelPrefix: "mine", StreamCount: 3, Logger: quiet, PublishTimeout: patience})
	})
}

// TestSharded runs the kit with sharded Pub/Sub and without binary in the stream.
func TestSharded(t *testing.T) {
	s := redistest.Start(t)
	clustertest.TestCluster(t, func(t *testing.T) cluster.Bus {
		return open(t, s, &redisstream.Options{UseShardedPubSub: true, OnlyPlaintext: true, Logger: quiet, PublishTimeout: patience})
	})
}

// TestFrozen stops the process of a node: it is missed by name.
func TestFrozen(t *testing.T) {
	clustertest.TestFrozen(t, redistest.Start(t).Addr(), dialBus)
}

// TestFaults has Redis keep what it took on disk: nothing may be lost.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	clustertest.TestFaults(t, func(t testing.TB) *clustertest.Rig {
		s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "everysec")
		return &clustertest.Rig{
			Addr: s.Addr(),
			Open: func(t testing.TB, addr string) cluster.Bus {
				b, err := dialBus(addr)
				if err != nil {
					t.Fatal(err)
				}
				return b
			},
			Kill: s.Kill, Restart: s.Restart, Freeze: s.Stop, Thaw: s.Continue,
			Lossless: true,
		}
	})
}

func TestSessions(t *testing.T) {
	s := redistest.Start(t)
	recoverytest.TestSessions(t, func(t testing.TB) recovery.Sessions {
		return open(t, s, &redisstream.Options{Logger: quiet, PublishTimeout: patience})
	}, nil)
}

// TestRedisCluster runs the kits on three Redis servers that are one Redis Cluster.
func TestRedisCluster(t *testing.T) {
	settleClients(t)
	addrs := redistest.StartCluster(t)
	for name, o := range map[string]redisstream.Options{
		"one stream":    {Logger: quiet, PublishTimeout: patience},
		"sharded":       {Logger: quiet, PublishTimeout: patience, StreamName: "sharded", ChannelPrefix: "sharded", UseShardedPubSub: true},
		"three streams": {Logger: quiet, PublishTimeout: patience, StreamName: "three", ChannelPrefix: "three", StreamCount: 3},
	} {
		t.Run(name, func(t *testing.T) {
			open := func(t testing.TB) *redisstream.Bus { return openCluster(t, &o, addrs...) }
			openBus := func(t *testing.T) cluster.Bus { return open(t) }
			clustertest.TestBus(t, openBus)
			recoverytest.TestSessions(t, func(t testing.TB) recovery.Sessions { return open(t) }, &recoverytest.Options{Many: 100})
			if !testing.Short() {
				clustertest.TestCluster(t, openBus)
			}
		})
	}
}

// TestDeaths kills a node, and freezes one for long enough to be taken for dead.
func TestDeaths(t *testing.T) {
	clustertest.TestDeaths(t, redistest.Start(t).Addr(), dialBus)
}
