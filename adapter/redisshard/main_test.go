//go:build unix

package redisshard_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/atollhq/atoll/adapter/redisshard"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
)

func TestMain(m *testing.M) { clustertest.Main(m, dialBus) }

var (
	quiet = slog.New(slog.DiscardHandler)
	modes = []redisshard.Mode{redisshard.Static, redisshard.Dynamic, redisshard.DynamicPrivate}
)

// An ownBus has a client of its own, which it closes.
type ownBus struct {
	*redisshard.Bus
	client rueidis.Client
}

func (b ownBus) Close() error {
	err := b.Bus.Close()
	b.client.Close()
	return err
}

func dialBus(addr string) (cluster.Bus, error) {
	b, err := dial(nil, addr)
	return b, err
}

func dial(o *redisshard.Options, addrs ...string) (ownBus, error) {
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: addrs, DisableCache: true, ForceSingleClient: len(addrs) == 1})
	if err != nil {
		return ownBus{}, errors.Join(fmt.Errorf("no Redis at %v", addrs), err)
	}
	return ownBus{redisshard.New(c, o), c}, nil
}

// open makes a bus, which ends with t.
func open(t testing.TB, o *redisshard.Options, addrs ...string) *redisshard.Bus {
	t.Helper()
	b, err := dial(o, addrs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b.Bus
}

// settle waits, when t ends, for the goroutines with which the client of a cluster looks after old
// connections for 5 s.
func settle(t testing.TB) {
	t.Cleanup(func() {
		for deadline := time.Now().Add(10 * time.Second); goleak.Find() != nil && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// eventually waits until ok, for a minute at most.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute, got no: %s", what)
		}
	}
}
