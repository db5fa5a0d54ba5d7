package redisstream

import (
	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/adapter/redisbus"
)

// newChannels returns what carries the channels.
func newChannels(client rueidis.Client, o *Options) channels {
	return redisbus.New(client, &redisbus.Options{
		Prefix: o.ChannelPrefix, PublishTimeout: o.PublishTimeout, Logger: o.Logger,
	})
}
