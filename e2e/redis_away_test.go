//go:build unix

package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/redisbus"
)

// TestRedisAway kills Redis: local delivery goes on, Emit reports what did not go out, and the
// cluster heals by itself when Redis is back.
func TestRedisAway(t *testing.T) {
	w := startWorld(t, classic)
	own, js := goActor{w.a}, jsActor{w.js, ""}
	own.emit(t, who{}, "before")
	wantOnly(t, w.barrier(t, own, everybody...), everybody, "before()")

	w.redis.Kill()
	for i := range 20 {
		start := time.Now()
		err := w.a.srv.Of("/").Emit(t.Context(), "away", i)
		if err == nil {
			t.Errorf("Emit %d without Redis: got no error, want one", i)
		}
		if d := time.Since(start); d > 300*time.Millisecond {
			t.Errorf("Emit %d without Redis took %v, want less than 300ms", i, d)
		}
	}
	eventually(t, "local delivery", func() bool { return len(w.clients.of("a1")) == 20 })
	if got := w.clients.of("b1"); len(got) != 0 {
		t.Errorf("client of another node: got %q, want nothing", got)
	}
	if got := w.a.bus.(*redisbus.Bus).Stats().Failed; got < 20 {
		t.Errorf("got %d failed publications, want 20 or more", got)
	}

	w.clients.forget()
	if err := w.redis.Restart(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for _, n := range []*goNode{w.a, w.b} {
		eventually(t, "subscriptions of "+n.name, func() bool { return n.bus.(*redisbus.Bus).Stats().Reconnects > 0 })
	}
	t.Logf("subscribed again %v after the restart", time.Since(start).Round(time.Millisecond))
	eventually(t, "both Node.js nodes", func() bool { // each subscribes again when it gets to it
		own.emit(t, who{}, "back")
		return slices.Contains(w.clients.of("j1"), "back()") && slices.Contains(w.clients.of("j2"), "back()")
	})
	for _, a := range []actor{own, js} {
		w.barrier(t, a, everybody...)
		a.emit(t, who{in: []string{"red"}}, "after")
		wantOnly(t, w.barrier(t, a, everybody...), []string{"a1", "b1", "j1"}, "after()")
	}
	eventually(t, "members", func() bool { return len(w.a.node.Peers()) == 1 && len(w.b.node.Peers()) == 1 })
	for name, a := range w.askers() {
		if got := a.fetch(t, who{}); len(got) != len(everybody) {
			t.Errorf("%s: got %d sockets, want %d", name, len(got), len(everybody))
		}
	}
}

// TestRedisGarbage publishes malformed messages: they are counted, and do no harm.
func TestRedisGarbage(t *testing.T) {
	w := startWorld(t, classic)
	client := dial(t, w.redis.Addr())
	before := w.a.node.Stats().Malformed
	sent := uint64(0)
	for _, m := range []struct{ channel, data string }{
		// The official adapter ends its process on a malformed broadcast. To a room that it
		// does not hold, it does not look.
		{"socket.io#/#nobody#", "\x93\xa3uid"},
		{"socket.io#/#nobody#", ""},
		{"socket.io#/#nobody#", "\xc1"},
		{"socket.io#/#nobody#", "\x93\xa3uid\x83\xa4type\x02\xa4data\x90\xa3nsp\xa1/\x83\xa5rooms\x90\xa6except\x90\xa5flags\x80"},
		{"socket.io-request#/#", "{"},
		{"socket.io-request#/#", `{"type":99}`},
		{"socket.io-request#/#", "\x85\xa4type\x07"},
		{"socket.io-response#/#", "{"},
		{"socket.io-response#/#", "\xdf\xff\xff\xff\xff"},
		{"socket.io-atoll#", "hello"},
	} {
		if err := client.Do(t.Context(), client.B().Publish().Channel(m.channel).Message(m.data).Build()).Error(); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	eventually(t, "malformed messages counted", func() bool { return w.a.node.Stats().Malformed >= before+sent })
	if got := w.a.node.Stats().Malformed - before; got != sent {
		t.Errorf("got %d malformed messages, want %d", got, sent)
	}
	for _, a := range []actor{goActor{w.a}, jsActor{w.js, ""}} {
		a.emit(t, who{}, "still here")
		wantOnly(t, w.barrier(t, a, everybody...), everybody, "still here()")
	}
}
