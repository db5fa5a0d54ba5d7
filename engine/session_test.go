package engine

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
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

func TestVolatile(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		id := g.openPoll()
		c := g.rec(0).c
		if c.SendVolatile(text("a")) {
			t.Error("no poll is open: got true, want false")
		}
		time.AfterFunc(time.Second, func() {
			if !c.SendVolatile(text("b")) {
				t.Error("a poll is open: got false, want true")
			}
		})
		if _, body := g.get(id); body != "4b" {
			t.Errorf("got %q, want 4b", body)
		}
		if got := g.s.Stats().DroppedVolatile; got != 1 {
			t.Errorf("got %d dropped, want 1", got)
		}
	})
}

func TestVolatileToASlowClient(t *testing.T) {
	g := newRealRig(t, nil, nil)
	k := g.openWS()
	c := g.rec(0).c
	if !c.SendVolatile(text("a"), text("b")) {
		t.Error("got false, want true")
	}
	k.want("4a", "4b")
	big := text(strings.Repeat("x", 1<<20))
	for c.Queued() == 0 { // until the client's system takes no more
		c.Send(big)
		time.Sleep(time.Millisecond)
	}
	if c.SendVolatile(text("c")) {
		t.Error("the client does not read: got true, want false")
	}
}

func TestSlowClient(t *testing.T) {
	for name, open := range map[string]func(g *rig){
		WebSocket: func(g *rig) { g.openWS() },
		Polling:   func(g *rig) { g.openPoll() },
	} {
		t.Run(name, func(t *testing.T) {
			g := newRealRig(t, &Options{MaxQueue: 1 << 20}, nil)
			open(g)
			c := g.rec(0).c
			p := text(strings.Repeat("x", 100_000))
			var err error
			for i := 0; err == nil; i++ {
				if i > 1000 {
					t.Fatal("nothing limits the queue")
				}
				if got := c.Queued(); got > 1<<20 {
					t.Fatalf("got %d bytes in the queue, want at most 1 MiB", got)
				}
				err = c.Send(p)
			}
			var limit *LimitError
			if !errors.As(err, &limit) || limit.What != LimitQueue {
				t.Errorf("Send: got %v, want a LimitError for the queue", err)
			}
			if got := g.rec(0).wait(t); got.Reason != ReasonTransportError || !errors.As(got, &limit) || limit.Got <= 1<<20 {
				t.Errorf("got %v, want transport error and a LimitError", got)
			}
			if got := g.s.Stats(); got.SlowClients != 1 || got.Sessions != 0 {
				t.Errorf("got %+v, want one slow client", got)
			}
		})
	}
}

// TestSlowClientCatchesUp lets a client read late, but all.
func TestSlowClientCatchesUp(t *testing.T) {
	for _, tls := range []bool{false, true} {
		g := newRealRig(t, &Options{MaxQueue: 100 << 20}, nil)
		if tls {
			g = newTLSRig(t, &Options{MaxQueue: 100 << 20}, nil)
		}
		k := g.openWS()
		c := g.rec(0).c
		const n = 400
		for i := range n {
			size := []int{10, 1000, 20_000, 100_000}[i%4]
			if err := c.Send(text(fmt.Sprint(i, ":", strings.Repeat("x", size)))); err != nil {
				t.Fatal(err)
			}
		}
		for i := range n {
			if got, _, _ := strings.Cut(k.next(), ":"); got != fmt.Sprint("4", i) {
				t.Fatalf("TLS %v: got message %q, want %d", tls, got, i)
			}
		}
		eventually(t, "nothing queued", func() bool { return c.Queued() == 0 })
	}
}

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

func TestCompression(t *testing.T) {
	long := strings.Repeat("hello ", 500)
	inMemory(t, nil, echoes, func(g *rig) {
		id := g.openPoll()
		for _, c := range []struct {
			body, accept string
			zipped       bool
		}{
			{long, "gzip", true},
			{long, "br;q=1.0, gzip;q=0.5, *;q=0.1", true},
			{long, "", false},
			{long, "br", false},
			{long, "gzip;q=0", false},
			{"short", "gzip", false},
		} {
			g.post(id, "4"+c.body)
			_, body, h := g.do("GET", poll(id), "", "Accept-Encoding", c.accept)
			if got := h.Get("Content-Encoding") == "gzip"; got != c.zipped {
				t.Errorf("%q: got gzip %v, want %v", c.accept, got, c.zipped)
			}
			if c.zipped {
				z, err := gzip.NewReader(strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(z)
				if err != nil {
					t.Fatal(err)
				}
				body = string(b)
			}
			if body != "4"+c.body {
				t.Errorf("%q: got %.40q, want the message", c.accept, body)
			}
		}
		p := text(long)
		p.Plain = true
		g.rec(0).c.Send(p)
		if _, _, h := g.do("GET", poll(id), "", "Accept-Encoding", "gzip"); h.Get("Content-Encoding") != "" {
			t.Error("plain packet: got it compressed")
		}
	})
}

// TestSendKeepsOrder sends from many goroutines; the packets of a call stay together.
func TestSendKeepsOrder(t *testing.T) {
	g := newRealRig(t, nil, nil)
	k := g.openWS()
	c := g.rec(0).c
	const senders, calls = 8, 100
	for s := range senders {
		go func() {
			for i := range calls {
				c.Send(text(fmt.Sprintf("%d %d a", s, i)), text(fmt.Sprintf("%d %d b", s, i)))
			}
		}()
	}
	next := map[int]int{}
	for range senders * calls {
		var s, i int
		a := k.next()
		if _, err := fmt.Sscanf(a, "4%d %d a", &s, &i); err != nil {
			t.Fatalf("got %q: %v", a, err)
		}
		k.want(fmt.Sprintf("4%d %d b", s, i))
		if next[s] != i {
			t.Fatalf("sender %d: got %d, want %d", s, i, next[s])
		}
		next[s]++
	}
}

// TestBatch checks that what handlers send in a batch leaves in one write.
func TestBatch(t *testing.T) {
	g := newRealRig(t, nil, echoes)
	k := g.openWS()
	before := g.rec(0).flushed()
	var b []byte
	for range 50 {
		b = append(b, masked(0x81, "4x")...)
	}
	k.write(b)
	buf := make([]byte, 4096)
	n, err := k.r.Read(buf)
	if want := bytes.Repeat([]byte("\x81\x024x"), 50); err != nil || !bytes.Equal(buf[:n], want) {
		t.Errorf("first read: got %d bytes, %v, want all %d", n, err, len(want))
	}
	if got := g.rec(0).flushed() - before; got != 1 {
		t.Errorf("got %d flushes, want 1", got)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []*Options{
		{Transports: []string{"webtransport"}},
		{Transports: []string{}},
		{PingTimeout: -1},
		{PingInterval: time.Microsecond},
		{MaxPayload: -1},
		{MaxPayload: 1 << 40},
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
