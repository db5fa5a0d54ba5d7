//go:build unix

package redisshard_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/redisshard"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/redistest"
)

// TestFaults has Redis, and the way there, fail while nodes talk.
func TestFaults(t *testing.T) {
	for _, mode := range []redisshard.Mode{redisshard.Static, redisshard.Dynamic} {
		t.Run(string(mode), func(t *testing.T) {
			clustertest.TestFaults(t, func(t testing.TB) *clustertest.Rig {
				s := redistest.Start(t)
				return &clustertest.Rig{
					Addr: s.Addr(),
					Open: func(t testing.TB, addr string) cluster.Bus {
						b, err := dial(&redisshard.Options{Mode: mode, Logger: quiet}, addr)
						if err != nil {
							t.Fatal(err)
						}
						return b
					},
					Kill: s.Kill, Restart: s.Restart, Freeze: s.Stop, Thaw: s.Continue,
				}
			})
		})
	}
}

// mail collects what a subscription delivers.
type mail struct {
	mu   sync.Mutex
	msgs []string
}

func (m *mail) deliver(topic string, msg []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.msgs = append(m.msgs, string(msg))
}

func (m *mail) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.msgs)
}

func subscribe(t *testing.T, b *redisshard.Bus, topic string) *mail {
	t.Helper()
	m := &mail{}
	if _, err := b.Subscribe(t.Context(), topic, m.deliver); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestRestart kills Redis and starts it again: Publish fails fast in between, and the
// subscriptions heal.
func TestRestart(t *testing.T) {
	s := redistest.Start(t)
	a := open(t, &redisshard.Options{Logger: quiet}, s.Addr())
	b := open(t, &redisshard.Options{Logger: quiet}, s.Addr())
	m := subscribe(t, b, "topic")
	for round := range 3 {
		s.Kill()
		for range 5 {
			if err := a.Publish(t.Context(), "topic", []byte("lost")); err == nil {
				t.Error("Publish without Redis: got no error, want one")
			}
		}
		if _, err := a.Count(t.Context(), "topic"); err == nil {
			t.Error("Count without Redis: got no error, want one")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := a.Subscribe(ctx, "other", func(string, []byte) {}); !errors.Is(err, redisshard.ErrAway) {
			t.Errorf("Subscribe without Redis: got error %v, want one that wraps ErrAway", err)
		}
		cancel()
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a subscriber", func() bool {
			n, err := a.Count(t.Context(), "topic")
			return n == 1 && err == nil
		})
		if err := a.Publish(t.Context(), "topic", fmt.Append(nil, round)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the publication", func() bool { return len(m.all()) == round+1 })
	}
	if got, want := m.all(), []string{"0", "1", "2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := b.Stats().Reconnects; got != 3 {
		t.Errorf("got %d lost connections, want 3", got)
	}
}

// TestFrozenRedis stops Redis: the first Publish waits, the next ones fail at once.
func TestFrozenRedis(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, &redisshard.Options{Logger: quiet, PublishTimeout: 200 * time.Millisecond}, s.Addr())
	m := subscribe(t, b, "topic")
	if err := b.Publish(t.Context(), "topic", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := b.Publish(t.Context(), "topic", []byte("2")); !errors.Is(err, redisshard.ErrAway) {
			t.Errorf("Publish: got error %v, want one that wraps ErrAway", err)
		}
	}
	time.Sleep(5 * time.Second) // longer than the connection may be silent
	if err := s.Continue(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a message, again", func() bool {
		b.Publish(t.Context(), "topic", []byte("4"))
		return slices.Contains(m.all(), "4")
	})
}

// TestCount counts connections, not subscriptions, as Node.js nodes do.
func TestCount(t *testing.T) {
	s := redistest.Start(t)
	a, b := open(t, nil, s.Addr()), open(t, nil, s.Addr())
	count := func(want int) {
		t.Helper()
		if got, err := a.Count(t.Context(), "topic"); got != want || err != nil {
			t.Errorf("got a count of %d and error %v, want %d", got, err, want)
		}
	}
	count(0)
	one, err := a.Subscribe(t.Context(), "topic", func(string, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	count(1)
	subscribe(t, a, "topic")
	count(1)
	subscribe(t, b, "topic")
	count(2)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	count(2)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a count of 1", func() bool {
		n, err := a.Count(t.Context(), "topic")
		return n == 1 && err == nil
	})
}

// TestChurn subscribes and unsubscribes from many goroutines, with Redis killed in between.
func TestChurn(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, &redisshard.Options{Logger: quiet}, s.Addr())
	kept := subscribe(t, b, "kept")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 40 {
				sub, err := b.Subscribe(t.Context(), fmt.Sprint("topic", (i+j)%5), func(string, []byte) {})
				if err != nil {
					t.Errorf("Subscribe: %v", err)
					return
				}
				sub.Close()
			}
		})
	}
	time.Sleep(10 * time.Millisecond)
	s.Kill()
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	eventually(t, "the subscription that stays", func() bool {
		b.Publish(t.Context(), "kept", []byte("x"))
		return len(kept.all()) > 0
	})
	for i := range 5 {
		eventually(t, "no subscribers", func() bool {
			n, err := b.Count(t.Context(), fmt.Sprint("topic", i))
			return n == 0 && err == nil
		})
	}
}

// TestNotAllowed has Redis refuse: the error says so.
func TestNotAllowed(t *testing.T) {
	s := redistest.Start(t)
	s.MustDo(t, "ACL", "SETUSER", "default", "-ssubscribe")
	b := open(t, &redisshard.Options{Logger: quiet}, s.Addr())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := b.Subscribe(ctx, "topic", func(string, []byte) {})
	if err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("got error %v, want one that says NOPERM", err)
	}
}
