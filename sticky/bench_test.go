package sticky

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// BenchmarkPolling is a request of a session, there and back, over kept-alive connections. The
// client and the node are part of the figure; their share is what /direct shows.
func BenchmarkPolling(b *testing.B) {
	n := start(b, "a", true)
	_, srv := balance(b, nil, n.url)
	for _, c := range []struct{ name, base string }{{"direct", n.url}, {"balanced", srv.URL}} {
		b.Run(c.name, func(b *testing.B) {
			id := n.open()
			conn, err := net.Dial("tcp", strings.TrimPrefix(c.base, "http://"))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			br := bufio.NewReader(conn)
			post := []byte(fmt.Sprintf("POST %s&sid=%s HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n4hello", polling, id))
			get := []byte(fmt.Sprintf("GET %s&sid=%s HTTP/1.1\r\nHost: h\r\n\r\n", polling, id))
			b.ReportAllocs()
			for b.Loop() {
				for _, req := range [][]byte{post, get} {
					conn.Write(req)
					resp, err := http.ReadResponse(br, nil)
					if err != nil {
						b.Fatal(err)
					}
					io.Copy(io.Discard, resp.Body)
				}
			}
		})
	}
}

// BenchmarkWebSocket is a short message there and back.
func BenchmarkWebSocket(b *testing.B) {
	n := start(b, "a", true)
	_, srv := balance(b, nil, n.url)
	for _, c := range []struct{ name, base string }{{"direct", n.url}, {"balanced", srv.URL}} {
		b.Run(c.name, func(b *testing.B) {
			s := dialSocket(b, c.base, "", "")
			s.expect(b, "a")
			s.SetDeadline(time.Time{})
			msg := make([]byte, 40)
			b.ReportAllocs()
			for b.Loop() {
				s.Write(msg)
				if _, err := io.ReadFull(s.br, msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIdleWebSocket reports what an idle WebSocket costs the balancer: B/conn is the growth of
// resident memory. The nodes are a process of their own, the client's ends are bare sockets in this
// one, of which each costs about half a kilobyte.
func BenchmarkIdleWebSocket(b *testing.B) {
	const many = 2000
	p := spawn(b, "a", "0")
	_, srv := balance(b, nil, p.addr)
	for b.Loop() {
		dialRaw(b, srv.Listener.Addr().String()) // warm
		before := resident(b)
		conns := make([]net.Conn, many)
		for i := range conns {
			conns[i] = dialRaw(b, srv.Listener.Addr().String())
		}
		b.ReportMetric(float64(resident(b)-before)/many, "B/conn")
		for _, c := range conns {
			c.Close()
		}
	}
}

// dialRaw opens a WebSocket and keeps nothing but the socket.
func dialRaw(b *testing.B, addr string) net.Conn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	fmt.Fprintf(c, "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"+
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	var buf [512]byte
	n := 0
	for !strings.HasSuffix(string(buf[:n]), "\r\n\r\na") {
		m, err := c.Read(buf[n:])
		if err != nil {
			b.Fatalf("%v after %q", err, buf[:n])
		}
		n += m
	}
	return c
}

// resident returns the resident memory of this process in bytes.
func resident(b *testing.B) int64 {
	s, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("needs Linux: ", err)
	}
	var size, rss int64
	fmt.Sscan(string(s), &size, &rss)
	return rss * int64(os.Getpagesize())
}
