package atoll_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/internal/remote"
	"github.com/atollhq/atoll/recovery"
)

// health asks a server how it is.
func health(t *testing.T, srv *atoll.Server) (code int, status string, left int) {
	t.Helper()
	w := httptest.NewRecorder()
	srv.Health().ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
	var body struct {
		Status string
		Left   int
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	return w.Code, body.Status, body.Left
}

// A goodbye is the end of a socket, as its server saw it.
type goodbye struct {
	at    time.Time
	cause error
}

// A farewell collects the ends of sockets.
type farewell struct {
	mu   sync.Mutex
	byes []goodbye
}

func (f *farewell) register(srv *atoll.Server) {
	srv.Of("/").OnDisconnect(func(_ *atoll.Socket, cause *atoll.DisconnectError) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.byes = append(f.byes, goodbye{time.Now(), cause})
	})
}

func (f *farewell) all() []goodbye {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.byes)
}

// leavers connects n clients that do not come back, each with a record of why it was disconnected.
func leavers(t *testing.T, s *atolltest.Server, n int, transports ...string) (reasons func() []string) {
	t.Helper()
	var mu sync.Mutex
	var all []string
	for range n {
		sock := s.New(t, "/", &client.Options{DisableReconnect: true, Transports: transports})
		sock.OnDisconnect(func(cause *client.DisconnectError) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, cause.Reason)
		})
		if err := sock.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

func quietly(o *atoll.DrainOptions) *atoll.Server {
	return atoll.NewServer(&atoll.Options{Drain: o, Logger: slog.New(slog.DiscardHandler)})
}

func TestDrain(t *testing.T) {
	for _, transport := range []string{client.WebSocket, client.Polling} {
		t.Run(transport, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := quietly(nil)
				var f farewell
				f.register(srv)
				s := atolltest.Serve(t, srv)
				const n = 300
				reasons := leavers(t, s, n, transport)

				start := time.Now()
				result := make(chan error, 1)
				go func() {
					result <- srv.Drain(context.Background(), &atoll.DrainOptions{Lead: 4 * time.Second, Rate: 20})
				}()
				synctest.Wait()
				if code, status, left := health(t, srv); code != 503 || status != "announced" || left != n {
					t.Errorf("health: got %d, %q, %d left, want 503, announced, %d", code, status, left, n)
				}
				time.Sleep(3 * time.Second)
				another := leavers(t, s, 1, transport) // sessions begin as ever
				time.Sleep(2 * time.Second)
				late := s.New(t, "/", &client.Options{DisableReconnect: true, Transports: []string{transport}})
				if err := late.Connect(t.Context()); err == nil {
					t.Error("a client that comes to a draining node: got connected, want an error")
				}
				if code, status, left := health(t, srv); code != 503 || status != "draining" || left < n-40 {
					t.Errorf("health: got %d, %q, %d left, want 503, draining, %d at least", code, status, left, n-40)
				}
				if err := <-result; err != nil {
					t.Errorf("got %v, want nil", err)
				}
				synctest.Wait()
				if code, status, _ := health(t, srv); code != 503 || status != "drained" {
					t.Errorf("health: got %d, %q, want 503, drained", code, status)
				}
				if got := srv.Stats().Drain; got != (atoll.DrainStats{State: atoll.Drained, Asked: n + 1}) {
					t.Errorf("got %+v, want %d asked", got, n+1)
				}
				for _, reason := range append(reasons(), another()...) {
					if reason != client.ReasonTransportClose {
						t.Fatalf("got reason %q at the client, want %q", reason, client.ReasonTransportClose)
					}
				}
				byes := f.all()
				if len(byes) != n+1 {
					t.Fatalf("got %d disconnected sockets, want %d", len(byes), n+1)
				}
				seconds := make(map[int]int)
				for _, b := range byes {
					if d, ok := errors.AsType[*atoll.DisconnectError](b.cause); !ok || d.Reason != atoll.ReasonShutdown || !errors.Is(b.cause, atoll.ErrDrain) {
						t.Fatalf("got cause %v, want ErrDrain", b.cause)
					}
					seconds[int(b.at.Sub(start).Seconds())]++
				}
				for at, got := range seconds {
					if at < 4 || got > 20*5/4 {
						t.Errorf("got %d sessions gone in second %d, want at most 25, and none before second 4", got, at)
					}
				}

				if !srv.Undrain() || srv.Undrain() {
					t.Error("Undrain: want true, then false")
				}
				if code, status, _ := health(t, srv); code != 200 || status != "ok" {
					t.Errorf("health: got %d, %q, want 200, ok", code, status)
				}
				s.Dial(t, "/", &client.Options{Transports: []string{transport}})
			})
		})
	}
}

