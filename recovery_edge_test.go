package atoll_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/recovery"
)

// A store is a recovery.Memory that is slow, or away.
type store struct {
	recovery.Sessions
	slow func(what string) // called before each call, where set
	down func() bool
}

func (s *store) before(ctx context.Context, what string) error {
	if s.slow != nil {
		s.slow(what)
	}
	if s.down != nil && s.down() {
		return errDead
	}
	return ctx.Err()
}

func (s *store) Create(ctx context.Context, x *recovery.Session, ttl time.Duration) error {
	if err := s.before(ctx, "create"); err != nil {
		return err
	}
	return s.Sessions.Create(ctx, x, ttl)
}

func (s *store) Update(ctx context.Context, xs []*recovery.Session, ttl time.Duration) ([]*recovery.Session, error) {
	if err := s.before(ctx, "update"); err != nil {
		return nil, err
	}
	return s.Sessions.Update(ctx, xs, ttl)
}

func (s *store) Take(ctx context.Context, pid string) (*recovery.Session, error) {
	if err := s.before(ctx, "take"); err != nil {
		return nil, err
	}
	return s.Sessions.Take(ctx, pid)
}

func (s *store) Drop(ctx context.Context, x *recovery.Session) error {
	if err := s.before(ctx, "drop"); err != nil {
		return err
	}
	return s.Sessions.Drop(ctx, x)
}

// A client in two namespaces over one connection, which comes back to both before the server knows that it was gone.
func TestRecoveryOfTwoNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var takes atomic.Int64
		s := &store{Sessions: recovery.NewMemory(nil), slow: func(what string) {
			if what == "take" && takes.Add(1)%2 == 0 {
				time.Sleep(time.Second) // the second comes when the first has closed the connection of both
			}
		}}
		srv, _ := alone(t, &recovery.Options{Sessions: s})
		c := call(t, srv, "/", map[string]any{})
		other := c.Of("/other", map[string]any{})
		t.Cleanup(func() { _ = other.Close() })
		back := make(chan bool, 10)
		other.OnConnect(func(context.Context) error {
			back <- other.Recovered()
			return nil
		})
		var seen []string
		other.OnAny(func(_ context.Context, e *client.Event) error {
			var text string
			_ = e.Args.Decode(0, &text)
			seen = append(seen, text)
			return nil
		})
		if err := other.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-back
		for i := range 5 {
			c.line.vanish()
			emitAll(t, srv.Of("/other"), fmt.Sprint(i))
			c.wait(t, true)
			if !<-back {
				t.Fatalf("round %d: /other was connected anew, want it recovered", i)
			}
		}
		synctest.Wait()
		if got, want := fmt.Sprint(seen), "[0 1 2 3 4]"; got != want {
			t.Errorf("got %s in /other, want %s", got, want)
		}
	})
}

// A client whose new connection is cut while its session is taken, and stored again.
func TestRecoveryCutWhileTaken(t *testing.T) {
	for _, when := range []string{"take", "create"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c *caller
				var armed atomic.Bool
				s := &store{Sessions: recovery.NewMemory(nil), slow: func(what string) {
					if what == when && armed.CompareAndSwap(true, false) {
						c.line.cut()
						time.Sleep(time.Second)
					}
				}}
				srv, _ := alone(t, &recovery.Options{Sessions: s})
				c = call(t, srv, "/", map[string]any{})
				armed.Store(true)
				c.line.cut()
				synctest.Wait()
				emitAll(t, srv.Of("/"), "1")
				c.line.up(nil)
				time.Sleep(10 * time.Second)
				c.line.up(nil)
				c.wait(t, true)
				c.want(t, "e:1")
			})
		})
	}
}

