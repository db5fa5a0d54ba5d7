package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestClose(t *testing.T) {
	boom := errors.New("boom")
	t.Run("WebSocket", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			k := g.openWS()
			c := g.rec(0).c
			c.Send(text("last"))
			c.Close(boom)
			c.Close(nil)
			if err := c.Send(text("too late")); err != ErrClosed {
				t.Errorf("Send: got %v, want ErrClosed", err)
			}
			if c.SendVolatile(text("too late")) {
				t.Error("SendVolatile: got true, want false")
			}
			got := g.rec(0).wait(t)
			if got.Reason != ReasonForcedClose || !errors.Is(got, boom) {
				t.Errorf("got %v, want forced close: boom", got)
			}
			k.want("4last", "close:1000")
			k.send("4ignored")
			k.write(masked(0x88, "\x03\xe8"))
			k.want("EOF")
			if got := g.s.Stats(); got.Sessions != 0 || got.Closed[ReasonForcedClose] != 1 {
				t.Errorf("got %+v, want no session, and one forced close", got)
			}
		})
	})
	t.Run("a client that does not answer", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			k, start := g.openWS(), time.Now()
			g.rec(0).c.Close(nil)
			k.want("close:1000", "EOF")
			if got := time.Since(start); got != 5*time.Second {
				t.Errorf("cut after %v, want 5s", got)
			}
		})
	})
	t.Run("a client that does not read", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			g.openWS()
			start := time.Now()
			g.rec(0).c.Send(text("x"))
			g.rec(0).c.Close(nil)
			g.rec(0).wait(t)
			if got := time.Since(start); got != 0 {
				t.Errorf("Closed after %v, want at once", got)
			}
			time.Sleep(6 * time.Second)
			if got := g.s.Stats().Sessions; got != 0 {
				t.Errorf("got %d sessions, want none", got)
			}
		})
	})
	t.Run("polling", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			id := g.openPoll()
			g.rec(0).c.Send(text("last"))
			g.rec(0).c.Close(&CloseError{Reason: "own words"})
			if got := g.rec(0).wait(t); got.Reason != "own words" {
				t.Errorf("got %v, want the cause as it is", got)
			}
			if status, body := g.post(id, "4ignored"); status != 200 || body != "ok" {
				t.Errorf("POST: got %d %q, want 200 ok", status, body)
			}
			if status, body := g.get(id); status != 200 || body != "4last\x1e1" {
				t.Errorf("GET: got %d %q, want what was queued and a close packet", status, body)
			}
			if status, _ := g.get(id); status != 400 {
				t.Errorf("next GET: got %d, want 400", status)
			}
			if got := g.rec(0).messages(); got != "" {
				t.Errorf("got messages %q, want none", got)
			}
		})
	})
	t.Run("open poll", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			id := g.openPoll()
			time.AfterFunc(time.Second, func() { g.rec(0).c.Close(nil) })
			if _, body := g.get(id); body != "1" {
				t.Errorf("got %q, want a close packet", body)
			}
		})
	})
	t.Run("polling client that does not come back", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			id := g.openPoll()
			g.rec(0).c.Close(nil)
			time.Sleep(6 * time.Second)
			if status, _ := g.get(id); status != 400 {
				t.Errorf("got %d, want 400", status)
			}
		})
	})
	t.Run("in a handler", func(t *testing.T) {
		inMemory(t, nil, func(r *recorder) {
			r.message = func(r *recorder, data string, _ bool) {
				r.c.Send(text("bye"))
				r.c.Close(nil)
			}
		}, func(g *rig) {
			k := g.openWS()
			k.send("4a", "4b")
			k.want("4bye", "close:1000")
			g.rec(0).wait(t)
			if got := g.rec(0).messages(); got != "a" {
				t.Errorf("got messages %q, want a", got)
			}
			id := g.openPoll()
			g.post(id, "4a\x1e4b")
			if _, body := g.get(id); body != "4bye\x1e1" {
				t.Errorf("got %q, want bye and a close packet", body)
			}
		})
	})
	t.Run("before it opens", func(t *testing.T) {
		inMemory(t, nil, func(r *recorder) { r.c.Close(nil) }, func(g *rig) {
			if status, _, _ := g.do("GET", "EIO=4&transport=polling", ""); status != 503 {
				t.Errorf("polling: got %d, want 503", status)
			}
			conn, _ := g.dial()
			defer conn.Close()
			fmt.Fprintf(conn, "GET /?EIO=4&transport=websocket HTTP/1.1\r\n"+wsRequest+"\r\n", "x")
			if b, err := io.ReadAll(conn); len(b) > 0 {
				t.Errorf("WebSocket: got %q, %v, want a closed connection", b, err)
			}
			g.rec(0).wait(t)
			g.rec(1).wait(t)
		})
	})
	t.Run("while it upgrades", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			k := g.ws(g.openPoll())
			k.send("2probe")
			k.want("3probe")
			g.rec(0).c.Send(text("last"))
			g.rec(0).c.Close(nil)
			k.send("5")
			k.want("4last", "close:1000")
		})
	})
}

func TestAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := makeRig(t, nil, nil)
		g.s.accept = func(c *Conn) (Handler, error) {
			if c.Handshake().Header.Get("X-Who") == "" {
				return nil, errors.New(`say "who"`)
			}
			c.Send(text("welcome"), text("stranger"))
			h, err := g.accept(c)
			return h, err
		}
		m := newMemory()
		g.dial, g.host = m.dial, "memory"
		g.serve(m)
		if status, body, _ := g.do("GET", "EIO=4&transport=polling", ""); status != 403 || body != `{"code":4,"message":"say \"who\""}` {
			t.Errorf("got %d %q, want 403", status, body)
		}
		if _, res := g.tryWS("", ""); res.StatusCode != 403 {
			t.Errorf("WebSocket: got %d, want 403", res.StatusCode)
		}
		if got := g.s.Stats(); got.Sessions != 0 || got.Opened != 0 {
			t.Errorf("got %+v, want no session", got)
		}
		_, body, _ := g.do("GET", "EIO=4&transport=polling", "", "X-Who", "me")
		if !strings.HasSuffix(body, "}\x1e4welcome\x1e4stranger") {
			t.Errorf("got %q, want the open packet, then what was sent", body)
		}
		k, _ := g.tryWS("", "X-Who: me\r\n")
		k.next()
		k.want("4welcome", "4stranger")
	})
}

func TestAllow(t *testing.T) {
	o := &Options{Allow: func(r *http.Request) error {
		if r.URL.Query().Get("token") != "x" {
			return errors.New("no token")
		}
		return nil
	}}
	inMemory(t, o, echoes, func(g *rig) {
		if status, body, _ := g.do("GET", "EIO=4&transport=polling", ""); status != 403 || body != `{"code":4,"message":"no token"}` {
			t.Errorf("got %d %q, want 403 no token", status, body)
		}
		if status, _, _ := g.do("GET", "EIO=4&transport=polling&token=x", ""); status != 200 {
			t.Errorf("got %d, want 200", status)
		}
		if status, _ := g.post(g.rec(0).c.ID(), "4x"); status != 200 { // asked once for a session
			t.Errorf("POST: got %d, want 200", status)
		}
	})
}

func TestShutdown(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		k := g.openWS()
		id := g.openPoll()
		polled := make(chan string)
		go func() {
			_, body := g.get(id)
			polled <- body
		}()
		synctest.Wait()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := g.s.Shutdown(g.Context()); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
			})
		}
		if got := <-polled; got != "1" {
			t.Errorf("poll: got %q, want a close packet", got)
		}
		k.want("close:1001")
		k.write(masked(0x88, "\x03\xe9"))
		wg.Wait()
		for i := range 2 {
			if got := g.rec(i).wait(t).Reason; got != ReasonShutdown {
				t.Errorf("session %d: got %q, want server shutting down", i, got)
			}
		}
		if status, _, _ := g.do("GET", "EIO=4&transport=polling", ""); status != 503 {
			t.Errorf("handshake: got %d, want 503", status)
		}
		if _, res := g.tryWS("", ""); res.StatusCode != 503 {
			t.Errorf("WebSocket: got %d, want 503", res.StatusCode)
		}
		if err := g.s.Shutdown(g.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
		g.s.Close()
	})
}

func TestShutdownEnds(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		k := g.openWS()
		g.openPoll()
		ctx, cancel := context.WithTimeout(g.Context(), time.Second)
		defer cancel()
		var got []string
		go func() { got = append(got, k.next(), k.next()) }()
		if err := g.s.Shutdown(ctx); err != context.DeadlineExceeded {
			t.Errorf("got %v, want the error of the context", err)
		}
		synctest.Wait()
		if fmt.Sprint(got) != "[close:1001 EOF]" {
			t.Errorf("client: got %q, want a close frame, then the end", got)
		}
		if got := g.s.Stats().Sessions; got != 0 {
			t.Errorf("got %d sessions, want none", got)
		}
	})
}

func TestOptions(t *testing.T) {
	for _, o := range []*Options{
		{Transports: []string{"webtransport"}},
		{Transports: []string{}},
		{PingTimeout: -1},
		{PingInterval: time.Microsecond},
		{MaxPayload: -1},
		{MaxPayload: math.MinInt},
		{Cookie: &http.Cookie{Name: "a b"}},
		{Cookie: &http.Cookie{Path: "/\r\nX: y"}},
		{CORS: &CORS{Origins: []string{"*"}, Credentials: true}},
		{CORS: &CORS{Origins: []string{"example.com"}}},
		{CORS: &CORS{Origins: []string{"https://example.com/"}}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v: got no panic, want one", o)
				}
			}()
			NewServer(nil, o)
		}()
		if o.Validate() == nil {
			t.Errorf("%+v: got no error, want one", o)
		}
	}
	var none *Options
	if err := none.Validate(); err != nil {
		t.Errorf("nil: %v", err)
	}
}