// Left to itself, a drain takes no longer than it must, and never longer than its window.
func TestDrainPace(t *testing.T) {
	for _, c := range []struct {
		n           int
		o           atoll.DrainOptions
		least, most time.Duration
	}{
		{0, atoll.DrainOptions{}, 5 * time.Second, 5 * time.Second},
		{10, atoll.DrainOptions{Lead: -1}, 0, time.Second},
		{200, atoll.DrainOptions{Lead: -1}, 3 * time.Second, 5 * time.Second},
		{200, atoll.DrainOptions{Lead: -1, Window: 2 * time.Second}, time.Second, 2 * time.Second},
		{200, atoll.DrainOptions{Lead: -1, Window: -1}, 0, 100 * time.Millisecond},
		{200, atoll.DrainOptions{Lead: -1, Rate: 5}, 35 * time.Second, 45 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := quietly(&c.o)
			leavers(t, atolltest.Serve(t, srv), c.n)
			start := time.Now()
			if err := srv.Drain(context.Background(), nil); err != nil {
				t.Errorf("%+v: got %v, want nil", c.o, err)
			}
			if got := time.Since(start); got < c.least || got > c.most {
				t.Errorf("%d sessions, %+v: got %v, want %v to %v", c.n, c.o, got, c.least, c.most)
			}
		})
	}
}

// Who has something under way is left alone until it is done, or most of the window is over.
func TestDrainBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := quietly(nil)
		var f farewell
		f.register(srv)
		atoll.On(srv.Of("/"), "work", func(ctx context.Context, _ *atoll.Socket, ms int) error {
			time.Sleep(time.Duration(ms) * time.Millisecond)
			return nil
		})
		s := atolltest.Serve(t, srv)
		leavers(t, s, 3)
		start := time.Now()
		acked := make(chan time.Duration, 2)
		for _, ms := range []int{3000, 60_000} {
			sock := s.Dial(t, "/", &client.Options{DisableReconnect: true})
			go func() {
				if _, err := sock.Ask(context.Background(), "work", ms); err == nil {
					acked <- time.Since(start)
				}
			}()
		}
		synctest.Wait()
		go func() {
			time.Sleep(time.Minute)
		}()
		if err := srv.Drain(context.Background(), &atoll.DrainOptions{Lead: -1, Window: 8 * time.Second}); err != nil {
			t.Errorf("got %v, want nil", err)
		}
		synctest.Wait()
		if got := <-acked; got != 3*time.Second {
			t.Errorf("the short work was answered after %v, want 3s", got)
		}
		if got := time.Since(start); got < 6*time.Second || got > 6500*time.Millisecond {
			t.Errorf("took %v, want 6s: three quarters of the window", got)
		}
		time.Sleep(time.Minute)
		byes := f.all()
		for i, want := range []time.Duration{0, 0, 0, 3 * time.Second} {
			if got := byes[i].at.Sub(start).Truncate(time.Second); got != want {
				t.Errorf("socket %d is gone after %v, want %v", i, got, want)
			}
		}
	})
}

