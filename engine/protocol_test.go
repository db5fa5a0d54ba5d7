package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atollhq/atoll/internal/sid"
)

// The cases of the official protocol suite, and their neighbours. All run in memory on
// simulated time; the server then writes and reads as with TLS. TestRealConnections does the main ones over TCP.

// inMemory runs f in a bubble of simulated time, with a server that echoes.
func inMemory(t *testing.T, o *Options, setup func(*recorder), f func(g *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newRig(t, o, setup)) })
}

func echoes(r *recorder) { r.message = echo }

func TestHandshakePolling(t *testing.T) {
	o := &Options{Tag: 0xabcd, PingInterval: 300 * time.Millisecond, PingTimeout: 200 * time.Millisecond}
	inMemory(t, o, nil, func(g *rig) {
		status, body, h := g.do("GET", "EIO=4&transport=polling&t=x", "")
		if status != 200 || !strings.HasPrefix(body, "0") {
			t.Fatalf("got %d %q, want 200 and an open packet", status, body)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(body[1:]), &got); err != nil {
			t.Fatal(err)
		}
		id, _ := got["sid"].(string)
		if tag, ok := sid.TagIn(id); !ok || tag != 0xabcd {
			t.Errorf("sid %q: got tag %v, want 0000abcd", id, tag)
		}
		want := map[string]any{"sid": id, "upgrades": []any{"websocket"}, "pingInterval": 300.0, "pingTimeout": 200.0, "maxPayload": 1e6}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("open packet (-want +got)\n%s", d)
		}
		for k, want := range map[string]string{"Content-Type": "text/plain; charset=UTF-8", "Cache-Control": "no-store", "Set-Cookie": ""} {
			if got := h.Get(k); got != want {
				t.Errorf("%s: got %q, want %q", k, got, want)
			}
		}
	})
}

func TestHandshakeWebSocket(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		k := g.ws("")
		var got map[string]any
		if err := json.Unmarshal([]byte(k.next()[1:]), &got); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{"sid": g.rec(0).c.ID(), "upgrades": []any{}, "pingInterval": 25000.0, "pingTimeout": 20000.0, "maxPayload": 1e6}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("open packet (-want +got)\n%s", d)
		}
		if got := g.rec(0).c.Transport(); got != WebSocket {
			t.Errorf("Transport: got %q, want websocket", got)
		}
	})
}

func TestRefusedRequests(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		id := g.openPoll()
		for _, c := range []struct {
			method, query string
			code          ErrorCode
		}{
			{"GET", "transport=polling", ErrUnsupportedVersion},
			{"GET", "EIO=abc&transport=polling", ErrUnsupportedVersion},
			{"GET", "EIO=3&transport=polling", ErrUnsupportedVersion},
			{"GET", "EIO=4&EIO=5&transport=polling", ErrUnsupportedVersion},
			{"GET", "EIO[]=4&transport=polling", ErrUnsupportedVersion},
			{"GET", "", ErrUnknownTransport},
			{"GET", "EIO=4", ErrUnknownTransport},
			{"GET", "EIO=4&transport=abc", ErrUnknownTransport},
			{"GET", "EIO=4&transport=", ErrUnknownTransport},
			{"GET", "EIO=4&transport=constructor", ErrUnknownTransport},
			{"GET", "EIO=4&transport=%ff", ErrUnknownTransport},
			{"GET", "EIO=4&transport=webtransport", ErrUnknownTransport},
			{"GET", "EIO=4&transport=%zz", ErrUnknownTransport},
			{"POST", "EIO=4&transport=polling", ErrBadHandshakeMethod},
			{"PUT", "EIO=4&transport=polling", ErrBadHandshakeMethod},
			{"HEAD", "EIO=4&transport=polling", ErrBadHandshakeMethod},
			{"OPTIONS", "EIO=4&transport=polling", ErrBadHandshakeMethod},
			{"GET", "EIO=4&transport=websocket", ErrBadRequest},
			{"GET", "EIO=4&transport=polling&sid=unknown", ErrUnknownSID},
			{"POST", "EIO=4&transport=polling&sid=__proto__", ErrUnknownSID},
			{"GET", "EIO=4&transport=polling&sid=" + id + "x", ErrUnknownSID},
			{"GET", "EIO=4&transport=websocket&sid=" + id, ErrBadRequest},
			{"PUT", poll(id), ErrBadRequest},
			{"DELETE", poll(id), ErrBadRequest},
		} {
			status, body, h := g.do(c.method, c.query, "")
			want := fmt.Sprintf(`{"code":%d,"message":%q}`, c.code, c.code.String())
			if c.method == "HEAD" {
				want = ""
			}
			if status != 400 || body != want || h.Get("Content-Type") != "application/json" {
				t.Errorf("%s ?%s: got %d %q, want 400 %q", c.method, c.query, status, body, want)
			}
		}
		if got := g.s.Stats(); got.Sessions != 1 || got.Opened != 1 || got.Refused[ErrUnknownTransport] != 8 {
			t.Errorf("got %+v, want one session and 8 unknown transports", got)
		}
	})
}

