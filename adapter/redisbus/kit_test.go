//go:build unix

package redisbus_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/redistest"
)

func TestMain(m *testing.M) { clustertest.Main(m, dialBus) }

// An ownBus has a client of its own, which it closes.
type ownBus struct {
	*redisbus.Bus
	client rueidis.Client
}

func (b ownBus) Close() error {
	err := b.Bus.Close()
	b.client.Close()
	return err
}

// patient lets a Redis on a busy machine think.
var patient = &redisbus.Options{PublishTimeout: 10 * time.Second}

func dialBus(addr string) (cluster.Bus, error) {
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		return nil, errors.Join(errors.New("no Redis at "+addr), err)
	}
	return ownBus{redisbus.New(c, nil), c}, nil
}

func TestBus(t *testing.T) {
	s := redistest.Start(t)
	clustertest.TestBus(t, func(t *testing.T) cluster.Bus { return open(t, s, patient) })
}

func TestCluster(t *testing.T) {
	s := redistest.Start(t)
	clustertest.TestCluster(t, func(t *testing.T) cluster.Bus { return open(t, s, patient) })
}

// TestFrozen stops the process of a node: it is missed by name.
func TestFrozen(t *testing.T) {
	clustertest.TestFrozen(t, redistest.Start(t).Addr(), dialBus)
}

func openNative(t testing.TB, addr string) cluster.Bus {
	c := dial(t, addr)
	b := redisbus.NewNative(c, patient)
	t.Cleanup(func() { b.Close() })
	return b
}

func TestNativeBus(t *testing.T) {
	s := redistest.Start(t)
	clustertest.TestBus(t, func(t *testing.T) cluster.Bus { return openNative(t, s.Addr()) })
}

func TestNativeCluster(t *testing.T) {
	s := redistest.Start(t)
	clustertest.TestCluster(t, func(t *testing.T) cluster.Bus { return openNative(t, s.Addr()) })
}

func TestDeaths(t *testing.T) { clustertest.TestDeaths(t, redistest.Start(t).Addr(), dialBus) }
