package engine

import (
	"fmt"
	"net"
	"runtime"
	"syscall"
	"testing"
)

// BenchmarkIdle reports what one idle session takes of the server's memory: heap and stacks, after
// a message each and a garbage collection. The clients are bare file descriptors, so they take none.
func BenchmarkIdle(b *testing.B) {
	const clients = 2000
	g, hs := benchRig(b, true)
	addr := g.host
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	// One session first, so that what all share is there.
	first := bare(b, a)
	defer syscall.Close(first)
	before := memoryInUse()
	for range clients {
		fd := bare(b, a)
		defer syscall.Close(fd)
	}
	for i := 0; int(hs()[len(hs())-1].n.Load()) == 0 && i < 1000; i++ {
		runtime.Gosched()
	}
	after := memoryInUse()
	for b.Loop() {
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(after.heap-before.heap)/clients, "heap-B/conn")
	b.ReportMetric(float64(after.stack-before.stack)/clients, "stack-B/conn")
	b.ReportMetric(float64(after.heap-before.heap+after.stack-before.stack)/clients, "B/conn")
}

type inUse struct{ heap, stack int64 }

func memoryInUse() inUse {
	for range 5 { // stacks shrink by half in each
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return inUse{int64(m.HeapAlloc), int64(m.StackInuse)}
}

// bare opens a WebSocket session, has one message echoed, and returns its file descriptor.
func bare(b *testing.B, a *net.TCPAddr) int {
	b.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		b.Fatal(err)
	}
	to := &syscall.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}
	if err := syscall.Connect(fd, to); err != nil {
		b.Fatal(err)
	}
	req := fmt.Sprintf("GET /?EIO=4&transport=websocket HTTP/1.1\r\n"+wsRequest+"\r\n", a)
	buf := make([]byte, 4096)
	for _, out := range []string{req, string(masked(0x81, "4hello"))} {
		if _, err := syscall.Write(fd, []byte(out)); err != nil {
			b.Fatal(err)
		}
		if n, err := syscall.Read(fd, buf); n <= 0 {
			b.Fatal(n, err)
		}
	}
	return fd
}
