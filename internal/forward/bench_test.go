package forward

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
)

// small answers as a node answers a poll.
var small = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Content-Type"] = []string{"text/plain; charset=UTF-8"}
	h["Cache-Control"] = []string{"no-store"}
	h["Atoll-Node"] = []string{"b"}
	w.Write([]byte(`42["message","hello"]`))
})

// pollHeader is what a browser sends with a poll.
func pollHeader() http.Header {
	return http.Header{
		"Accept": {"*/*"}, "Accept-Encoding": {"gzip, deflate, br"}, "Accept-Language": {"en-US,en;q=0.9"}, "Connection": {"keep-alive"},
		"Referer": {"http://localhost:3000/"}, "User-Agent": {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"},
		"Sec-Fetch-Mode": {"cors"}, "Cookie": {"io=abcdefghijklmnopqrst"},
	}
}

const pollURI = "/at/b/socket.io/?EIO=4&transport=polling&t=Oabcdef&sid=abcdefghijklmnopqrst"

// cpu returns the time that the process has used. It is nil where that is not measured.
var cpu func() time.Duration

// A sink is a ResponseWriter without a client.
type sink struct {
	h http.Header
	n int
}

func (s *sink) Header() http.Header { return s.h }
func (s *sink) WriteHeader(int)     {}
func (s *sink) Write(b []byte) (int, error) {
	s.n += len(b)
	return len(b), nil
}

// BenchmarkForward is what passing a request on costs both nodes together, beyond the request itself.
func BenchmarkForward(b *testing.B) {
	for _, way := range []string{"link", "carrier"} {
		for _, at := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/%d at once", way, at), func(b *testing.B) {
				x, _ := pair(b, way, small)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				r, _ := http.NewRequestWithContext(ctx, "GET", pollURI, nil)
				r.RequestURI, r.RemoteAddr, r.Header = pollURI, "127.0.0.1:12345", pollHeader()
				b.ReportAllocs()
				inParallel(b, at, func() {
					w := &sink{h: make(http.Header)}
					x.Forward(w, r, "b")
					if w.n == 0 {
						b.Error("got no answer")
					}
				})
			})
		}
	}
}

// inParallel runs f b.N times, on some goroutines.
func inParallel(b *testing.B, goroutines int, f func()) {
	work := make(chan struct{}, 1024)
	var wg sync.WaitGroup
	each := b.N/goroutines + 1
	b.ResetTimer()
	var began time.Duration
	if cpu != nil {
		began = cpu()
	}
	close(work)
	for range goroutines {
		wg.Go(func() {
			for range each {
				f()
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	if cpu != nil {
		b.ReportMetric(float64((cpu()-began).Nanoseconds())/float64(each*goroutines), "cpu-ns/op")
	}
}

// pair makes two nodes that reach each other by one way only.
func pair(b testing.TB, way string, h http.Handler, change ...func(*Options)) (x, y *site) {
	var hub membus.Hub
	never := func(o *Options) {
		if way == "carrier" {
			o.Advertise = "-"
		}
	}
	change = append(change, never)
	x, y = newSite(b, &hub, "a", nil, h, change...), newSite(b, &hub, "b", nil, h, change...)
	know(b, x, y)
	if way == "link" {
		linked(b, x, y)
	}
	return x, y
}

// BenchmarkHTTP is a request over net/http, as a client makes it that keeps its connection: at the owner, and
// at another node.
func BenchmarkHTTP(b *testing.B) {
	for _, where := range []string{"owner", "other"} {
		for _, at := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/%d at once", where, at), func(b *testing.B) {
				x, y := pair(b, "link", small)
				s := x
				uri := pollURI
				if where == "owner" {
					s, uri = y, strings.TrimPrefix(pollURI, "/at/b")
				}
				req := []byte("GET " + uri + " HTTP/1.1\r\nHost: x\r\n")
				for k, v := range pollHeader() {
					req = append(req, k+": "+v[0]+"\r\n"...)
				}
				req = append(req, "\r\n"...)
				conns := make(chan *bufio.Reader, at)
				socks := map[*bufio.Reader]net.Conn{}
				for range at {
					c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
					if err != nil {
						b.Fatal(err)
					}
					defer c.Close()
					r := bufio.NewReader(c)
					socks[r] = c
					conns <- r
				}
				b.ReportAllocs()
				inParallel(b, at, func() {
					r := <-conns
					socks[r].Write(req)
					for {
						l, err := r.ReadSlice('\n')
						if err != nil {
							b.Error(err)
							return
						}
						if len(l) == 2 {
							break
						}
					}
					if _, err := io.CopyN(io.Discard, r, int64(len(`42["message","hello"]`))); err != nil {
						b.Error(err)
					}
					conns <- r
				})
			})
		}
	}
}

// BenchmarkIdlePassThrough is the memory of a connection that is passed through and idle, on both nodes and its client together.
func BenchmarkIdlePassThrough(b *testing.B) {
	x, _ := pair(b, "link", upgrading(b, func(c net.Conn) {
		c.Read(make([]byte, 1))
		c.Close()
	}))
	memory := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	const count = 200
	for b.Loop() {
		before := memory()
		var conns []net.Conn
		for range count {
			c, err := net.Dial("tcp", strings.TrimPrefix(x.url, "http://"))
			if err != nil {
				b.Fatal(err)
			}
			io.WriteString(c, "GET /at/b/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			if _, err := io.ReadFull(c, make([]byte, len(accepted))); err != nil {
				b.Fatal(err)
			}
			conns = append(conns, c)
		}
		time.Sleep(100 * time.Millisecond)
		b.ReportMetric(float64(memory()-before)/count, "B/stream")
		for _, c := range conns {
			c.Close()
		}
		settledDown(b, x)
	}
}

// BenchmarkPassThrough is a message and its echo over a connection that is passed through.
func BenchmarkPassThrough(b *testing.B) {
	for _, way := range both {
		for _, at := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d at once", way, at), func(b *testing.B) {
				x, _ := pair(b, way, upgrading(b, func(c net.Conn) {
					io.Copy(c, c)
					c.Close()
				}))
				conns := make(chan net.Conn, at)
				for range at {
					c, err := net.Dial("tcp", strings.TrimPrefix(x.url, "http://"))
					if err != nil {
						b.Fatal(err)
					}
					defer c.Close()
					io.WriteString(c, "GET /at/b/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
					io.ReadFull(c, make([]byte, len(accepted)))
					conns <- c
				}
				b.ReportAllocs()
				inParallel(b, at, func() {
					c := <-conns
					var msg [64]byte
					c.Write(msg[:])
					if _, err := io.ReadFull(c, msg[:]); err != nil {
						b.Error(err)
					}
					conns <- c
				})
			})
		}
	}
}
