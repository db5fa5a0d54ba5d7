//go:build unix

package rolling

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/redis/rueidis"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/natsbus"
	"github.com/atollhq/atoll/adapter/pgbus"
	"github.com/atollhq/atoll/adapter/redisstream"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/pgtest"
	"github.com/atollhq/atoll/internal/redistest"
	"github.com/atollhq/atoll/recovery"
)

const (
	rooms   = 10  // each client is in one
	toAll   = 50  // events that each client missed
	toRooms = 500 // events to rooms that each missed a tenth of
)

// A medium is what the nodes of a benchmark share.
type medium struct {
	bus      func(b *testing.B) cluster.Bus // a node's own; nil: one node without a cluster
	requests func(b *testing.B) int64       // that the medium has had
}

func overStreams(b *testing.B) medium {
	s := redistest.Start(b)
	return medium{
		func(b *testing.B) cluster.Bus {
			rdb, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr()}})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(rdb.Close)
			return redisstream.New(rdb, &redisstream.Options{Logger: slog.New(slog.DiscardHandler)})
		},
		func(b *testing.B) int64 {
			info, _ := s.MustDo(b, "INFO", "stats").(string)
			_, text, _ := strings.Cut(info, "total_commands_processed:")
			text, _, _ = strings.Cut(text, "\r")
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				b.Fatalf("INFO stats: %v", err)
			}
			return n
		},
	}
}

// tracer counts queries and batches of them.
type tracer struct{ n atomic.Int64 }

