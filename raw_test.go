package atoll_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
)

// A rawClient polls without knowing the protocol: what it sends is the test's.
type rawClient struct {
	t   testing.TB
	h   http.Handler
	url string
}

func rawDial(t testing.TB, h http.Handler) *rawClient {
	c := &rawClient{t, h, "http://atoll.test/socket.io/?EIO=4&transport=polling"}
	body := c.poll()
	_, id, _ := strings.Cut(body, `"sid":"`)
	id, _, _ = strings.Cut(id, `"`)
	c.url += "&sid=" + id
	return c
}

func (c *rawClient) do(method, body string) string {
	c.t.Helper()
	var b io.Reader
	if body != "" {
		b = strings.NewReader(body)
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, httptest.NewRequest(method, c.url, b))
	return w.Body.String()
}

func (c *rawClient) poll() string { return c.do("GET", "") }

// send sends messages, all in one batch.
func (c *rawClient) send(messages ...string) string {
	return c.do("POST", "4"+strings.Join(messages, "\x1e4"))
}

// What a client sends before it knows that it was refused reaches no handler.
func TestEventsOfTheRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, where := range []string{"middleware", "OnConnect", "panic"} {
			var r record
			srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
			defer srv.Close()
			ns := srv.Of("/")
			no := func(context.Context, *atoll.Socket) error {
				if where == "panic" {
					panic("no")
				}
				return &atoll.ConnectError{Message: "no"}
			}
			if where == "middleware" {
				ns.Use(no)
			} else {
				ns.OnConnect(no)
			}
			ns.OnAny(func(_ context.Context, _ *atoll.Socket, e *atoll.Event) error { r.add("any %s", e.Name); return nil })
			ns.Handle("delete", func(context.Context, *atoll.Socket, *atoll.Event) error { r.add("deleted"); return nil })
			c := rawDial(t, srv)
			c.send("0", `2["delete"]`, `2["other"]`)
			synctest.Wait()
			r.want(t)
			srv.Close()
		}
	})
}

// A client that is disconnected while it connects hears of it at once.
func TestDisconnectWhileConnecting(t *testing.T) {
	for _, test := range []struct {
		name, want string
		use, conn  func(ctx context.Context, s *atoll.Socket) error
	}{
		{name: "OnConnect", want: "CONNECT\x1e42[\"bye\"]\x1e41", conn: func(ctx context.Context, s *atoll.Socket) error {
			_ = s.Emit(ctx, "bye")
			s.Disconnect(false)
			return nil
		}},
		{name: "OnConnect with an error", want: "CONNECT\x1e41", conn: func(ctx context.Context, s *atoll.Socket) error {
			s.Disconnect(false)
			return &atoll.ConnectError{Message: "no"}
		}},
		{name: "middleware", want: `44{"message":"connection refused"}`, use: func(ctx context.Context, s *atoll.Socket) error {
			s.Disconnect(false)
			return nil
		}},
		{name: "middleware with an error", want: `44{"message":"connection refused"}`, use: func(ctx context.Context, s *atoll.Socket) error {
			s.Disconnect(false)
			return &atoll.ConnectError{Message: "no"}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
				defer srv.Close()
				if test.use != nil {
					srv.Of("/").Use(test.use)
				}
				if test.conn != nil {
					srv.Of("/").OnConnect(test.conn)
				}
				c := rawDial(t, srv)
				c.send("0")
				got := c.poll()
				if i := strings.Index(got, "}\x1e"); strings.HasPrefix(got, `40{"sid"`) && i > 0 {
					got = "CONNECT" + got[i+1:]
				}
				if got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
}

// A handler that takes its time keeps no other namespace of its session waiting.
func TestSlowNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
		defer srv.Close()
		for _, name := range []string{"/", "/a", "/b"} {
			srv.Of(name).Handle("slow", func(ctx context.Context, s *atoll.Socket, _ *atoll.Event) error {
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Second):
				}
				return nil
			})
			srv.Of(name).Handle("fast", func(_ context.Context, s *atoll.Socket, _ *atoll.Event) error {
				r.add("fast in %s", name)
				return nil
			})
		}
		c := rawDial(t, srv)
		c.send("0", "0/a,", "0/b,")
		go c.send(`2/b,["fast"]`, `2["slow"]`, `2/a,["slow"]`)
		time.Sleep(time.Second)
		synctest.Wait()
		r.want(t, "fast in /b")
	})
}

