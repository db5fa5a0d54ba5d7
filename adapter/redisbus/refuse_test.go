//go:build unix

package redisbus_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/internal/redistest"
)

// TestRefused subscribes to what the user may not use: the error says so, and the other subscriptions do
// not notice.
func TestRefused(t *testing.T) {
	s := redistest.Start(t)
	s.AddUser(t, "chat", "secret", "resetkeys", "resetchannels", "+@all", "&socket.io*", "&socket.io#/#*")
	b := opener(rueidis.ClientOption{InitAddress: []string{s.Addr()}, Username: "chat", Password: "secret", ForceSingleClient: true})(t)
	plain, pattern := subscribe(t, b, "socket.io-request#/#"), subscribe(t, b, "socket.io#/#*")

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := b.Subscribe(ctx, "another", func(string, []byte) {}); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("got error %v, want one that says NOPERM", err)
	}
	if got := b.Stats().Reconnects; got != 0 {
		t.Errorf("got %d new connections, want none", got)
	}
	for _, topic := range []string{"socket.io-request#/#", "socket.io#/#room#"} {
		if err := b.Publish(t.Context(), topic, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []*mail{plain, pattern} {
		eventually(t, "the message", func() bool { return slices.Equal(m.all(), []string{"x"}) })
	}

	s.MustDo(t, "ACL", "SETUSER", "chat", "&another")
	late := subscribe(t, b, "another")
	if err := b.Publish(t.Context(), "another", []byte("y")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message on what is allowed now", func() bool { return slices.Equal(late.all(), []string{"y"}) })
}

// TestShortDeadline publishes to a frozen Redis with deadlines shorter than PublishTimeout: they say nothing about Redis.
func TestShortDeadline(t *testing.T) {
	s := redistest.Start(t)
	var log strings.Builder
	b := open(t, s, &redisbus.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), PublishTimeout: time.Minute})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
		if err := b.Publish(ctx, "topic", nil); err == nil {
			t.Error("Publish to a frozen Redis: got no error, want one")
		}
		cancel()
	}
	if err := s.Continue(); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if strings.Contains(log.String(), "does not answer") {
		t.Error("a caller's own deadline had the whole bus taken for away")
	}
}
