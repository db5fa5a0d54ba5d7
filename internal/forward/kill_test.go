package forward

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// kill does to b what the end of its process does: its port, its connections and its subscriptions are gone, without a word.
func (x *world) kill(b *site) {
	x.listeners[b.name].Close()
	b.bus.SetDown(true)
	for _, y := range b.view.Load().peers {
		y.mu.Lock()
		in := y.inLink
		y.mu.Unlock()
		if in != nil {
			in.out.(wire).Conn.Close()
		}
	}
}

func wantWithin(t *testing.T, within time.Duration, a *site, status int, body string) {
	t.Helper()
	began := time.Now()
	wantAnswer(t, a, status, body)
	if took := time.Since(began); took > within {
		t.Errorf("got the answer after %v, want it within %v", took, within)
	}
}

// TestKilled has nodes die without a word, and nodes that live be hard to reach.
func TestKilled(t *testing.T) {
	simulate(t, "one with a link", func(t *testing.T, x *world) {
		a, b := x.node(t, "a", answers), x.node(t, "b", waits(nil))
		know(t, a, b)
		linkUp(t, a)
		done := make(chan struct{})
		go func() {
			defer close(done)
			wantWithin(t, time.Second, a, 400, "gone")
		}()
		time.Sleep(time.Second)
		x.kill(b)
		synctest.Wait()
		wantWithin(t, greetDead, a, 400, "gone")
		for range 20 { // and then at once
			wantWithin(t, 0, a, 400, "gone")
			time.Sleep(100 * time.Millisecond)
		}
		<-done
	})
	simulate(t, "one that was never met", func(t *testing.T, x *world) {
		a, b := x.node(t, "a", answers), x.node(t, "b", answers)
		know(t, a, b)
		x.kill(b)
		wantWithin(t, greetWithin, a, 400, "gone")
	})
	simulate(t, "one that has lost its port lives", func(t *testing.T, x *world) {
		a, b := x.node(t, "a", answers), x.node(t, "b", answers)
		know(t, a, b)
		linkUp(t, a)
		x.listeners["b"].Close()
		x.hub.SetFault(func(_, _, _ string) membus.Fault { return membus.Fault{Delay: 200 * time.Millisecond} })
		a.view.Load().peers["b"].link.out.close(nil)
		synctest.Wait()
		wantAnswer(t, a, 200, "here")
	})
	simulate(t, "one lives while the medium is away for a moment", func(t *testing.T, x *world) {
		a, b := x.node(t, "a", answers), x.node(t, "b", answers)
		know(t, a, b)
		a.bus.SetDown(true)
		time.AfterFunc(300*time.Millisecond, func() { a.bus.SetDown(false) })
		wantAnswer(t, a, 200, "here")
	})
	simulate(t, "one leaves while it is dialled", func(t *testing.T, x *world) {
		dial := func(o *Options) {
			dial := o.Dial
			o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				x.hub.SetFault(func(from, to, _ string) membus.Fault { return membus.Fault{Drop: from == "b" && to == "a"} })
				time.Sleep(4500 * time.Millisecond)
				return dial(ctx, network, address)
			}
		}
		a, b := x.node(t, "a", answers, dial), x.node(t, "b", answers)
		know(t, a, b)
		ask(t.Context(), a, "b")
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if _, ok := a.view.Load().peers["b"]; ok {
			t.Error("got a member, want one that left")
		}
		if got := b.Stats().Links; got != 0 {
			t.Errorf("got %d links, want none that nobody looks after", got)
		}
	})
	simulate(t, "one leaves while a redial hangs", func(t *testing.T, x *world) {
		var hang atomic.Bool
		dial := func(o *Options) {
			dial := o.Dial
			o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if hang.Load() {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return dial(ctx, network, address)
			}
		}
		a, b := x.node(t, "a", answers, dial), x.node(t, "b", answers)
		know(t, a, b)
		linkUp(t, a)
		hang.Store(true)
		a.view.Load().peers["b"].link.out.close(nil)
		synctest.Wait()
		time.AfterFunc(100*time.Millisecond, func() { b.node.Close() })
		wantWithin(t, 200*time.Millisecond, a, 400, "gone")
	})
}

// A countedBus says how many listen for every node.
type countedBus struct {
	cluster.Bus
	count func() int
}

func (b countedBus) Count(context.Context, string) (int, error) { return b.count(), nil }