// A client comes back, is cut without a word while it is with a slow middleware, and comes back once more, to this
// node or to another. The first who came back is admitted last.
func TestRecoveryOvertakenInMiddleware(t *testing.T) {
	for _, nodes := range []int{1, 2} {
		t.Run(fmt.Sprint(nodes, " nodes"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nodes)
				c := call(t, w.nodes[0].Server, "/", map[string]any{"rooms": []string{"red"}})
				id := c.ID()
				first := true
				w.lobby.mu.Lock()
				w.lobby.slow = func() {
					w.lobby.mu.Lock()
					slow := first
					first = false
					w.lobby.mu.Unlock()
					if slow {
						c.line.up(w.nodes[nodes-1].Server)
						c.line.vanish()
						time.Sleep(3 * time.Second)
					}
				}
				w.lobby.mu.Unlock()
				c.line.vanish()
				c.wait(t, true)
				time.Sleep(5 * time.Second)
				emitAll(t, w.nodes[0].Of("/").To("red"), "1")
				emitAll(t, w.nodes[0].Of("/").To(id), "2")
				c.want(t, "e:1", "e:2")
				if n, err := w.nodes[0].Of("/").Count(t.Context()); n != 1 || err != nil {
					t.Errorf("got %d sockets and error %v, want 1", n, err)
				}
			})
		})
	}
}

// What is sent while a middleware takes its time is not for the new client, also when it is cut before it has
// got anything else.
func TestRecoveryStartsWhereTheClientDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, l := alone(t, &recovery.Options{})
		early := true
		l.slow = func() {
			if early { // in the middleware
				early = false
				emitAll(t, srv.Of("/"), "early")
			}
		}
		c := call(t, srv, "/", map[string]any{})
		c.line.vanish()
		emitAll(t, srv.Of("/"), "1")
		c.wait(t, true)
		c.want(t, "e:1")
	})
}

// While the store is away, a socket that has ended is remembered as long as its session would have lived.
func TestRecoveryStoreAwayForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away, counting atomic.Bool
		var written atomic.Int64
		s := &store{Sessions: recovery.NewMemory(nil), down: away.Load}
		s.slow = func(string) {
			if counting.Load() {
				written.Add(1)
			}
		}
		srv, _ := alone(t, &recovery.Options{Sessions: s})
		var gone []*caller
		for range 4 {
			gone = append(gone, call(t, srv, "/", map[string]any{}))
		}
		away.Store(true)
		for i, c := range gone {
			if i%2 == 0 {
				c.line.cut()
			}
			_ = c.Close()
		}
		time.Sleep(10 * time.Minute)
		away.Store(false)
		counting.Store(true)
		time.Sleep(time.Minute)
		if n := written.Load(); n != 0 {
			t.Errorf("got %d calls of the store for sockets that ended long ago, want none", n)
		}
	})
}

// A hook that emits does not wait for itself either where it is told of what another node sends without a place in
// the log, or asks.
func TestRecoveryHookThatEmitsForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		store := recovery.NewMemory(nil)
		node := func(name string) *atolltest.Node {
			o := &atolltest.NodeOptions{Log: true, Server: atoll.Options{Recovery: &recovery.Options{Sessions: store}}}
			o.Setup = func(srv *atoll.Server) {
				srv.Of("/").OnAnyOutgoing(func(s *atoll.Socket, name string) {
					if name != "echo" {
						if err := s.Emit(context.Background(), "echo", name); err != nil {
							t.Error(err)
						}
					}
				})
			}
			return atolltest.Start(t, &hub, name, o)
		}
		here, there := node("here"), node("there")
		c := call(t, here.Server, "/", map[string]any{})
		synctest.Wait() // what is volatile does not wait for what is being written
		start := time.Now()
		if err := there.Of("/").Volatile().Emit(t.Context(), "volatile", 1); err != nil {
			t.Error(err)
		}
		asking, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for range there.Of("/").AskAll(asking, "asked", 2) { // nobody answers
		}
		if err := here.Of("/").Emit(t.Context(), "last", 3); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("it took %v, want the 10 s of the question", d)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := len(c.seen); n != 6 {
			t.Errorf("got %q, want three events and their echoes", c.seen)
		}
	})
}

