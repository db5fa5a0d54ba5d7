//go:build unix

package rolling

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/redisstream"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/redistest"
	"github.com/atollhq/atoll/recovery"
)

const (
	others = 3 // official clients of each kind
	pause  = 400 * time.Millisecond
	maxLen = 200_000 // of the stream: each client that moves adds to it
)

// A guest is a client, and what it has seen.
type guest struct {
	mu    sync.Mutex
	first int // number that it saw; -1: none
	last  int
	wrong []int // numbers that were not the next
	moves int
	fresh int // times that it came back without its session
	here  bool
	words []string // why it was disconnected, where that was not the end of its connection, or not connected
}

func (g *guest) connected(recovered bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.moves > 0 && !recovered {
		g.fresh++
	}
	g.here = true
}

func (g *guest) disconnected(reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.moves++
	g.here = false
	if reason != client.ReasonTransportClose {
		g.words = append(g.words, reason)
	}
}

// refused notes why an official client could not connect; when the nodes end with the test, it cannot either.
func (g *guest) refused(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.words = append(g.words, "connect_error: "+why)
}

func (g *guest) saw(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.first < 0:
		g.first = n
	case n != g.last+1:
		g.wrong = append(g.wrong, n)
	}
	g.last = n
}

// look returns whether g is connected, how often it moved, and the last number that it saw.
func (g *guest) look() (here bool, moves, last int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.here, g.moves, g.last
}

func crowd(t *testing.T) int {
	if n, err := strconv.Atoi(os.Getenv("ATOLL_TEST_ROLLING")); err == nil {
		return n
	}
	if raced || testing.Short() {
		return 600
	}
	return 3000
}

// pace returns how many sessions of n are asked to go in a second: a node's third of them takes some seconds, so that all
// at once would be far beyond it.
// ATOLL_TEST_PACE says how many else.
func pace(n int) int {
	if rate, err := strconv.Atoi(os.Getenv("ATOLL_TEST_PACE")); err == nil {
		return rate
	}
	return min(100, n/12)
}

// Three nodes are drained and replaced in turn. Every client keeps its session, sees every event once, and moves
// once for each node that is replaced, at most; and they do not all come at once.
//
// With the race detector 600 clients take part; ATOLL_TEST_ROLLING says how many else.
func TestRollingRestart(t *testing.T) {
	begun, n := time.Now(), crowd(t)
	rate := pace(n)
	addr := redistest.Start(t).Addr()
	bin := build(t)
	fresh := func() *node {
		return start(t, bin, "serve", "--port", "0", "--bus", "redis+streams://"+addr+"?max_len="+strconv.Itoa(maxLen), "--recovery", "2m",
			"--drain-lead", "1500ms", "--drain-window", "60s", "--drain-rate", strconv.Itoa(rate))
	}
	nodes := []*node{fresh(), fresh(), fresh()}
	f := balance(t, nodes...)
	for _, x := range nodes {
		f.up(t, x)
	}
	guests := invite(t, f.url, n)
	await(t, "all clients are connected", guests, func(g *guest) bool { here, _, _ := g.look(); return here })
	f.busiest()
	t.Logf("%d clients after %v", n, time.Since(begun).Round(time.Millisecond))

	said := speak(t, addr, maxLen)
	for i, old := range nodes {
		at := time.Now()
		before := make([]int, len(guests))
		for j, g := range guests {
			_, before[j], _ = g.look()
		}
		next := fresh()
		nodes[i] = next
		f.to(t, append(slices.Clone(nodes), old)...)
		f.up(t, next)
		old.drain(t)
		f.to(t, nodes...)
		await(t, "all clients are back", guests, func(g *guest) bool { here, _, _ := g.look(); return here })
		moved := 0
		for j, g := range guests {
			_, after, _ := g.look()
			if after > before[j]+1 {
				t.Errorf("client %d moved %d times while one node was replaced, want once at most", j, after-before[j])
			}
			moved += after - before[j]
		}
		most, all := f.busiest()
		t.Logf("node %d was replaced in %v: %d clients moved, %d handshakes, %d in the busiest second",
			i+1, time.Since(at).Round(time.Millisecond), moved, all, most)
		if all > moved*11/10 { // on a busy machine one may have to try again
			t.Errorf("got %d handshakes for %d clients that moved, want one each", all, moved)
		}
		if most > 2*rate { // the machine may hold some up
			t.Errorf("got %d handshakes in a second, want about %d at most", most, rate)
		}
	}
	last := said()
	await(t, "all clients have seen the last event", guests, func(g *guest) bool { _, _, n := g.look(); return n == last })
	for i, g := range guests {
		g.mu.Lock()
		if g.fresh > 0 || len(g.wrong) > 0 || len(g.words) > 0 {
			t.Errorf("client %d: came back %d times without its session, saw %v out of turn, was told %q; want 0, none, none", i, g.fresh, g.wrong, g.words)
		}
		g.mu.Unlock()
	}
	t.Logf("%d events to each client; %v in all", last+1, time.Since(begun).Round(time.Millisecond))
}

