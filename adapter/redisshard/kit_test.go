//go:build unix

package redisshard_test

import (
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/redisshard"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/redistest"
)

// patient lets a Redis on a busy machine think.
func patient(m redisshard.Mode) *redisshard.Options {
	return &redisshard.Options{Mode: m, PublishTimeout: 10 * time.Second}
}

func TestBus(t *testing.T) {
	s := redistest.Start(t)
	clustertest.TestBus(t, func(t *testing.T) cluster.Bus { return open(t, patient(redisshard.Static), s.Addr()) })
}

func TestCluster(t *testing.T) {
	s := redistest.Start(t)
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			o := patient(mode)
			clustertest.TestCluster(t, func(t *testing.T) cluster.Bus { return open(t, o, s.Addr()) })
		})
	}
}

// TestRedisCluster runs the kit on three Redis servers that are one Redis Cluster.
func TestRedisCluster(t *testing.T) {
	settle(t)
	addrs := redistest.StartCluster(t)
	t.Run("bus", func(t *testing.T) {
		clustertest.TestBus(t, func(t *testing.T) cluster.Bus { return open(t, patient(redisshard.Static), addrs...) })
	})
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			o := patient(mode)
			clustertest.TestCluster(t, func(t *testing.T) cluster.Bus { return open(t, o, addrs...) })
			if mode != redisshard.Static && !testing.Short() {
				clustertest.TestRouted(t, func(t *testing.T) cluster.Bus { return open(t, o, addrs...) })
			}
		})
	}
}

// TestRouted has nodes enter and leave rooms, and be reached at once.
func TestRouted(t *testing.T) {
	s := redistest.Start(t)
	for _, mode := range modes[1:] {
		t.Run(string(mode), func(t *testing.T) {
			o := patient(mode)
			clustertest.TestRouted(t, func(t *testing.T) cluster.Bus { return open(t, o, s.Addr()) })
		})
	}
}

// TestFrozen stops the process of a node: it is missed by name.
func TestFrozen(t *testing.T) {
	clustertest.TestFrozen(t, redistest.Start(t).Addr(), dialBus)
}

// TestDeaths kills a node, and freezes one for long enough to be taken for dead.
func TestDeaths(t *testing.T) {
	clustertest.TestDeaths(t, redistest.Start(t).Addr(), dialBus)
}