// TestDeaf has the bus say that nobody listens for a node.
func TestDeaf(t *testing.T) {
	for name, c := range map[string]struct {
		counts func(n int32) int
		status int
	}{
		"it is dead":                     {func(int32) int { return 0 }, 400},
		"its subscription is on its way": {func(n int32) int { return int(min(n, 2)) - 1 }, 200},
	} {
		simulate(t, name, func(t *testing.T, x *world) {
			b := x.node(t, "b", answers, func(o *Options) { o.Advertise = "-" })
			bus := membus.New(&x.hub, &membus.Options{Name: "a"})
			defer bus.Close()
			var n atomic.Int32
			quiet := slog.New(slog.DiscardHandler)
			node, err := cluster.Join(t.Context(), countedBus{bus, func() int { return c.counts(n.Add(1)) }},
				&cluster.Options{ID: "a", Logger: quiet, Settle: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer node.Close()
			p, err := New(&Options{Node: node, Serve: answers, Gone: gone, Logger: quiet})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			a := &site{Peers: p, name: "a"}
			know(t, a, b)
			b.node.Direct(nil)
			time.AfterFunc(600*time.Millisecond, func() {
				if c.status == 200 {
					b.node.Direct(b.mail.put)
				}
			})
			began := time.Now()
			if status, _ := ask(t.Context(), a, "b"); status != c.status {
				t.Errorf("got status %d, want %d", status, c.status)
			}
			if took := time.Since(began); c.status == 400 && took > 2*greetAgain {
				t.Errorf("got the end after %v, want it when two counts have said so", took)
			}
		})
	}
}

// TestHugeHead has heads that do not fit into a frame: they harm nobody else.
func TestHugeHead(t *testing.T) {
	for _, way := range both {
		simulate(t, way, func(t *testing.T, x *world) {
			change := func(o *Options) {
				if way == "carrier" {
					o.Advertise = "-"
				}
			}
			big := string(bytes.Repeat([]byte("x"), 2<<20))
			a, b := x.node(t, "a", answers, change), x.node(t, "b", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Huge") != "" {
					w.Header().Set("X-Huge", big)
				}
				w.Write([]byte("here"))
			}), change)
			know(t, a, b)
			if way == "link" {
				linkUp(t, a)
			}
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("X-Big", big)
			w := httptest.NewRecorder()
			a.Forward(w, r, "b")
			if w.Code != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("a huge request: got status %d, want 431", w.Code)
			}
			func() {
				defer func() {
					if v := recover(); v != http.ErrAbortHandler {
						t.Errorf("a huge answer: got panic %v, want one that breaks the answer off", v)
					}
				}()
				r := httptest.NewRequest("GET", "/", nil)
				r.Header.Set("X-Huge", "1")
				a.Forward(httptest.NewRecorder(), r, "b")
			}()
			wantAnswer(t, a, 200, "here")
			if s, u := a.Stats(), b.Stats(); s.Breaks+u.Breaks != 0 || s.Waiting+u.Serving != 0 {
				t.Errorf("got %+v and %+v, want nothing that broke or stayed", s, u)
			}
		})
	}
}

// TestBodyNobodyWants has an answer be complete while there is more of the request's body than may be unread.
func TestBodyNobodyWants(t *testing.T) {
	simulate(t, "", func(t *testing.T, x *world) {
		a, b := x.node(t, "a", answers), x.node(t, "b", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).Flush()
			io.WriteString(w, "no")
		}))
		know(t, a, b)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/", bytes.NewReader(make([]byte, 3*window))).WithContext(ctx)
		a.Forward(w, r, "b")
		if ctx.Err() != nil || w.Body.String() != "no" {
			t.Errorf("got %q and error %v, want the answer", w.Body, ctx.Err())
		}
	})
}

// TestClientThatReadsNothing has a client hold up what the other node said before it ended the connection.
func TestClientThatReadsNothing(t *testing.T) {
	simulate(t, "", func(t *testing.T, x *world) {
		a, b := x.node(t, "a", answers), x.node(t, "b", upgrading(t, func(c net.Conn) {
			c.Write(make([]byte, 100<<10))
			time.Sleep(time.Second)
			c.Close()
		}))
		know(t, a, b)
		c, err := x.listeners["a"].Dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET /at/b/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		time.Sleep(lastWords / 2)
		if got := a.Stats().Passing; got != 1 {
			t.Errorf("got %d connections, want 1 that may read yet", got)
		}
		time.Sleep(lastWords)
		synctest.Wait()
		if got := a.Stats().Passing; got != 0 {
			t.Errorf("got %d connections, want none", got)
		}
	})
}