// One of three nodes is killed. All its clients come to the others at once, each with its session, and sees every
// event once and in order; nobody else notices.
//
// ATOLL_TEST_KILL says how many clients take part; 300 else.
func TestKilledNode(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("ATOLL_TEST_KILL"))
	if err != nil {
		n = 300
	}
	addr := redistest.Start(t).Addr()
	bin := build(t)
	var nodes []*node
	for range 3 {
		nodes = append(nodes, start(t, bin, "serve", "--port", "0", "--bus", "redis+streams://"+addr, "--recovery", "2m"))
	}
	f := balance(t, nodes...)
	for _, x := range nodes {
		f.up(t, x)
	}
	guests := invite(t, f.url, n)
	await(t, "all clients are connected", guests, func(g *guest) bool { here, _, _ := g.look(); return here })
	said := speak(t, addr, 0)
	await(t, "all clients have seen something", guests, func(g *guest) bool { _, _, last := g.look(); return last > 0 })
	before := 0
	for _, g := range guests {
		_, _, last := g.look()
		before = max(before, last)
	}
	at := time.Now()
	nodes[0].kill()
	await(t, "all clients have seen what was said later", guests, func(g *guest) bool { _, _, last := g.look(); return last > before })
	last := said()
	await(t, "all clients have seen the last event", guests, func(g *guest) bool {
		here, _, n := g.look()
		return here && n == last
	})
	took, moved, most := time.Since(at), 0, 0
	for i, g := range guests {
		g.mu.Lock()
		if g.fresh > 0 || len(g.wrong) > 0 {
			t.Errorf("client %d: came back %d times without its session, saw %v out of turn; want 0, none", i, g.fresh, g.wrong)
		}
		if most = max(most, g.moves); g.moves > 0 {
			moved++
		}
		g.mu.Unlock()
	}
	t.Logf("%d of %d clients came back, each %d times at most, and had all %d events %v after the kill", moved, len(guests), most, last+1, took.Round(time.Millisecond))
	if moved < n/6 {
		t.Errorf("%d of %d clients moved, want about a third", moved, n)
	}
}

// invite connects clients: n of ours, half of them over long-polling at first, and some official ones.
func invite(t *testing.T, url string, n int) []*guest {
	t.Helper()
	guests := make([]*guest, n, n+2*others)
	work := make(chan int)
	var wg sync.WaitGroup
	var socks sync.Map
	for range 50 {
		wg.Go(func() {
			for i := range work {
				g := &guest{first: -1}
				guests[i] = g
				o := &client.Options{Transports: []string{client.WebSocket}, RetryConnect: true, Logger: slog.New(slog.DiscardHandler)}
				if i%10 == 0 {
					o.Transports = []string{client.Polling, client.WebSocket}
				}
				sock, err := client.New(url, o)
				if err != nil {
					t.Error(err)
					return
				}
				socks.Store(i, sock)
				sock.OnConnect(func(context.Context) error { g.connected(sock.Recovered()); return nil })
				sock.OnDisconnect(func(cause *client.DisconnectError) { g.disconnected(cause.Reason) })
				client.On(sock, "n", func(_ context.Context, n int) error { g.saw(n); return nil })
				if err := sock.Connect(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	t.Cleanup(func() {
		var closing sync.WaitGroup
		socks.Range(func(_, v any) bool {
			closing.Go(func() { _ = v.(*client.Socket).Close() })
			return true
		})
		closing.Wait()
	})
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	for _, transports := range []string{"polling,websocket", "polling"} {
		theirs := make([]*guest, others)
		for i := range theirs {
			theirs[i] = &guest{first: -1}
		}
		var there atomic.Bool
		official(t, url, others, transports, func(i int, what, reason string, n int, recovered bool) {
			there.Store(true)
			switch what {
			case "connect":
				theirs[i].connected(recovered)
			case "disconnect":
				if transports == "polling" && reason == "transport error" {
					reason = client.ReasonTransportClose // its POST came when the session had just ended; it reconnects by itself as well
				}
				theirs[i].disconnected(reason)
			case "connect_error":
				theirs[i].refused(reason)
			case "n":
				theirs[i].saw(n)
			}
		})
		for range 500 {
			if there.Load() {
				guests = append(guests, theirs...)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return guests
}

// speak tells all clients numbers from 0 on, as a node of its own without clients, until stop is called, which
// returns the last. The stream keeps about so many events; 0 stands for the default.
func speak(t *testing.T, addr string, keep int64) (stop func() int) {
	t.Helper()
	rdb, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	bus := redisstream.New(rdb, &redisstream.Options{MaxLen: keep})
	member, err := cluster.Join(t.Context(), bus, nil)
	if err != nil {
		t.Fatal(err)
	}
	srv := atoll.NewServer(&atoll.Options{Cluster: member, Recovery: &recovery.Options{}})
	t.Cleanup(func() {
		_ = srv.Close()
		_ = member.Close()
		_ = bus.Close()
		rdb.Close()
	})
	end, last := make(chan struct{}), make(chan int, 1)
	go func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for i := 0; ; i++ {
			if err := srv.Of("/").Emit(context.Background(), "n", i); err != nil {
				t.Errorf("event %d: %v", i, err)
			}
			select {
			case <-tick.C:
			case <-end:
				last <- i
				return
			}
		}
	}()
	return func() int {
		close(end)
		return <-last
	}
}

// await waits until all guests are so.
func await(t *testing.T, what string, guests []*guest, ok func(*guest) bool) {
	t.Helper()
	left := 0
	for range 600 {
		left = 0
		for _, g := range guests {
			if !ok(g) {
				left++
			}
		}
		if left == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s: not so for %d of %d within a minute", what, left, len(guests))
}
