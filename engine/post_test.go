package engine

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestMaxPayload(t *testing.T) {
	o := &Options{MaxPayload: 1000}
	fits, over := "4"+strings.Repeat("x", 999), "4"+strings.Repeat("x", 1000)
	check := func(t *testing.T, got *CloseError) {
		t.Helper()
		var limit *LimitError
		if got.Reason != ReasonTransportError || !errors.As(got, &limit) || *limit != (LimitError{LimitPayload, 1000, 1001}) {
			t.Errorf("got %v, want the limit and the size", got)
		}
	}
	t.Run("polling", func(t *testing.T) {
		inMemory(t, o, nil, func(g *rig) {
			id := g.openPoll()
			if status, _ := g.post(id, fits); status != 200 {
				t.Errorf("got %d, want 200", status)
			}
			if status, body := g.post(id, over); status != 413 || body != "" {
				t.Errorf("got %d %q, want 413", status, body)
			}
			check(t, g.rec(0).wait(t))
		})
	})
	t.Run("polling, chunked", func(t *testing.T) {
		inMemory(t, o, nil, func(g *rig) {
			id := g.openPoll()
			for body, want := range map[string]int{fits: 200} {
				if got := g.chunked(id, body); got != want {
					t.Errorf("got %d, want %d", got, want)
				}
			}
			if got := g.chunked(id, over); got != 413 {
				t.Errorf("got %d, want 413", got)
			}
			check(t, g.rec(0).wait(t))
		})
	})
	t.Run("WebSocket", func(t *testing.T) {
		inMemory(t, o, echoes, func(g *rig) {
			k := g.openWS()
			k.send(fits)
			k.want(fits)
			go k.Conn.Write(masked(0x81, over))
			k.want("close:1009")
			check(t, g.rec(0).wait(t))
		})
	})
	t.Run("over TCP the client reads why", func(t *testing.T) {
		g := newRealRig(t, nil, nil)
		k := g.openWS()
		go k.Conn.Write(masked(0x82, strings.Repeat("x", 8<<20)))
		k.want("close:1009")
	})
}

func TestContentType(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		id := g.openPoll()
		if status, _, _ := g.do("POST", poll(id), "4x", "Content-Type", "application/octet-stream"); status != 400 {
			t.Errorf("got %d, want 400", status)
		}
		if got := g.rec(0).wait(t); got.Reason != ReasonTransportError {
			t.Errorf("got %v, want transport error", got)
		}
	})
}

// TestPostOverlap sends a second POST while the first one's body is under way.
func TestPostOverlap(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		id := g.openPoll()
		conn, _ := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "POST /?%s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n4hel", poll(id))
		synctest.Wait()
		if status, _ := g.post(id, "4x"); status != 400 {
			t.Errorf("got %d, want 400", status)
		}
		if got := g.rec(0).wait(t); got.Reason != ReasonTransportError {
			t.Errorf("got %v, want transport error", got)
		}
		k := &wsClient{TB: t, Conn: conn} // and the first is not left hanging
		if res := k.response(); res.StatusCode != 400 {
			t.Errorf("first POST: got %d, want 400", res.StatusCode)
		}
	})
}

// TestSlowBody ends with the heartbeat.
func TestSlowBody(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		id := g.openPoll()
		conn, _ := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "POST /?%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", poll(id))
		var drip sync.WaitGroup
		defer drip.Wait()
		drip.Go(func() {
			for {
				if _, err := conn.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		if got := g.rec(0).wait(t); got.Reason != ReasonPingTimeout {
			t.Errorf("got %v, want ping timeout", got)
		}
		io.Copy(io.Discard, conn)
	})
}

func TestPostGone(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		conn, _ := g.dial()
		fmt.Fprintf(conn, "POST /?%s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n4hel", poll(g.openPoll()))
		conn.Close()
		if got := g.rec(0).wait(t); got.Reason != ReasonTransportError {
			t.Errorf("got %v, want transport error", got)
		}
	})
}

// TestHTTP2 polls over HTTP/2, where requests share a connection that must outlive a slow handler.
func TestHTTP2(t *testing.T) {
	g := makeRig(t, nil, waiter(true))
	ts := httptest.NewUnstartedServer(g.s)
	ts.EnableHTTP2 = true
	ts.StartTLS()
	t.Cleanup(func() {
		g.s.Close()
		ts.Close()
	})
	g.http, g.host = ts.Client(), strings.TrimPrefix(ts.URL, "https://")
	g.scheme = "https"
	id := g.openPoll()
	for _, step := range []struct{ post, get string }{
		{"4a", "4a"}, {"4wait", "4waiting"}, {"4b", "4b"}, {"4go", "4done"}, {"4c", "4c"},
	} {
		if status, body := g.post(id, step.post); status != 200 || body != "ok" {
			t.Fatalf("POST %s: got %d %q, want 200 ok", step.post, status, body)
		}
		if status, body := g.get(id); status != 200 || body != step.get {
			t.Errorf("GET: got %d %q, want %q", status, body, step.get)
		}
	}
	if !g.rec(0).c.Handshake().Secure {
		t.Error("Secure: got false, want true")
	}
	if status, body, _ := g.do("GET", "EIO=4&transport=websocket", ""); status != 400 {
		t.Errorf("WebSocket over HTTP/2: got %d %q, want 400", status, body)
	}
}

// TestPanicInPost panics on a goroutine of net/http, which recovers: that session ends, and nothing else.
func TestPanicInPost(t *testing.T) {
	for _, in := range []string{"message", "flush", "relieved flush"} {
		t.Run(in, func(t *testing.T) {
			inMemory(t, nil, func(r *recorder) {
				echoes(r)
				r.flush = func(r *recorder) {
					if strings.HasSuffix(r.messages(), "flush") {
						if in == "relieved flush" {
							r.c.Handoff()
						}
						panic("in flush")
					}
				}
				r.message = func(r *recorder, data string, bin bool) {
					if data == "message" {
						panic("in message")
					}
					echo(r, data, bin)
				}
			}, func(g *rig) {
				bad, good := g.openPoll(), g.openPoll()
				if _, _, _, err := g.try(g.Context(), "POST", poll(bad), "4"+in); err == nil && in != "relieved flush" { // which was answered
					t.Error("got no error, want a broken connection")
				}
				if got := g.rec(0).wait(t); got.Reason != ReasonTransportError {
					t.Errorf("got %v, want transport error", got)
				}
				if status, _ := g.get(bad); status != 400 {
					t.Errorf("got %d, want 400", status)
				}
				if g.s.watch.busy() {
					t.Error("somebody is watched still, though no handler runs")
				}
				g.post(good, "4x")
				if _, body := g.get(good); body != "4x" {
					t.Errorf("other session: got %q, want x", body)
				}
			})
		})
	}
}

func TestPanicInAccept(t *testing.T) {
	inMemory(t, nil, func(*recorder) { panic("in accept") }, func(g *rig) {
		if _, _, _, err := g.try(g.Context(), "GET", "EIO=4&transport=polling", ""); err == nil {
			t.Error("got no error, want a broken connection")
		}
		if got := g.s.Stats().Sessions; got != 0 {
			t.Errorf("got %d sessions, want none", got)
		}
	})
}
