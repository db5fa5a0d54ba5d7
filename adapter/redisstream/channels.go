package redisstream

import (
	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/adapter/redisshard"
	"github.com/atollhq/atoll/cluster"
)

// channels is what carries the channels: Pub/Sub as it is in the adapters that have nothing else, plain or sharded.
type channels interface {
	cluster.Bus
	cluster.Counter
}

// newChannels returns what carries the channels.
func newChannels(client rueidis.Client, o *Options) channels {
	if o.UseShardedPubSub {
		return redisshard.New(client, &redisshard.Options{
			Prefix: o.ChannelPrefix, Mode: redisshard.Static, PublishTimeout: o.PublishTimeout, Logger: o.Logger,
		})
	}
	return redisbus.New(client, &redisbus.Options{
		Prefix: o.ChannelPrefix, PublishTimeout: o.PublishTimeout, Logger: o.Logger,
	})
}
