package engine

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/atollhq/atoll/engine/wire"
)

// Allocations and time per packet, as docs/performance.md states them: go test -run - -bench . ./engine

// counter is a Handler that counts, and may echo.
type counter struct {
	c    *Conn
	n    atomic.Int64
	echo bool
}

func (h *counter) Message(data []byte, _ bool) {
	h.n.Add(1)
	if h.echo {
		buf := make([]byte, wire.Headroom, wire.Headroom+128)
		h.c.Send(wire.Seal(append(buf, data...), false))
	}
}
func (h *counter) Flush()       {}
func (h *counter) Closed(error) {}

// benchRig is a rig whose sessions echo, or only count.
func benchRig(b *testing.B, echo bool) (*rig, func() []*counter) {
	var hs []*counter
	g := newRealRig(b, nil, nil)
	g.s.accept = func(c *Conn) (Handler, error) {
		h := &counter{c: c, echo: echo}
		g.mu.Lock()
		defer g.mu.Unlock()
		hs = append(hs, h)
		return h, nil
	}
	return g, func() []*counter {
		g.mu.Lock()
		defer g.mu.Unlock()
		return hs
	}
}

// BenchmarkIn is the way in: packets of 100 bytes, many in a read.
func BenchmarkIn(b *testing.B) {
	g, hs := benchRig(b, false)
	k := g.openWS()
	h := hs()[0]
	const many = 100
	batch := []byte(strings.Repeat(string(masked(0x81, "4"+strings.Repeat("x", 99))), many))
	b.ReportAllocs()
	for i := int64(1); b.Loop(); i++ {
		if i%many == 0 {
			k.write(batch)
			for h.n.Load() < i-10*many {
				continue
			}
		}
	}
}

// BenchmarkEcho is the way there and back, with so many packets of 100 bytes in flight.
func BenchmarkEcho(b *testing.B) {
	for _, window := range []int{1, 16} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			g, _ := benchRig(b, true)
			k := g.openWS()
			out := []byte(strings.Repeat(string(masked(0x81, "4"+strings.Repeat("x", 99))), window))
			in := make([]byte, window*102)
			b.ReportAllocs()
			for i := 1; b.Loop(); i++ {
				if i%window == 0 {
					k.Conn.Write(out)
					if _, err := io.ReadFull(k.Conn, in); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// drain reads what comes in the background.
func drain(k *wsClient, n *atomic.Int64) {
	go func() {
		buf := make([]byte, 4096)
		for {
			m, err := k.Conn.Read(buf)
			n.Add(int64(m))
			if err != nil {
				return
			}
		}
	}()
}

// BenchmarkOut is the way out from outside of a handler: a packet of 100 bytes to one client.
func BenchmarkOut(b *testing.B) {
	g, hs := benchRig(b, false)
	k := g.openWS()
	var n atomic.Int64
	drain(k, &n)
	c := hs()[0].c
	p := text(strings.Repeat("x", 100))
	b.ReportAllocs()
	for b.Loop() {
		c.Send(p)
		for c.Queued() > 1<<20 {
			continue
		}
	}
}

// BenchmarkBroadcast sends one packet of 100 bytes to 1,000 clients: to all and wait, or in bursts of 8.
// An operation is one delivery.
func BenchmarkBroadcast(b *testing.B) {
	for _, burst := range []int{1, 8} {
		b.Run(fmt.Sprintf("burst=%d", burst), func(b *testing.B) {
			const clients = 1000
			g, hs := benchRig(b, false)
			var n atomic.Int64
			for range clients {
				drain(g.openWS(), &n)
			}
			p := text(strings.Repeat("x", 100))
			n.Store(0)
			sent := int64(0)
			b.ReportAllocs()
			for i := 1; b.Loop(); i++ {
				if i%(clients*burst) != 0 {
					continue
				}
				for range burst {
					for _, h := range hs() {
						h.c.Send(p)
					}
				}
				sent += int64(clients * burst * len(p.Frame()))
				for n.Load() < sent {
					continue
				}
			}
		})
	}
}

// BenchmarkPolling is a POST, and the GET that brings its echo; client and server.
func BenchmarkPolling(b *testing.B) {
	g, _ := benchRig(b, true)
	id := g.openPoll()
	body := "4" + strings.Repeat("x", 100)
	post := fmt.Sprintf("POST /?%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", poll(id), len(body), body)
	get := fmt.Sprintf("GET /?%s HTTP/1.1\r\nHost: x\r\n\r\n", poll(id))
	up, _ := g.dial()
	down, _ := g.dial()
	defer up.Close()
	defer down.Close()
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		ask(b, down, get)
		ask(b, up, post)
		answer(b, down, buf)
		answer(b, up, buf)
	}
}

// BenchmarkPollingHandlers is the same without sockets and net/http: what our own code allocates.
func BenchmarkPollingHandlers(b *testing.B) {
	g, hs := benchRig(b, true)
	id := g.openPoll()
	_ = hs
	body := strings.NewReader("")
	get, _ := http.NewRequest("GET", g.url(poll(id)), nil)
	post, _ := http.NewRequest("POST", g.url(poll(id)), body)
	w := &discard{h: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset("4hello, hello, hello")
		post.Body = io.NopCloser(body)
		g.s.ServeHTTP(w, post)
		g.s.ServeHTTP(w, get)
	}
}

type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

func ask(b *testing.B, c net.Conn, req string) {
	if _, err := io.WriteString(c, req); err != nil {
		b.Fatal(err)
	}
}

func answer(b *testing.B, c net.Conn, buf []byte) {
	n, err := c.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:min(n, 12)]), "HTTP/1.1 200") {
		b.Fatalf("got %q, %v", buf[:n], err)
	}
}
