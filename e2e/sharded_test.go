//go:build unix

package e2e

import (
	"testing"

	"github.com/atollhq/atoll/adapter/redisshard"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/redistest"
)

func init() {
	media = append(media, sharded(redisshard.Static), sharded(redisshard.Dynamic), sharded(redisshard.DynamicPrivate))
}

// sharded is createShardedAdapter of @socket.io/redis-adapter.
func sharded(mode redisshard.Mode) medium {
	return medium{"sharded " + string(mode), func(t testing.TB) *place {
		redis := redistest.Start(t)
		p := &place{
			bus: func(t testing.TB) cluster.Bus {
				bus := redisshard.New(dial(t, redis.Addr()), &redisshard.Options{Mode: mode, Logger: quiet})
				t.Cleanup(func() { bus.Close() })
				return bus
			},
			adapter: object{"kind": "sharded", "url": "redis://" + redis.Addr(), "options": object{"subscriptionMode": string(mode)}},
			redis:   redis,
		}
		if mode != redisshard.Static {
			p.joined = func(t testing.TB, nsp, room string, nodes int) {
				t.Helper()
				channel := "socket.io#" + nsp + "#" + room + "#"
				eventually(t, "subscribers of "+channel, func() bool {
					counts, _ := redis.MustDo(t, "PUBSUB", "SHARDNUMSUB", channel).([]any)
					return len(counts) == 2 && counts[1] == int64(nodes)
				})
			}
		}
		return p
	}}
}
