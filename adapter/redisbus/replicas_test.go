//go:build unix

package redisbus_test

import (
	"testing"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/internal/redistest"
)

// TestReplicas counts in a Redis Cluster with replicas, which a client need not know of: each node is counted, by others too.
func TestReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes ten seconds")
	}
	lull(t)
	open := opener(rueidis.ClientOption{InitAddress: redistest.StartReplicated(t).Addrs()})
	for i := range 12 {
		b := open(t)
		subscribe(t, b, "topic")
		if n, err := b.Count(t.Context(), "topic"); n != i+1 || err != nil {
			t.Fatalf("got a count of %d and error %v, want %d", n, err, i+1)
		}
	}
}