func (t *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	t.n.Add(1)
	return ctx
}
func (t *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (t *tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	t.n.Add(1)
	return ctx
}
func (t *tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (t *tracer) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func overPostgres(b *testing.B) medium {
	s := pgtest.Start(b)
	url := s.URL(s.Database(b))
	count := new(tracer)
	return medium{
		func(b *testing.B) cluster.Bus {
			c, err := pgxpool.ParseConfig(url)
			if err != nil {
				b.Fatal(err)
			}
			c.ConnConfig.Tracer = count
			pool, err := pgxpool.NewWithConfig(b.Context(), c)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(pool.Close)
			return pgbus.NewLog(pool, &pgbus.LogOptions{Logger: slog.New(slog.DiscardHandler)})
		},
		func(*testing.B) int64 { return count.n.Load() },
	}
}

func overNATS(b *testing.B) medium {
	srv, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true, StoreDir: b.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		b.Fatal(err)
	}
	srv.Start()
	b.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(10 * time.Second) {
		b.Fatal("NATS does not start within 10 s")
	}
	return medium{
		func(b *testing.B) cluster.Bus {
			bus, err := natsbus.Connect(b.Context(), srv.ClientURL(), nil)
			if err != nil {
				b.Fatal(err)
			}
			log, err := natsbus.OpenLog(b.Context(), bus, &natsbus.LogOptions{Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			return log
		},
		func(b *testing.B) int64 {
			v, err := srv.Varz(nil)
			if err != nil {
				b.Fatal(err)
			}
			return v.InMsgs
		},
	}
}

// A home is a node that clients come to.
type home struct {
	srv   *atoll.Server
	addr  string
	leave func() // all of it, without a word to anybody; but a node without a cluster stays
}

func settle(b *testing.B, m medium) *home {
	o := &atoll.Options{Recovery: &recovery.Options{}, Logger: slog.New(slog.DiscardHandler)}
	var bus cluster.Bus
	if m.bus != nil {
		bus = m.bus(b)
		node, err := cluster.Join(b.Context(), bus, &cluster.Options{Logger: o.Logger})
		if err != nil {
			b.Fatal(err)
		}
		o.Cluster = node
	}
	h := &home{srv: atoll.NewServer(o)}
	h.srv.Of("/").OnConnect(func(_ context.Context, s *atoll.Socket) error {
		if !s.Recovered() {
			var auth struct{ Room string }
			if err := s.Auth(&auth); err != nil {
				return err
			}
			s.Join(auth.Room)
		}
		return nil
	})
	ts := httptest.NewServer(h.srv)
	h.addr = ts.Listener.Addr().String()
	h.leave = sync.OnceFunc(func() {
		if bus != nil {
			_ = bus.Close() // first: what the others do is heard by nobody
		}
		_ = h.srv.Close()
		if o.Cluster != nil {
			_ = o.Cluster.Close()
		}
		ts.Close()
	})
	b.Cleanup(h.leave)
	return h
}

// A caller is a client that speaks no more than it must.
type caller struct {
	conn        net.Conn
	in          *bufio.Reader
	pid, offset string
	seen        int
}

// frame is a text under the mask of zeros.
func frame(s string) []byte {
	if len(s) < 126 {
		return append([]byte{0x81, 0x80 | byte(len(s)), 0, 0, 0, 0}, s...)
	}
	return append([]byte{0x81, 0x80 | 126, byte(len(s) >> 8), byte(len(s)), 0, 0, 0, 0}, s...)
}

// next returns the next text.
func (c *caller) next() (string, error) {
	var head [2]byte
	if _, err := readFull(c.in, head[:]); err != nil {
		return "", err
	}
	n := int(head[1] & 0x7f)
	if n == 126 {
		if _, err := readFull(c.in, head[:]); err != nil {
			return "", err
		}
		n = int(head[0])<<8 | int(head[1])
	}
	text := make([]byte, n)
	_, err := readFull(c.in, text)
	return string(text), err
}

func readFull(r *bufio.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = r.Read(b[n:])
		n += k
	}
	return n, err
}

// connect connects, and returns what the server says to that.
func (c *caller) connect(addr, auth string) (answer string, err error) {
	if c.conn, err = net.Dial("tcp", addr); err != nil {
		return "", err
	}
	c.in = bufio.NewReaderSize(c.conn, 1024)
	fmt.Fprintf(c.conn, "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", addr)
	for line := ""; line != "\r\n"; {
		if line, err = c.in.ReadString('\n'); err != nil {
			return "", err
		}
	}
	if _, err = c.conn.Write(frame("40" + auth)); err != nil {
		return "", err
	}
	for {
		text, err := c.next()
		if err != nil || strings.HasPrefix(text, "40") || strings.HasPrefix(text, "44") {
			return strings.TrimPrefix(text, "40"), err
		}
	}
}

// event takes the next event, and keeps its offset.
func (c *caller) event() error {
	for {
		text, err := c.next()
		if err != nil {
			return err
		}
		if strings.HasPrefix(text, "42") {
			text = strings.TrimSuffix(text, `"]`)
			c.offset = text[strings.LastIndexByte(text, '"')+1:]
			c.seen++
			return nil
		}
		if text == "2" {
			_, _ = c.conn.Write(frame("3"))
		}
	}
}

// together calls f for all callers, at most so many at once, and fails with the first error.
func together(b *testing.B, cs []*caller, most int, f func(i int, c *caller) error) {
	b.Helper()
	var wg sync.WaitGroup
	var first atomic.Pointer[error]
	turns := make(chan struct{}, most)
	for i, c := range cs {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			if err := f(i, c); err != nil {
				first.CompareAndSwap(nil, &err)
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		b.Fatal(*err)
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReturn reports what it costs when all clients of a node that died come back to another one at the same
// moment, each with a session and events that it missed: CPU of this process for each (the benchmark's client
// among it), requests to the medium for each, and how long the last waits until it has everything.
// ATOLL_BENCH_RETURN says how many clients; 2,000 else.
func BenchmarkReturn(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("ATOLL_BENCH_RETURN"))
	if err != nil {
		n = 2000
	}
	for _, x := range []struct {
		name string
		open func(*testing.B) medium
	}{
		{"memory", func(*testing.B) medium { return medium{} }},
		{"streams", overStreams}, {"postgres", overPostgres}, {"nats", overNATS},
	} {
		b.Run(x.name, func(b *testing.B) {
			m := x.open(b)
			for b.Loop() {
				b.StopTimer()
				comeBack(b, m, n)
				b.StartTimer()
			}
		})
	}
}

func comeBack(b *testing.B, m medium, n int) {
	first := settle(b, m)
	second := first
	if m.bus != nil {
		second = settle(b, m)
	}
	cs := make([]*caller, n)
	for i := range cs {
		cs[i] = new(caller)
	}
	defer func() {
		for _, c := range cs {
			_ = c.conn.Close()
		}
		first.leave()
		second.leave()
	}()
	together(b, cs, 50, func(i int, c *caller) error {
		answer, err := c.connect(first.addr, fmt.Sprintf(`{"room":"room%d"}`, i%rooms))
		var told struct{ PID string }
		if err == nil {
			err = json.Unmarshal([]byte(answer), &told)
		}
		c.pid = told.PID
		return err
	})
	ctx := context.Background()
	if err := second.srv.Of("/").Emit(ctx, "first", "hello, all"); err != nil {
		b.Fatal(err)
	}
	together(b, cs, n, func(_ int, c *caller) error {
		if err := c.event(); err != nil {
			return err
		}
		c.seen = 0
		return c.conn.Close()
	})
	if m.bus != nil {
		first.leave()
	}
	var emits sync.WaitGroup
	for i := range toAll + toRooms {
		emits.Go(func() {
			t := second.srv.Of("/").Except()
			if i >= toAll {
				t = second.srv.Of("/").To(fmt.Sprintf("room%d", i%rooms))
			}
			if err := t.Emit(ctx, "missed", i, strings.Repeat("x", 100)); err != nil {
				b.Error(err)
			}
		})
	}
	emits.Wait()

	requests, used, began := int64(0), cpu(), time.Now()
	if m.requests != nil {
		requests = m.requests(b)
	}
	b.StartTimer()
	var lost atomic.Int64
	together(b, cs, n, func(_ int, c *caller) error {
		answer, err := c.connect(second.addr, fmt.Sprintf(`{"pid":%q,"offset":%q}`, c.pid, c.offset))
		if err == nil && !strings.Contains(answer, c.pid) {
			lost.Add(1)
			return nil
		}
		for err == nil && c.seen < toAll+toRooms/rooms {
			err = c.event()
		}
		return err
	})
	b.StopTimer()
	b.ReportMetric(float64(time.Since(began).Milliseconds()), "last-ms")
	b.ReportMetric(float64((cpu()-used).Microseconds())/float64(n), "cpu-µs/client")
	if m.requests != nil {
		b.ReportMetric(float64(m.requests(b)-requests)/float64(n), "requests/client")
	}
	b.ReportMetric(float64(lost.Load()), "lost")
	b.ReportMetric(0, "ns/op")
}
