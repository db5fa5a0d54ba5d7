package atoll_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"runtime"
	"syscall"
	"testing"

	"github.com/atollhq/atoll"
)

// A bare client is a file descriptor that speaks just enough of the protocol. It costs the
// process no goroutine, no buffer and no object.
type bareClient int

func dialBare(b *testing.B, a *net.TCPAddr) bareClient {
	b.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		b.Fatal(err)
	}
	c := bareClient(fd)
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}); err != nil {
		b.Fatal(err)
	}
	c.write(b, fmt.Appendf(nil, "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: %v\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", a))
	c.until(b, []byte(`0{"sid"`))
	c.write(b, textFrame("40"))
	c.until(b, []byte(`40{"sid"`))
	return c
}

// textFrame is the frame of a short text, under the mask of zeros.
func textFrame(s string) []byte {
	return append([]byte{0x81, 0x80 | byte(len(s)), 0, 0, 0, 0}, s...)
}

func (c bareClient) write(b *testing.B, data []byte) {
	for len(data) > 0 {
		n, err := syscall.Write(int(c), data)
		if err != nil {
			b.Fatal(err)
		}
		data = data[n:]
	}
}

// until reads up to and with the first occurrence of what.
func (c bareClient) until(b *testing.B, what []byte) {
	var got []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(got, what) {
		n, err := syscall.Read(int(c), buf)
		if n <= 0 {
			b.Fatalf("got %q and then %v, want %q", got, err, what)
		}
		got = append(got, buf[:n]...)
	}
}

// skip reads n bytes.
func (c bareClient) skip(b *testing.B, n int, buf []byte) {
	for n > 0 {
		m, err := syscall.Read(int(c), buf[:min(n, len(buf))])
		if m <= 0 {
			b.Fatal("read: ", err)
		}
		n -= m
	}
}

func benchServer(b *testing.B) (*atoll.Server, *net.TCPAddr) {
	srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
	ns := srv.Of("/")
	ns.Handle("echo", func(_ context.Context, _ *atoll.Socket, e *atoll.Event) error { return e.Reply(e.Args) })
	ts := httptest.NewServer(srv)
	b.Cleanup(func() {
		srv.Close()
		ts.Close()
	})
	return srv, ts.Listener.Addr().(*net.TCPAddr)
}

// BenchmarkEcho reports what a small event with an ack costs from socket to socket, in and
// out, when so many are under way at once.
func BenchmarkEcho(b *testing.B) {
	for _, window := range []int{1, 16} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			_, addr := benchServer(b)
			c := dialBare(b, addr)
			defer syscall.Close(int(c))
			const reply = `430["hello, atoll"]`
			var out []byte
			for range window {
				out = append(out, textFrame(`420["echo","hello, atoll"]`)...)
			}
			buf := make([]byte, 4096)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if n%window == 0 {
					c.write(b, out)
					c.skip(b, window*(2+len(reply)), buf)
				}
			}
		})
	}
}

// BenchmarkRoom reports what one delivery of a broadcast to a room of 1,000 costs.
func BenchmarkRoom(b *testing.B) {
	const members = 1000
	srv, addr := benchServer(b)
	ns := srv.Of("/")
	clients := make([]bareClient, members)
	for i := range clients {
		clients[i] = dialBare(b, addr)
		defer syscall.Close(int(clients[i]))
	}
	if err := ns.Local().Join(b.Context(), "room"); err != nil {
		b.Fatal(err)
	}
	const frame = 2 + len(`42["news","hello, atoll"]`)
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%members == 0 { // so that one operation is one delivery
			if err := ns.To("room").Emit(b.Context(), "news", "hello, atoll"); err != nil {
				b.Fatal(err)
			}
			for _, c := range clients {
				c.skip(b, frame, buf)
			}
		}
	}
}

// BenchmarkIdle reports what one idle client over WebSocket, in a namespace, takes of the
// server's memory: heap and stacks, after a garbage collection.
func BenchmarkIdle(b *testing.B) {
	const clients = 2000
	srv, addr := benchServer(b)
	first := dialBare(b, addr) // so that what all share is there
	defer syscall.Close(int(first))
	before := memory()
	for range clients {
		c := dialBare(b, addr)
		defer syscall.Close(int(c))
	}
	after := memory()
	for b.Loop() {
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(after-before)/clients, "B/conn")
	if got := srv.Of("/").Sockets(); got != clients+1 {
		b.Errorf("got %d sockets, want %d", got, clients+1)
	}
}

func memory() int64 {
	for range 5 { // stacks shrink by half in each
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