func TestQuery(t *testing.T) {
	for raw, want := range map[string]query{
		"":                                {},
		"&&=&":                            {},
		"EIO=4&transport=polling&sid=a-_": {"4", "polling", "a-_"},
		"sid=a&sid=b":                     {sid: "b"},
		"sid=a%2Db+c":                     {sid: "a-b c"},
		"transport=polling#":              {transport: "polling#"},
		"x=%&EIO=4":                       {eio: "4"},
		"EIO":                             {},
	} {
		if got := parseQuery(raw); got != want {
			t.Errorf("%q: got %+v, want %+v", raw, got, want)
		}
	}
}

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
		go func() {
			time.Sleep(time.Second)
			g.post(id, "4a\x1e4b")
		}()
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

func TestUpgrade(t *testing.T) {
	inMemory(t, nil, echoes, func(g *rig) {
		id := g.openPoll()
		released := make(chan string)
		go func() {
			_, body := g.get(id)
			released <- body
		}()
		synctest.Wait()
		k, start := g.ws(id), time.Now()
		k.send("2probe")
		k.want("3probe")
		if got := <-released; got != "6" || time.Since(start) != 0 {
			t.Errorf("open poll: got %q after %v, want a noop at once", got, time.Since(start))
		}
		// One more that was under way is released too, but not without pause.
		if _, body := g.get(id); body != "6" || time.Since(start) != nudgePause {
			t.Errorf("next poll: got %q after %v, want a noop after %v", body, time.Since(start), nudgePause)
		}
		if status, _ := g.post(id, "4over polling"); status != 200 {
			t.Errorf("POST before the change: got %d, want 200", status)
		}
		if _, body := g.get(id); body != "4over polling" {
			t.Errorf("got %q, want the echo over polling", body)
		}
		if got := g.rec(0).c.Transport(); got != Polling {
			t.Errorf("got transport %q, want polling until the change", got)
		}
		k.send("5", "4hello")
		k.want("4hello")
		if got := g.rec(0).c.Transport(); got != WebSocket {
			t.Errorf("got transport %q, want websocket", got)
		}

		if status, body := g.get(id); status != 400 || !strings.Contains(body, `"code":3`) {
			t.Errorf("poll after the change: got %d %q, want 400 and code 3", status, body)
		}
		if status, _ := g.post(id, "4x"); status != 400 {
			t.Errorf("POST after the change: got %d, want 400", status)
		}
		second := g.ws(id)
		second.want("close:1008")
		second.Close()
		k.send("4still")
		k.want("4still")
		if got := g.s.Stats(); got.Upgrades != 1 || got.WebSocket != 1 || got.Polling != 0 {
			t.Errorf("got %+v, want one upgrade", got)
		}
	})
}