// Close waits for a handler that does not heed its context.
func TestCloseWaitsForHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
		done := false
		srv.Of("/").Handle("slow", func(context.Context, *atoll.Socket, *atoll.Event) error {
			time.Sleep(5 * time.Second)
			done = true
			return nil
		})
		c := rawDial(t, srv)
		c.send("0")
		go c.send(`2["slow"]`)
		synctest.Wait()
		srv.Close()
		if !done {
			t.Error("Close returned while a handler ran")
		}
		time.Sleep(10 * time.Second)
	})
}

// A function of OfFunc that panics refuses its client, and costs nobody else anything.
func TestOfFuncPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
		defer srv.Close()
		srv.OfFunc(func(context.Context, string, event.Args) bool { panic(errors.New("no")) })
		c := rawDial(t, srv)
		c.send("0/x,")
		if got, want := c.poll(), `44/x,{"message":"Invalid namespace"}`; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := srv.Stats().Panics; got != 1 {
			t.Errorf("got %d panics, want 1", got)
		}
	})
}

// Shutdown waits for a handler that runs on a POST, and for OnDisconnect behind it.
func TestShutdownWaitsForPosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
		srv.Of("/").OnDisconnect(func(*atoll.Socket, *atoll.DisconnectError) { r.add("left") })
		srv.Of("/").Handle("slow", func(context.Context, *atoll.Socket, *atoll.Event) error {
			time.Sleep(time.Minute)
			r.add("done")
			return nil
		})
		c := rawDial(t, srv)
		c.send("0")
		go c.send(`2["slow"]`)
		synctest.Wait()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		r.want(t, "done", "left")
		time.Sleep(2 * time.Minute)
	})
}

// What is sent to a client while it connects is bounded, as it is afterwards.
func TestQueueWhileConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := atoll.NewServer(&atoll.Options{Logger: quiet(), Engine: engine.Options{MaxQueue: 10_000}})
		defer srv.Close()
		var cause error
		srv.Of("/").OnConnect(func(ctx context.Context, s *atoll.Socket) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil
		})
		c := rawDial(t, srv)
		go c.send("0")
		synctest.Wait()
		for range 100 {
			_ = srv.Of("/").Emit(t.Context(), "news", strings.Repeat("x", 1000))
		}
		synctest.Wait()
		if _, ok := errors.AsType[*atoll.LimitError](cause); !ok {
			t.Errorf("got %v, want a *LimitError", cause)
		}
	})
}

// A failingBus takes no subscriptions while it is broken, and counts those that there are. It
// has a topic for each namespace.
type failingBus struct {
	cluster.Bus
	broken atomic.Bool
	subs   atomic.Int64
}

func (b *failingBus) Dialect() cluster.Dialect { return topics{cluster.Native("")} }

type topics struct{ cluster.Dialect }

func (d topics) Topics(node, namespace string) []string {
	if namespace != "" {
		return []string{"nsp" + namespace}
	}
	return d.Dialect.Topics(node, namespace)
}

type countedSub struct {
	cluster.Subscription
	n *atomic.Int64
}

func (s countedSub) Close() error {
	time.Sleep(time.Second)
	s.n.Add(-1)
	return s.Subscription.Close()
}

func (b *failingBus) Subscribe(ctx context.Context, topic string, f func(string, []byte)) (cluster.Subscription, error) {
	if b.broken.Load() {
		return nil, errors.New("away")
	}
	s, err := b.Bus.Subscribe(ctx, topic, f)
	if err == nil {
		b.subs.Add(1)
		s = countedSub{s, &b.subs}
	}
	return s, err
}

// A namespace that has gone while the bus was away is not opened afterwards.
func TestNamespaceGoneWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		mem := membus.New(&hub, nil)
		defer mem.Close()
		bus := &failingBus{Bus: mem}
		node, err := cluster.Join(t.Context(), bus, &cluster.Options{Name: "a", Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close()
		srv := atoll.NewServer(&atoll.Options{Logger: quiet(), Cluster: node})
		defer srv.Close()
		srv.OfPattern(regexp.MustCompile("^/room-"))
		before := bus.subs.Load()
		bus.broken.Store(true)
		c := rawDial(t, srv)
		c.send("0/room-1,", "0/room-2,")
		c.send("1/room-1,", "1/room-2,")
		bus.broken.Store(false)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := bus.subs.Load() - before; got != 0 {
			t.Errorf("got %d subscriptions of namespaces that nobody is in", got)
		}
		for range 5 { // each closes while the next comes
			c.send("0/room-1,")
			c.send("1/room-1,")
		}
		c.send("0/room-1,")
		time.Sleep(20 * time.Second)
		if got := bus.subs.Load() - before; got != 1 {
			t.Errorf("got %d subscriptions of a namespace that came back, want 1", got)
		}
	})
}
