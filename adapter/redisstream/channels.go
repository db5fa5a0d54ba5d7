package redisstream

import (
	"errors"
	"fmt"

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

// known has an error of the channels say what errors of this package say.
func known(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redisbus.ErrAway), errors.Is(err, redisshard.ErrAway):
		return fmt.Errorf("%w: %w", ErrAway, err)
	case errors.Is(err, redisbus.ErrClosed), errors.Is(err, redisshard.ErrClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	default:
		return fmt.Errorf("redisstream: %w", err)
	}
}
