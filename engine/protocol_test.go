package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The cases of the official protocol suite, and their neighbours. All run in memory on
// simulated time; the server then writes and reads as with TLS. TestRealConnections does the main ones over TCP.

// inMemory runs f in a bubble of simulated time, with a server that echoes.
func inMemory(t *testing.T, o *Options, setup func(*recorder), f func(g *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newRig(t, o, setup)) })
}

func echoes(r *recorder) { r.message = echo }

func TestPollingMessages(t *testing.T) {
	inMemory(t, nil, echoes, func(g *rig) {
		id := g.openPoll()
		for _, payload := range []string{
			"4hello",
			"4test1\x1e4test2\x1e4test3",
			"4hello\x1ebAQIDBA==",
			"4€ and \U0001f600",
			"4",
			"b",
		} {
			if status, body := g.post(id, payload); status != 200 || body != "ok" {
				t.Fatalf("POST %q: got %d %q, want 200 ok", payload, status, body)
			}
			if status, body := g.get(id); status != 200 || body != payload {
				t.Errorf("GET: got %d %q, want 200 %q", status, body, payload)
			}
		}
		if got, want := g.rec(0).messages(), "hello test1 test2 test3 hello b:\x01\x02\x03\x04 € and \U0001f600  b:"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestPollWaits checks that a poll that was open first gets all that one batch sends.
func TestPollWaits(t *testing.T) {
	inMemory(t, nil, echoes, func(g *rig) {
		id := g.openPoll()
		var posting sync.WaitGroup
		defer posting.Wait()
		posting.Go(func() {
			time.Sleep(time.Second)
			g.post(id, "4a\x1e4b")
		})
		start := time.Now()
		if status, body := g.get(id); status != 200 || body != "4a\x1e4b" {
			t.Errorf("got %d %q, want 200 4a|4b", status, body)
		}
		if got := time.Since(start); got != time.Second {
			t.Errorf("the poll took %v, want 1s", got)
		}
	})
}

func TestWebSocketMessages(t *testing.T) {
	inMemory(t, nil, echoes, func(g *rig) {
		k := g.openWS()
		k.send("4hello")
		k.want("4hello")
		k.write(masked(0x82, "\x01\x02\x03\x04"))
		k.want("b:\x01\x02\x03\x04")
		k.send("4a", "4b", "6", "5", "4c")
		k.want("4a", "4b", "4c")
		big := "4" + strings.Repeat("x", 100_000)
		k.send(big)
		k.want(big)
		k.write(append(masked(0x01, "4frag"), append(masked(0x89, "p"), masked(0x80, "ments")...)...))
		// The pong was sent first, and what the handlers sent in that batch after it.
		k.want("pong:p", "4fragments")
	})
}

// TestFramesBeforeTheAnswer sends messages with the request, before the open packet can be there.
func TestFramesBeforeTheAnswer(t *testing.T) {
	inMemory(t, nil, echoes, func(g *rig) {
		k := g.ws("", append(masked(0x81, "4early"), masked(0x81, "4bird")...)...)
		if got := k.next(); !strings.HasPrefix(got, "0{") {
			t.Fatalf("got %q, want an open packet", got)
		}
		k.want("4early", "4bird")
	})
}

// TestEndings is about how sessions end: what the client sees, and what the handler is told.
func TestEndings(t *testing.T) {
	t.Run("invalid packet, polling", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			for i, payload := range []string{"abc", "", "4a\x1e", "4\xff", "b!", "4a\x1e9"} {
				id := g.openPoll()
				if status, _ := g.post(id, payload); status != 400 {
					t.Errorf("POST %q: got %d, want 400", payload, status)
				}
				if status, body := g.get(id); status != 400 || !strings.Contains(body, `"code":1`) {
					t.Errorf("GET after %q: got %d %q, want 400 and code 1", payload, status, body)
				}
				if got := g.rec(i).wait(t).Reason; got != ReasonParseError {
					t.Errorf("%q: got reason %q, want parse error", payload, got)
				}
			}
		})
	})
	t.Run("invalid packet, WebSocket", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			for i, c := range []struct{ packet, reason string }{
				{"abc", ReasonParseError}, {"", ReasonParseError}, {"2", ReasonTransportError}, {"2probe", ReasonTransportError},
			} {
				k := g.openWS()
				k.send(c.packet)
				k.want("close:1002")
				if got := g.rec(i).wait(t).Reason; got != c.reason {
					t.Errorf("%q: got reason %q, want %q", c.packet, got, c.reason)
				}
			}
		})
	})
	t.Run("ping from the client, polling", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			id := g.openPoll()
			if status, _ := g.post(id, "2"); status != 400 {
				t.Errorf("got %d, want 400", status)
			}
			if got := g.rec(0).wait(t).Reason; got != ReasonTransportError {
				t.Errorf("got reason %q, want transport error", got)
			}
		})
	})
	t.Run("two polls", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			id := g.openPoll()
			first := make(chan string)
			go func() {
				_, body := g.get(id)
				first <- body
			}()
			synctest.Wait()
			if status, _ := g.get(id); status != 400 {
				t.Errorf("second poll: got %d, want 400", status)
			}
			if got := <-first; got != "1" {
				t.Errorf("first poll: got %q, want a close packet", got)
			}
			if status, _ := g.get(id); status != 400 {
				t.Errorf("third poll: got %d, want 400", status)
			}
			if got := g.rec(0).wait(t); got.Reason != ReasonTransportError {
				t.Errorf("got %v, want transport error", got)
			}
		})
	})
	t.Run("cancelled poll", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			id := g.openPoll()
			ctx, cancel := context.WithTimeout(g.Context(), time.Second)
			defer cancel()
			if _, _, _, err := g.try(ctx, "GET", poll(id), ""); err == nil {
				t.Error("got no error, want that of the context")
			}
			if got := g.rec(0).wait(t).Reason; got != ReasonTransportError {
				t.Errorf("got %q, want transport error", got)
			}
			if status, _ := g.get(id); status != 400 {
				t.Errorf("got %d, want 400", status)
			}
		})
	})
	t.Run("close packet, polling", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			id := g.openPoll()
			first := make(chan string)
			go func() {
				_, body := g.get(id)
				first <- body
			}()
			synctest.Wait()
			if status, body := g.post(id, "4last\x1e1\x1e4ignored"); status != 200 || body != "ok" {
				t.Errorf("POST: got %d %q, want 200 ok", status, body)
			}
			if got := <-first; got != "6" {
				t.Errorf("poll: got %q, want a noop packet", got)
			}
			if got := g.rec(0).wait(t).Reason; got != ReasonTransportClose {
				t.Errorf("got %q, want transport close", got)
			}
			if got := g.rec(0).messages(); got != "last" {
				t.Errorf("got messages %q, want last", got)
			}
		})
	})
	t.Run("close packet, WebSocket", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			k := g.openWS()
			k.send("4last", "1", "4ignored")
			k.want("close:1000", "EOF")
			if got := g.rec(0).wait(t); got.Reason != ReasonTransportClose || g.rec(0).messages() != "last" {
				t.Errorf("got %v after %q, want transport close after last", got, g.rec(0).messages())
			}
		})
	})
	t.Run("close frame", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			for i, c := range []struct {
				payload string
				code    int
			}{{"", 1005}, {"\x03\xe9", 1001}, {"\x0f\xa0bye", 4000}} {
				k := g.openWS()
				k.write(masked(0x88, c.payload))
				k.want(fmt.Sprint("close:", c.code), "EOF")
				if got := g.rec(i).wait(t); got.Reason != ReasonTransportClose || got.Code != c.code {
					t.Errorf("%q: got %v, want transport close and %d", c.payload, got, c.code)
				}
			}
		})
	})
	t.Run("connection gone", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			g.openWS().Close()
			if got := g.rec(0).wait(t); got.Reason != ReasonTransportClose {
				t.Errorf("got %v, want transport close", got)
			}
		})
	})
}

