package engine

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

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