// TestUpgradeCarriesWhatWaits queues messages while the client changes.
func TestUpgradeCarriesWhatWaits(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		id := g.openPoll()
		k := g.ws(id)
		k.send("2probe")
		k.want("3probe")
		g.rec(0).c.Send(text("a"))
		g.rec(0).c.Send(text("b"))
		k.send("5")
		k.want("4a", "4b")
	})
}

func TestUpgradeRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		send []byte
	}{
		{"without probe", masked(0x81, "5")},
		{"other ping", masked(0x81, "2x")},
		{"message", masked(0x81, "4hello")},
		{"binary", masked(0x82, "2probe")},
		{"reserved bits", masked(0xf1, "2probe")},
		{"not a frame", []byte("hello, is this a chat?")},
		{"close", masked(0x88, "")},
		{"message after probe", append(masked(0x81, "2probe"), masked(0x81, "4hello")...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, nil, echoes, func(g *rig) {
				id := g.openPoll()
				k := g.ws(id)
				go k.Conn.Write(c.send)
				for got := k.next(); got != "EOF" && !strings.HasPrefix(got, "close:"); got = k.next() {
				}
				k.Close()
				g.post(id, "4polling goes on")
				if _, body := g.get(id); body != "4polling goes on" {
					t.Errorf("got %q, want the session to stay on polling", body)
				}
				// And it may try again.
				k = g.ws(id)
				k.send("2probe")
				k.want("3probe")
				k.send("5", "4x")
				k.want("4x")
			})
		})
	}
}

func TestUpgradeTimeout(t *testing.T) {
	inMemory(t, nil, echoes, func(g *rig) {
		id := g.openPoll()
		k, start := g.ws(id), time.Now()
		k.send("2probe")
		k.want("3probe", "EOF")
		if got := time.Since(start); got != 10*time.Second {
			t.Errorf("closed after %v, want 10s", got)
		}
		g.post(id, "4x")
		if _, body := g.get(id); body != "4x" {
			t.Errorf("got %q, want the session to stay on polling", body)
		}
	})
	inMemory(t, nil, echoes, func(g *rig) { // and no time-out once it is over
		id := g.openPoll()
		k := g.ws(id)
		k.send("2probe")
		k.want("3probe")
		k.send("5")
		time.Sleep(20 * time.Second)
		k.send("4x")
		k.want("4x")
	})
}

func TestDisableUpgrade(t *testing.T) {
	inMemory(t, &Options{DisableUpgrade: true}, nil, func(g *rig) {
		_, body, _ := g.do("GET", "EIO=4&transport=polling", "")
		if !strings.Contains(body, `"upgrades":[]`) {
			t.Errorf("got %q, want no upgrades", body)
		}
		if _, res := g.tryWS(g.rec(0).c.ID(), ""); res.StatusCode != 400 {
			t.Errorf("got %d, want 400", res.StatusCode)
		}
	})
}

func TestTransports(t *testing.T) {
	inMemory(t, &Options{Transports: []string{WebSocket}}, nil, func(g *rig) {
		if status, body, _ := g.do("GET", "EIO=4&transport=polling", ""); status != 400 || !strings.Contains(body, `"code":0`) {
			t.Errorf("polling: got %d %q, want 400 and code 0", status, body)
		}
		g.openWS()
	})
	inMemory(t, &Options{Transports: []string{Polling}}, nil, func(g *rig) {
		if _, body, _ := g.do("GET", "EIO=4&transport=polling", ""); !strings.Contains(body, `"upgrades":[]`) {
			t.Errorf("got %q, want no upgrades", body)
		}
		if _, res := g.tryWS("", ""); res.StatusCode != 400 {
			t.Errorf("WebSocket: got %d, want 400", res.StatusCode)
		}
	})
}

