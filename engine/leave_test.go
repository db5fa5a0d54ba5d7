package engine

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestLeave(t *testing.T) {
	boom := errors.New("boom")
	cause := &CloseError{Reason: ReasonShutdown, Err: boom}
	t.Run("WebSocket", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			k := g.openWS()
			r := g.rec(0)
			r.c.Send(text("last"))
			if !r.c.Leave(cause) || r.c.Leave(nil) {
				t.Error("Leave: got false, then true, want true, then false")
			}
			if err := r.c.Send(text("too late")); err != ErrClosed {
				t.Errorf("Send: got %v, want ErrClosed", err)
			}
			k.want("4last", "close:1001")
			k.send("4sent before it knew")
			k.write(masked(0x88, "\x03\xe9"))
			k.want("EOF")
			if got := r.wait(t); got != cause {
				t.Errorf("got cause %v, want %v", got, cause)
			}
			if got := r.messages(); got != "sent before it knew" {
				t.Errorf("got messages %q, want what the client sent before", got)
			}
			if got := g.s.Stats(); got.Sessions != 0 || got.Closed[ReasonShutdown] != 1 {
				t.Errorf("got %+v, want no session, and one shutting down", got)
			}
		})
	})
	t.Run("a client that does not go", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			k, start := g.openWS(), time.Now()
			g.rec(0).c.Leave(cause)
			k.want("close:1001", "EOF")
			if got := time.Since(start); got != 5*time.Second {
				t.Errorf("cut after %v, want 5s", got)
			}
			if got := g.rec(0).wait(t); got != cause {
				t.Errorf("got cause %v, want %v", got, cause)
			}
		})
	})
	t.Run("polling", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			id := g.openPoll()
			r := g.rec(0)
			r.c.Send(text("last"))
			r.c.Leave(cause)
			if status, body := g.post(id, "4heard"); status != 200 || body != "ok" {
				t.Errorf("POST: got %d %q, want 200 ok", status, body)
			}
			if status, body := g.get(id); status != 200 || body != "4last\x1e1" {
				t.Errorf("GET: got %d %q, want what was queued and a close packet", status, body)
			}
			if got := r.wait(t); got != cause {
				t.Errorf("got cause %v, want %v", got, cause)
			}
			if got := r.messages(); got != "heard" {
				t.Errorf("got messages %q, want heard", got)
			}
			if status, _ := g.get(id); status != 400 {
				t.Errorf("next GET: got %d, want 400", status)
			}
		})
	})
	t.Run("a POST that is under way is the last", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			id := g.openPoll()
			r := g.rec(0)
			conn, err := g.dial()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = conn.Write([]byte("POST /?" + poll(id) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n4hel"))
			eventually(t, "the POST is there", func() bool { return r.c.Activity().Busy })
			r.c.Leave(cause)
			if _, body := g.get(id); body != "1" {
				t.Errorf("GET: got %q, want a close packet", body)
			}
			_, _ = conn.Write([]byte("lo"))
			b := make([]byte, 500)
			n, _ := conn.Read(b)
			if got := string(b[:n]); !strings.HasPrefix(got, "HTTP/1.1 200") {
				t.Errorf("POST: got %q, want 200", got)
			}
			if got := r.wait(t); got != cause {
				t.Errorf("got cause %v, want %v", got, cause)
			}
			if got := r.messages(); got != "hello" {
				t.Errorf("got messages %q, want hello", got)
			}
		})
	})
	t.Run("Close after it", func(t *testing.T) {
		inMemory(t, nil, nil, func(g *rig) {
			g.openWS()
			g.rec(0).c.Leave(cause)
			g.rec(0).c.Close(nil)
			g.rec(0).c.Cut(nil)
			if got := g.rec(0).wait(t); got != cause {
				t.Errorf("got cause %v, want that of Leave", got)
			}
		})
	})
}

func TestActivity(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		k := g.openWS()
		c := g.rec(0).c
		if got, want := c.Activity(), (Activity{Open: true}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		k.send("4a")
		eventually(t, "a batch was counted", func() bool { return c.Activity() == Activity{Open: true, Batches: 1} })
		frame := masked(0x81, "4in two parts")
		k.write(frame[:8])
		eventually(t, "half a message is there", func() bool { return c.Activity().Busy })
		k.write(frame[8:])
		eventually(t, "it is whole", func() bool { return c.Activity() == Activity{Open: true, Batches: 2} })
		if got := len(g.s.Sessions()); got != 1 {
			t.Errorf("got %d sessions, want 1", got)
		}
		if c.Handler() != Handler(g.rec(0)) {
			t.Error("Handler: got another than the accept function returned")
		}
	})
}

func TestRefuse(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		id := g.openPoll()
		g.s.Refuse(1500 * time.Millisecond)
		status, _, h := g.do("GET", "EIO=4&transport=polling", "")
		if status != 503 || h.Get("Retry-After") != "2" {
			t.Errorf("handshake: got %d, Retry-After %q, want 503, 2", status, h.Get("Retry-After"))
		}
		if status, body := g.post(id, "4a"); status != 200 {
			t.Errorf("a session that is there: got %d %q, want 200", status, body)
		}
		g.s.Refuse(0)
		g.openPoll()
	})
}
