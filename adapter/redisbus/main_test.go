//go:build unix

package redisbus_test

import (
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/internal/redistest"
)

// dial makes a client.
func dial(t testing.TB, addr string) rueidis.Client {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// open makes a bus.
func open(t testing.TB, s *redistest.Server, o *redisbus.Options) *redisbus.Bus {
	t.Helper()
	b := redisbus.New(dial(t, s.Addr()), o)
	t.Cleanup(func() { b.Close() })
	return b
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