func TestHeartbeat(t *testing.T) {
	o := &Options{PingInterval: 300 * time.Millisecond, PingTimeout: 200 * time.Millisecond}
	t.Run("polling", func(t *testing.T) {
		inMemory(t, o, nil, func(g *rig) {
			id := g.openPoll()
			for range 3 {
				start := time.Now()
				if status, body := g.get(id); status != 200 || body != "2" {
					t.Fatalf("got %d %q, want a ping", status, body)
				}
				if got := time.Since(start); got != o.PingInterval {
					t.Errorf("ping after %v, want %v", got, o.PingInterval)
				}
				g.post(id, "3")
			}
		})
	})
	t.Run("polling, no pong", func(t *testing.T) {
		inMemory(t, o, nil, func(g *rig) {
			id, start := g.openPoll(), time.Now()
			if got := g.rec(0).wait(t); got.Reason != ReasonPingTimeout || time.Since(start) != 500*time.Millisecond {
				t.Errorf("got %v after %v, want ping timeout after 500ms", got, time.Since(start))
			}
			if status, _ := g.get(id); status != 400 {
				t.Errorf("got %d, want 400", status)
			}
		})
	})
	t.Run("WebSocket", func(t *testing.T) {
		inMemory(t, o, nil, func(g *rig) {
			k := g.openWS()
			for range 3 {
				k.want("2")
				k.send("3")
			}
			k.want("2", "EOF") // no pong any more
			if got := g.rec(0).wait(t); got.Reason != ReasonPingTimeout {
				t.Errorf("got %v, want ping timeout", got)
			}
		})
	})
	t.Run("unasked pongs change nothing", func(t *testing.T) {
		inMemory(t, o, nil, func(g *rig) {
			k, start := g.openWS(), time.Now()
			go func() {
				for range 29 {
					time.Sleep(10 * time.Millisecond)
					k.send("3")
				}
			}()
			k.want("2")
			if got := time.Since(start); got != o.PingInterval {
				t.Errorf("ping after %v, want %v", got, o.PingInterval)
			}
		})
	})
	t.Run("never", func(t *testing.T) {
		inMemory(t, &Options{PingInterval: -1}, nil, func(g *rig) {
			k := g.ws("")
			if got := k.next(); !strings.Contains(got, `"pingInterval":2147463647,"pingTimeout":20000`) {
				t.Errorf("got %q, want the longest interval that clients can count", got)
			}
			time.Sleep(24 * time.Hour)
			g.rec(0).c.Send(text("still here"))
			k.want("4still here")
		})
	})
}