func TestWebSocketRequests(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		for _, c := range []struct {
			change, to string
			status     int
		}{
			{"", "", 101},
			{"Connection: Upgrade", "Connection: keep-alive, Upgrade", 101},
			{"Connection: Upgrade", "connection: upgrade", 101},
			{"Upgrade: websocket", "upgrade: WebSocket", 101},
			{"Upgrade: websocket", "X: y", 400}, // as nginx sends it
			{"Upgrade: websocket", "Upgrade: h2c", 400},
			{"Connection: Upgrade", "Connection: close", 400},
			{"Version: 13", "Version: 8", 400},
			{"Sec-WebSocket-Version: 13\r\n", "", 400},
			{"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", 400},
			{"dGhlIHNhbXBsZSBub25jZQ==", "!", 400},
			{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400},
		} {
			conn, err := g.dial()
			if err != nil {
				t.Fatal(err)
			}
			req := fmt.Sprintf("GET /any/path/?EIO=4&transport=websocket HTTP/1.1\r\n"+wsRequest+"\r\n", "x")
			changed := strings.Replace(req, c.change, c.to, 1)
			go conn.Write([]byte(changed))
			k := &wsClient{TB: t, Conn: conn}
			res := k.response()
			if res.StatusCode != c.status {
				t.Errorf("%q for %q: got %d, want %d", c.to, c.change, res.StatusCode, c.status)
			}
			conn.Close()
		}
	})
}

// TestHTTP10 sends what simple proxies and health checks send.
func TestHTTP10(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		conn, err := g.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go conn.Write([]byte("GET /?EIO=4&transport=polling HTTP/1.0\r\nconnection: upgrade\r\nhost: x\r\n\r\n"))
		k := &wsClient{TB: t, Conn: conn}
		if res := k.response(); res.StatusCode != 200 {
			t.Errorf("got %d, want 200", res.StatusCode)
		}
	})
}

func TestHandshakeIsKept(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		g.do("GET", "EIO=4&transport=polling&a=b%20c", "", "X-Many", "1", "X-Many", "2", "Cookie", "x=y")
		h := g.rec(0).c.Handshake()
		if got := h.Header["X-Many"]; !cmp.Equal(got, []string{"1", "2"}) {
			t.Errorf("X-Many: got %q, want 1 and 2", got)
		}
		if got := h.URL.Query().Get("a"); got != "b c" {
			t.Errorf("query: got %q, want %q", got, "b c")
		}
		if h.Host != "memory" || h.URL.Path != "/engine.io/" || h.Protocol != 4 || h.Secure || !h.Time.Equal(time.Now()) || h.Header.Get("Cookie") != "x=y" {
			t.Errorf("got %+v", h)
		}
	})
}

func TestCookie(t *testing.T) {
	for _, c := range []struct {
		template http.Cookie
		want     string
	}{
		{http.Cookie{}, "io=%s; Path=/; HttpOnly; SameSite=Lax"},
		{http.Cookie{Name: "app", Path: "/x", MaxAge: 60, Secure: true, SameSite: http.SameSiteNoneMode}, "app=%s; Path=/x; Max-Age=60; Secure; SameSite=None"},
	} {
		inMemory(t, &Options{Cookie: &c.template}, echoes, func(g *rig) {
			_, _, h := g.do("GET", "EIO=4&transport=polling", "")
			id := g.rec(0).c.ID()
			if got, want := h.Get("Set-Cookie"), fmt.Sprintf(c.want, id); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			g.post(id, "4x")
			if _, _, h := g.do("GET", poll(id), ""); h.Get("Set-Cookie") != "" {
				t.Errorf("second request: got %q, want no cookie", h.Get("Set-Cookie"))
			}
			_, res := g.tryWS("", "")
			if got := res.Header.Get("Set-Cookie"); got != "" {
				t.Errorf("WebSocket: got %q, want no cookie", got)
			}
		})
	}
}
