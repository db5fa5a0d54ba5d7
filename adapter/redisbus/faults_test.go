//go:build unix

package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/internal/redistest"
)

var quiet = slog.New(slog.DiscardHandler)

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

func subscribe(t *testing.T, b *redisbus.Bus, topic string) *mail {
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
	a := open(t, s, &redisbus.Options{Logger: quiet})
	b := open(t, s, &redisbus.Options{Logger: quiet})
	plain, pattern := subscribe(t, b, "topic"), subscribe(t, b, "socket.io#/a[b]#*")
	for round := range 3 {
		s.Kill()
		for range 5 {
			start := time.Now()
			if err := a.Publish(t.Context(), "topic", []byte("lost")); err == nil {
				t.Error("Publish without Redis: got no error, want one")
			}
			if d := time.Since(start); d > 900*time.Millisecond {
				t.Errorf("Publish without Redis took %v, want less than PublishTimeout", d)
			}
		}
		start := time.Now()
		if _, err := a.Count(t.Context(), "topic"); err == nil {
			t.Error("Count without Redis: got no error, want one")
		}
		if d := time.Since(start); d > 900*time.Millisecond {
			t.Errorf("Count without Redis took %v, want less than PublishTimeout", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := a.Subscribe(ctx, "other", func(string, []byte) {}); !errors.Is(err, redisbus.ErrAway) {
			t.Errorf("Subscribe without Redis: got error %v, want one that wraps ErrAway", err)
		}
		cancel()
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		eventually(t, "new subscriptions", func() bool { return b.Stats().Reconnects == uint64(round+1) })
		if d := time.Since(start); d > 8*time.Second {
			t.Errorf("subscribed again after %v, want less than 8s", d)
		}
		for _, topic := range []string{"topic", "socket.io#/a[b]#room#"} {
			var err error
			eventually(t, "a publication", func() bool {
				err = a.Publish(t.Context(), topic, fmt.Append(nil, round))
				return err == nil
			})
		}
		for _, m := range []*mail{plain, pattern} { // before Redis is killed with what it has not sent
			eventually(t, "the publication", func() bool { return slices.Contains(m.all(), fmt.Sprint(round)) })
		}
	}
	for name, m := range map[string]*mail{"plain": plain, "pattern": pattern} {
		if got, want := m.all(), []string{"0", "1", "2"}; !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := a.Stats(); got.Failed < 15 || got.Published != 6 {
		t.Errorf("got %+v, want 6 published and 15 failed or more", got)
	}
}

// TestFrozenRedis stops Redis: the first Publish waits, the next ones fail at once.
func TestFrozenRedis(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, &redisbus.Options{Logger: quiet, PublishTimeout: 100 * time.Millisecond})
	m := subscribe(t, b, "topic")
	if err := b.Publish(t.Context(), "topic", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := b.Publish(t.Context(), "topic", []byte("2")); !errors.Is(err, redisbus.ErrAway) {
		t.Errorf("first Publish: got error %v, want one that wraps ErrAway", err)
	}
	if d := time.Since(start); d < 90*time.Millisecond || d > 5*time.Second {
		t.Errorf("first Publish took %v, want about 100ms", d)
	}
	start = time.Now()
	for range 100 {
		if err := b.Publish(t.Context(), "topic", []byte("3")); !errors.Is(err, redisbus.ErrAway) {
			t.Errorf("Publish: got error %v, want one that wraps ErrAway", err)
		}
	}
	if d := time.Since(start); d > 5*time.Second { // each would wait for 100ms
		t.Errorf("100 times Publish took %v, want no wait", d)
	}
	if err := s.Continue(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Publish", func() bool { return b.Publish(t.Context(), "topic", []byte("4")) == nil })
	eventually(t, "message 4", func() bool { return slices.Contains(m.all(), "4") })
	if slices.Contains(m.all(), "3") {
		t.Error("got a message that was refused")
	}
}

// TestCount counts connections, not subscriptions, as Node.js nodes do.
func TestCount(t *testing.T) {
	s := redistest.Start(t)
	a, b := open(t, s, nil), open(t, s, nil)
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

// TestPatterns checks that what is special in a pattern of Redis stands for itself.
func TestPatterns(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, nil)
	names := []string{"/a[b]", "/ab", "/a", "/a*", "/ax", "/a?", `/a\b`, "/a^-]", "/[^a]", "/x y\r\n", "/ü"}
	mails := make([]*mail, len(names))
	for i, nsp := range names {
		mails[i] = subscribe(t, b, "socket.io#"+nsp+"#*")
	}
	for _, nsp := range names {
		for _, room := range []string{"", "r#", "[r]*?#"} {
			if err := b.Publish(t.Context(), "socket.io#"+nsp+"#"+room, []byte(nsp+room)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, nsp := range names {
		want := []string{nsp, nsp + "r#", nsp + "[r]*?#"}
		eventually(t, "messages of "+nsp, func() bool { return len(mails[i].all()) >= len(want) })
		if got := mails[i].all(); !slices.Equal(got, want) {
			t.Errorf("namespace %q: got %q, want %q", nsp, got, want)
		}
	}
}

// TestChurn subscribes and unsubscribes from many goroutines, with Redis killed in between.
func TestChurn(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, s, &redisbus.Options{Logger: quiet})
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
		if n, err := b.Count(t.Context(), fmt.Sprint("topic", i)); n != 0 || err != nil {
			t.Errorf("topic %d: got %d subscribers and error %v, want none", i, n, err)
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	s := redistest.Start(b)
	bus := redisbus.New(dial(b, s.Addr()), nil)
	defer bus.Close()
	msg := make([]byte, 256)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := bus.Publish(context.Background(), "topic", msg); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
