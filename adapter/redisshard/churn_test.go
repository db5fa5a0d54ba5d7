//go:build unix

package redisshard_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/redisshard"
	"github.com/atollhq/atoll/internal/redistest"
)

// TestGivenUp has many give up subscribing before Redis has answered, and subscribe again at once: who has subscribed
// is subscribed, and stays so.
func TestGivenUp(t *testing.T) {
	s := redistest.Start(t)
	a, b := open(t, nil, s.Addr()), open(t, &redisshard.Options{Logger: quiet}, s.Addr())
	for i := range 1500 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.N(400))*time.Microsecond)
		if sub, err := b.Subscribe(ctx, "topic", func(string, []byte) {}); err == nil {
			go sub.Close()
		}
		cancel()
		m := &mail{}
		sub, err := b.Subscribe(t.Context(), "topic", m.deliver)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprint(i)
		if err := a.Publish(t.Context(), "topic", []byte(want)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "message "+want, func() bool { return slices.Contains(m.all(), want) })
		if i%2 == 0 {
			sub.Close()
		} else {
			go sub.Close()
		}
	}
	if got := b.Stats().Moves; got != 0 {
		t.Errorf("got %d subscriptions that were lost, want none", got)
	}
}
