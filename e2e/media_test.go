//go:build unix

package e2e

import (
	"log/slog"
	"testing"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/redistest"
)

// A medium is a format that Atoll and Node.js nodes share, on what carries it.
type medium struct {
	name  string
	start func(t testing.TB) *place
}

// media are all that the tests of the world run on.
var media = []medium{classic}

// A place is a medium that runs.
type place struct {
	bus     func(t testing.TB) cluster.Bus // makes a bus for a node or an emitter, which ends with t
	adapter object                         // what Node.js nodes and emitters are told, see js/media.js
	emitter bool                           // there is an official emitter
	plain   bool                           // server-side events have no binary among Node.js nodes
	late    bool                           // Node.js nodes let what is small overtake what is large or has binary
	redis   *redistest.Server              // where it is one

	// joined, where set, waits until so many nodes hear what is for a room; Node.js nodes do not wait for that
	// when a client joins.
	joined func(t testing.TB, nsp, room string, nodes int)
}

var quiet = slog.New(slog.DiscardHandler)

// classic is @socket.io/redis-adapter.
var classic = medium{"classic", func(t testing.TB) *place {
	redis := redistest.Start(t)
	return &place{
		bus: func(t testing.TB) cluster.Bus {
			bus := redisbus.New(dial(t, redis.Addr()), &redisbus.Options{Logger: quiet})
			t.Cleanup(func() { bus.Close() })
			return bus
		},
		adapter: object{"kind": "classic", "url": "redis://" + redis.Addr()},
		emitter: true, plain: true, redis: redis,
	}
}}

// dial makes a client of Redis.
func dial(t testing.TB, addr string) rueidis.Client {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