// A dynamic namespace is kept for those who may come back, where this node alone keeps what they miss.
func TestRecoveryInDynamicNamespace(t *testing.T) {
	for _, log := range []bool{false, true} {
		t.Run(fmt.Sprint("log ", log), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub membus.Hub
				store := recovery.NewMemory(nil)
				node := func(name string) *atolltest.Node {
					o := &atolltest.NodeOptions{Log: log, Server: atoll.Options{Recovery: &recovery.Options{}}}
					if log {
						o.Server.Recovery.Sessions = store
					}
					o.Setup = func(srv *atoll.Server) { srv.OfPattern(regexp.MustCompile("^/dynamic-")) }
					return atolltest.Start(t, &hub, name, o)
				}
				here, there := node("here"), node("there")
				c := call(t, here.Server, "/dynamic-1", map[string]any{})
				for range 3 {
					c.line.cut()
					time.Sleep(time.Minute)
					emitAll(t, there.Of("/dynamic-1"), "1")
					c.line.up(nil)
					c.wait(t, true)
					c.want(t, "e:1")
				}
			})
		})
	}
}

// A recovered session that the store does not take again: the client is recovered this time, and has no session then.
func TestRecoveryOnceMoreOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full, creating atomic.Bool
		s := &store{Sessions: recovery.NewMemory(nil), down: func() bool { return full.Load() && creating.Load() }}
		s.slow = func(what string) { creating.Store(what == "create") }
		srv, l := alone(t, &recovery.Options{Sessions: s})
		c := call(t, srv, "/", map[string]any{})
		id := c.ID()
		c.line.cut()
		synctest.Wait()
		emitAll(t, srv.Of("/"), "1")
		full.Store(true)
		c.line.up(nil)
		c.wait(t, true)
		c.want(t, "e:1")
		if c.ID() != id || !l.last().Recovered() {
			t.Errorf("got id %s and recovered %v on the server, want %s and true", c.ID(), l.last().Recovered(), id)
		}
		full.Store(false)
		c.line.cut()
		synctest.Wait()
		emitAll(t, srv.Of("/"), "2")
		c.line.up(nil)
		c.wait(t, false)
		c.want(t)
	})
}

// What other namespaces are sent does not push a quiet one out of the log.
func TestRecoveryBesideABusyNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := alone(t, &recovery.Options{Memory: recovery.MemoryOptions{MaxBytes: 1 << 20}})
		c := call(t, srv, "/", map[string]any{})
		for range 2 {
			emitAll(t, srv.Of("/"), "first")
			c.want(t, "e:first")
			for range 20 {
				emitAll(t, srv.Of("/other"), strings.Repeat("x", 100<<10))
			}
			c.line.cut()
			synctest.Wait()
			emitAll(t, srv.Of("/"), "missed")
			c.line.up(nil)
			c.wait(t, true)
			c.want(t, "e:missed")
		}
	})
}

// A watchedLog counts how often it was asked where it ends.
type watchedLog struct {
	*membus.LogBus
	asked atomic.Int64
}

func (l *watchedLog) End(ctx context.Context, topic string) (string, error) {
	l.asked.Add(1)
	return l.LogBus.End(ctx, topic)
}

// While a namespace is quiet, the server looks once in Refresh how far the log has gone on without it.
func TestRecoveryLooksAfterQuietNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		bus := &watchedLog{LogBus: membus.NewLog(&hub, nil)}
		o := &cluster.Options{Heartbeat: time.Hour, Logger: quiet()} // here they would be in the log
		node, err := cluster.Join(t.Context(), bus, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = node.Close()
			_ = bus.Close()
		})
		ro := &recovery.Options{Sessions: recovery.NewMemory(nil), Refresh: time.Minute}
		srv := atolltest.Serve(t, atoll.NewServer(&atoll.Options{Cluster: node, Recovery: ro, Logger: quiet()}))
		for range 3 {
			call(t, srv, "/", map[string]any{})
		}
		before := bus.asked.Load()
		time.Sleep(10*time.Minute + time.Second)
		if n := bus.asked.Load() - before; n < 8 || n > 10 {
			t.Errorf("got %d looks at the end of the log in 10 minutes, want about 9", n)
		}
	})
}