func TestDrainEnds(t *testing.T) {
	slow := atoll.DrainOptions{Lead: time.Hour, Rate: 1}
	run := func(t *testing.T, f func(t *testing.T, srv *atoll.Server, done <-chan error)) {
		t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := quietly(&slow)
				leavers(t, atolltest.Serve(t, srv), 100)
				done := make(chan error, 1)
				go func() { done <- srv.Drain(context.Background(), nil) }()
				synctest.Wait()
				f(t, srv, done)
			})
		})
	}
	t.Run("a second call speeds up", func(t *testing.T) {
		run(t, func(t *testing.T, srv *atoll.Server, done <-chan error) {
			start := time.Now()
			if err := srv.Drain(context.Background(), &atoll.DrainOptions{Lead: time.Second, Window: 4 * time.Second}); err != nil {
				t.Errorf("got %v, want nil", err)
			}
			if err := <-done; err != nil {
				t.Errorf("the first call: got %v, want nil", err)
			}
			if got := time.Since(start); got < 2*time.Second || got > 5*time.Second {
				t.Errorf("took %v, want some 4s", got)
			}
		})
		run(t, func(t *testing.T, srv *atoll.Server, done <-chan error) {
			time.Sleep(time.Hour + 10*time.Second)
			start := time.Now()
			if err := srv.Drain(context.Background(), &atoll.DrainOptions{Window: -1}); err != nil || time.Since(start) > time.Second {
				t.Errorf("got %v after %v, want nil at once", err, time.Since(start))
			}
		})
	})
	t.Run("a context cuts", func(t *testing.T) {
		run(t, func(t *testing.T, srv *atoll.Server, done <-chan error) {
			why := errors.New("enough")
			ctx, cancel := context.WithCancelCause(context.Background())
			time.AfterFunc(time.Second, func() { cancel(why) })
			err := srv.Drain(ctx, nil)
			if e, ok := errors.AsType[*atoll.DrainError](err); !ok || e.Cut != 100 || !errors.Is(err, why) {
				t.Errorf("got %v, want 100 cut", err)
			}
			if got := srv.Stats().Drain; got.Cut != 100 || got.State != atoll.Drained {
				t.Errorf("got %+v, want drained, 100 cut", got)
			}
			if err := srv.Drain(ctx, nil); err != nil {
				t.Errorf("again: got %v, want nil", err)
			}
		})
	})
	t.Run("Shutdown", func(t *testing.T) {
		run(t, func(t *testing.T, srv *atoll.Server, done <-chan error) {
			if err := srv.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown: got %v, want nil", err)
			}
			if err := <-done; err != nil {
				t.Errorf("got %v, want nil", err)
			}
			if _, status, _ := health(t, srv); status != "shutting down" {
				t.Errorf("got %q, want shutting down", status)
			}
			if srv.Undrain() {
				t.Error("Undrain: got true, want false")
			}
		})
	})
	t.Run("Undrain", func(t *testing.T) {
		run(t, func(t *testing.T, srv *atoll.Server, done <-chan error) {
			time.Sleep(time.Hour + 10*time.Second)
			if !srv.Undrain() {
				t.Error("got false, want true")
			}
			if err := <-done; !errors.Is(err, atoll.ErrUndrained) {
				t.Errorf("got %v, want ErrUndrained", err)
			}
			time.Sleep(time.Minute)
			if got := srv.Stats(); got.Engine.Sessions < 85 || got.Drain.State != atoll.Serving {
				t.Errorf("got %d sessions, %v, want some 90, serving", got.Engine.Sessions, got.Drain.State)
			}
		})
	})
}

// Clients of a node that is drained are on the other one afterwards, with their sessions, and have got every event once.
func TestDrainRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		sessions := recovery.NewMemory(nil)
		start := func(name string) *atolltest.Node {
			return atolltest.Start(t, &hub, name, &atolltest.NodeOptions{Log: true, Server: atoll.Options{Recovery: &recovery.Options{Sessions: sessions}}})
		}
		a, b := start("a"), start("b")
		var callers []*caller
		for range 40 {
			c := call(t, a.Server, "/", map[string]any{})
			c.OnDisconnect(func(*client.DisconnectError) { c.line.up(b.Server) })
			callers = append(callers, c)
		}
		stop := make(chan struct{})
		sent := make(chan int)
		go func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					sent <- i
					return
				case <-time.After(7 * time.Millisecond):
				}
				if err := b.Of("/").Emit(context.Background(), "n", strconv.Itoa(i)); err != nil {
					t.Error(err)
				}
			}
		}()
		time.Sleep(100 * time.Millisecond)
		if err := a.Drain(context.Background(), &atoll.DrainOptions{Lead: -1, Rate: 20}); err != nil {
			t.Error(err)
		}
		for _, c := range callers {
			c.wait(t, true)
		}
		time.Sleep(100 * time.Millisecond)
		close(stop)
		n := <-sent
		var all []string
		for i := range n {
			all = append(all, "n:"+strconv.Itoa(i))
		}
		for _, c := range callers {
			c.want(t, all...)
		}
		if got := b.Stats().Recovery; got.Recovered != 40 || got.Replayed == 0 {
			t.Errorf("got %+v, want 40 recovered, and some events replayed", got)
		}
	})
}

func TestDrainOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		a := atolltest.Start(t, &hub, "a", nil)
		b := atolltest.Start(t, &hub, "b", &atolltest.NodeOptions{Server: atoll.Options{Drain: &atoll.DrainOptions{Local: true}}})
		leavers(t, a.Server, 100)
		em, err := emitter.Connect(t.Context(), membus.New(&hub, &membus.Options{Name: "em"}), &emitter.Options{Settle: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer em.Close()
		ask := func(o remote.DrainOrder) map[string]remote.DrainReport {
			t.Helper()
			got := make(map[string]remote.DrainReport)
			for args, err := range em.ServerSide().AskAll(t.Context(), remote.Drain, o) {
				var r remote.DrainReport
				if err == nil {
					err = args.Decode(0, &r)
				}
				if err != nil {
					t.Fatalf("%+v: %v", o, err)
				}
				got[r.Name] = r
			}
			return got
		}
		idA, idB := a.Cluster.ID(), b.Cluster.ID()
		got := ask(remote.DrainOrder{Do: remote.Begin, Node: idA, Lead: -1, Rate: 10})
		if r := got["a"]; r.State != "announced" || r.Left != 100 || r.ID != idA || r.Error != "" {
			t.Errorf("got %+v, want announced, 100 left", r)
		}
		if r := got["b"]; r.State != "serving" || r.ID != idB || r.Error != "" {
			t.Errorf("got %+v, want serving", r)
		}
		time.Sleep(5 * time.Second)
		if r := ask(remote.DrainOrder{})["a"]; r.State != "draining" || r.Left < 30 || r.Left > 70 {
			t.Errorf("got %+v, want draining, some 50 left", r)
		}
		if r := ask(remote.DrainOrder{Do: remote.Begin, Node: idB})["b"]; r.State != "serving" || r.Error == "" {
			t.Errorf("got %+v, want serving, and why", r)
		}
		ask(remote.DrainOrder{Do: remote.Begin, Node: idA, Window: -1})
		time.Sleep(time.Second)
		if r := ask(remote.DrainOrder{})["a"]; r.State != "drained" || r.Left != 0 || r.Asked != 100 {
			t.Errorf("got %+v, want drained", r)
		}
		ask(remote.DrainOrder{Do: remote.Undo, Node: idA})
		synctest.Wait()
		if r := ask(remote.DrainOrder{})["a"]; r.State != "serving" {
			t.Errorf("got %+v, want serving", r)
		}
		if r := ask(remote.DrainOrder{Do: "dance", Node: idA})["a"]; r.Error == "" {
			t.Errorf("got %+v, want an error", r)
		}
	})
}

// TestDrainRate has a rate be nearly nothing, or no number at all.
func TestDrainRate(t *testing.T) {
	for _, c := range []struct {
		rate   float64
		window time.Duration
		left   int // of 20, after half a minute
	}{
		{1e-300, 0, 20}, {math.SmallestNonzeroFloat64, time.Minute, 20}, {1e-300, math.MaxInt64, 20},
		{math.NaN(), 0, 0}, {math.Inf(1), 0, 0}, {math.Inf(-1), 0, 0}, {1e300, 0, 0}, {1, 0, 0}, {0, math.MaxInt64, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := quietly(nil)
			s := atolltest.Serve(t, srv)
			leavers(t, s, 20, client.WebSocket)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			over := make(chan error, 1)
			go func() { over <- srv.Drain(ctx, &atoll.DrainOptions{Lead: -1, Window: c.window, Rate: c.rate}) }()
			time.Sleep(35 * time.Second)
			if got := srv.Stats().Drain.Left; got > c.left || got < c.left-1 {
				t.Errorf("rate %v, window %v: got %d sessions left, want %d", c.rate, c.window, got, c.left)
			}
			cancel()
			if err := <-over; (err == nil) != (c.left == 0) {
				t.Errorf("rate %v, window %v: got error %v", c.rate, c.window, err)
			}
		})
	}
}
