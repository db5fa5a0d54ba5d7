//go:build unix

package redisbus_test

import (
	"testing"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/redistest"
)

// rig makes a Redis fail.
func rig(t testing.TB, new func(rueidis.Client, *redisbus.Options) *redisbus.Bus) *clustertest.Rig {
	s := redistest.Start(t)
	return &clustertest.Rig{
		Addr: s.Addr(),
		Open: func(t testing.TB, addr string) cluster.Bus {
			c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true})
			if err != nil {
				t.Fatal(err)
			}
			return ownBus{new(c, &redisbus.Options{Logger: quiet}), c}
		},
		Kill: s.Kill, Restart: s.Restart, Freeze: s.Stop, Thaw: s.Continue,
	}
}

func TestFaults(t *testing.T) {
	clustertest.TestFaults(t, func(t testing.TB) *clustertest.Rig { return rig(t, redisbus.New) })
}

func TestNativeFaults(t *testing.T) {
	clustertest.TestFaults(t, func(t testing.TB) *clustertest.Rig { return rig(t, redisbus.NewNative) })
}

func TestNativeRouted(t *testing.T) {
	s := redistest.Start(t)
	clustertest.TestRouted(t, func(t *testing.T) cluster.Bus { return openNative(t, s.Addr()) })
}
