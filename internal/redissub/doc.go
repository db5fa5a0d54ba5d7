// Package redissub is what the adapters on the Pub/Sub of Redis have in common: [Base] is a bus without its keeper,
// which is who sends the commands that subscribe; [Guard] notices a Redis that is silent; [Tasks] owns
// the goroutines.
package redissub

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/rueidis"
)

// How often, how long and how much at once.
const (
	FirstPause     = 10 * time.Millisecond  // before something that failed is tried again; it doubles
	LongestPause   = 500 * time.Millisecond // up to this
	CommandTimeout = 5 * time.Second        // for the commands that are sent at once
	Batch          = 256                    // topics in the commands that are sent at once

	// MaxMessage is the size in bytes of the largest message that a Redis takes as it is installed (proto-max-bulk-len).
	MaxMessage = 512 << 20
)

// NumSub asks one server how many of its connections subscribe to topic, with the given command: NUMSUB or SHARDNUMSUB. The
// command is an arbitrary one to the client, which would repeat its own until ctx ends.
func NumSub(ctx context.Context, node rueidis.Client, command, topic string) (int, error) {
	reply, err := node.Do(ctx, node.B().Arbitrary("PUBSUB", command).Args(topic).Build()).ToArray()
	if err != nil {
		return 0, err
	}
	if len(reply) != 2 {
		return 0, fmt.Errorf("PUBSUB %s answered with %d values", command, len(reply))
	}
	n, err := reply[1].AsInt64()
	return int(n), err
}
