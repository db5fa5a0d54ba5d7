package atoll_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/recovery"
)

func TestRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, l := alone(t, &recovery.Options{})
		c := call(t, srv, "/", map[string]any{"rooms": []string{"red", "blue"}, "name": "ann"})
		id, ns := c.ID(), srv.Of("/")
		emitAll(t, ns, "1")
		c.want(t, "e:1")
		old := l.last()
		c.line.cut()
		synctest.Wait()
		emitAll(t, ns.To("red"), "2")
		emitAll(t, ns.To("green"), "not for it")
		emitAll(t, ns.Except("blue"), "nor this")
		emitAll(t, ns.Local(), "nor what is not kept")
		emitAll(t, ns.Volatile(), "nor this")
		emitAll(t, srv.Of("/other"), "nor that of another namespace")
		emitAll(t, ns.To("red", "blue"), "3")
		emitAll(t, old, "4")
		if err := ns.Emit(t.Context(), "e", "5", []byte("binary")); err != nil {
			t.Error(err)
		}
		c.line.up(nil)
		c.wait(t, true)
		emitAll(t, ns.To("blue"), "6")
		c.want(t, "e:2", "e:3", "e:4", "e:5", "e:6")
		s := l.last()
		if c.ID() != id || s.ID() != id || !s.Recovered() || s == old {
			t.Errorf("got id %s on the client and %s on the server, recovered %v, want %s and true", c.ID(), s.ID(), s.Recovered(), id)
		}
		if got, want := fmt.Sprint(s.Rooms(), s.Data()), fmt.Sprint([]string{id, "red", "blue"}, map[string]any{"name": "ann"}); got != want {
			t.Errorf("got rooms and data %s, want %s", got, want)
		}
		if l.asked != 2 || len(l.causes) != 1 {
			t.Errorf("got %d calls of the middleware and %d of OnDisconnect, want 2 and 1", l.asked, len(l.causes))
		}
		if got, want := srv.Stats().Recovery, (atoll.RecoveryStats{Recovered: 1, Replayed: 4}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// A client that was cut before it got anything, five times in a row, and one that comes back before
// the server knows that it was gone.
func TestRecoveryAgain(t *testing.T) {
	for name, end := range map[string]func(*line){"cut": (*line).cut, "vanished": (*line).vanish} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, l := alone(t, &recovery.Options{})
				c := call(t, srv, "/", map[string]any{"rooms": []string{"red"}})
				id := c.ID()
				for i := range 5 { // zero events, then some each time
					for j := range i {
						emitAll(t, srv.Of("/").To("red"), fmt.Sprint(i, j))
					}
					end(c.line)
					emitAll(t, srv.Of("/").To("red"), "away")
					c.line.up(nil)
					c.wait(t, true)
					synctest.Wait()
					if c.ID() != id {
						t.Fatalf("round %d: got id %s, want %s", i, c.ID(), id)
					}
					if n := srv.Of("/").Sockets(); n != 1 {
						t.Errorf("round %d: got %d sockets, want 1", i, n)
					}
					emitAll(t, srv.Of("/").To(id), "back")
					var want []string
					for j := range i {
						want = append(want, "e:"+fmt.Sprint(i, j))
					}
					c.want(t, append(want, "e:away", "e:back")...)
				}
				if name == "vanished" {
					_, ok := errors.AsType[*atoll.TakeoverError](l.causes[0])
					if !ok {
						t.Errorf("got cause %v, want a *TakeoverError", l.causes[0])
					}
				}
			})
		})
	}
}

// An hour in which the client gets nothing, while the log forgets much of what goes to others.
func TestRecoveryIdle(t *testing.T) {
	for _, events := range []int{0, 1} {
		t.Run(fmt.Sprint(events, " events before"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, _ := alone(t, &recovery.Options{Memory: recovery.MemoryOptions{MaxBytes: 1 << 20}})
				c := call(t, srv, "/", map[string]any{"rooms": []string{"red"}})
				for range events {
					emitAll(t, srv.Of("/").To("red"), "first")
				}
				for range 60 {
					time.Sleep(time.Minute)
					emitAll(t, srv.Of("/").To("green"), strings.Repeat("x", 100<<10))
				}
				synctest.Wait()
				c.mu.Lock()
				c.seen = nil
				c.mu.Unlock()
				c.line.cut()
				time.Sleep(time.Minute)
				emitAll(t, srv.Of("/"), "last")
				c.line.up(nil)
				c.wait(t, true)
				c.want(t, "e:last")
			})
		})
	}
}

// Those who are not recovered: they come too late, they left, they were sent away, they ask for what is
// another namespace's, the log does not reach back.
func TestNotRecovered(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, srv *atolltest.Server, l *lobby, c *caller){
		"too late": func(_ *testing.T, _ *atolltest.Server, _ *lobby, c *caller) {
			c.line.cut()
			time.Sleep(2*time.Minute + time.Second)
			c.line.up(nil)
		},
		"left": func(t *testing.T, _ *atolltest.Server, _ *lobby, c *caller) {
			c.Disconnect()
			synctest.Wait()
			if err := c.Connect(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"sent away": func(t *testing.T, _ *atolltest.Server, l *lobby, c *caller) {
			l.last().Disconnect(false)
			synctest.Wait()
			if err := c.Connect(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"trimmed": func(t *testing.T, srv *atolltest.Server, _ *lobby, c *caller) {
			c.line.cut()
			synctest.Wait()
			for range 20 {
				emitAll(t, srv.Of("/"), strings.Repeat("x", 100<<10))
			}
			c.line.up(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, l := alone(t, &recovery.Options{Memory: recovery.MemoryOptions{MaxBytes: 1 << 20}})
				c := call(t, srv, "/", map[string]any{"rooms": []string{"red"}})
				id := c.ID()
				leave(t, srv, l, c)
				c.wait(t, false)
				emitAll(t, srv.Of("/").To("red"), "new")
				c.want(t, "e:new")
				if c.ID() == id {
					t.Error("got the old id, want a new one")
				}
				stats := srv.Stats().Recovery
				if stats.Recovered != 0 || stats.Refused != 1 || (stats.Trimmed == 1) != (name == "trimmed") {
					t.Errorf("got %+v, want one refused", stats)
				}
				c.line.cut() // and the new session can be recovered, with the old offset too
				synctest.Wait()
				c.line.up(nil)
				c.wait(t, true)
				c.want(t)
			})
		})
	}
}

// What has no offset does not look as if it had: the official client takes any string at the end of an event for one.
func TestRecoveryAfterEventsWithoutOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, l := alone(t, &recovery.Options{})
		c := call(t, srv, "/", map[string]any{"rooms": []string{"red"}})
		ns := srv.Of("/")
		for name, target := range map[string]func() event.Emitter{
			"local":           func() event.Emitter { return ns.Local() },
			"volatile":        func() event.Emitter { return ns.Volatile() },
			"volatile socket": func() event.Emitter { return l.last().Volatile() },
		} {
			for _, args := range [][]any{nil, {"text"}, {1, "text"}, {`quoted "`}, {1}} {
				emitAll(t, ns, "kept")
				synctest.Wait()
				if err := target().Emit(t.Context(), "e", args...); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				c.line.cut()
				synctest.Wait()
				emitAll(t, ns, "missed")
				c.line.up(nil)
				c.wait(t, true)
				synctest.Wait()
				c.mu.Lock()
				if n := len(c.seen); n != 3 || c.seen[2] != "e:missed" {
					t.Errorf("%s %v: got %q, want one kept, one not and one missed", name, args, c.seen)
				}
				c.seen = nil
				c.mu.Unlock()
			}
		}
	})
}

// A hook that emits does not wait for itself.
func TestRecoveryHookThatEmits(t *testing.T) {
	for name, shared := range map[string]bool{"memory": false, "cluster": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub membus.Hub
				o := &atolltest.NodeOptions{Log: shared, Server: atoll.Options{Recovery: &recovery.Options{}}}
				o.Setup = func(srv *atoll.Server) {
					srv.Of("/").OnAnyOutgoing(func(s *atoll.Socket, name string) {
						if name == "e" {
							if err := s.Emit(context.Background(), "echo", 1); err != nil {
								t.Error(err)
							}
						}
					})
				}
				srv := atolltest.Start(t, &hub, "node", o).Server
				c := call(t, srv, "/", map[string]any{})
				emitAll(t, srv.Of("/"), "1")
				synctest.Wait()
				c.mu.Lock()
				defer c.mu.Unlock()
				if len(c.seen) != 2 || c.seen[0] != "e:1" || !strings.HasPrefix(c.seen[1], "echo:[1,") {
					t.Errorf("got %q, want e and its echo", c.seen)
				}
			})
		})
	}
}

// More than can be sent at once is as good as trimmed.
func TestRecoveryOfTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := atolltest.Serve(t, atoll.NewServer(&atoll.Options{Recovery: &recovery.Options{}, Engine: engine.Options{MaxQueue: 1 << 20}, Logger: quiet()}))
		c := call(t, srv, "/", map[string]any{})
		c.line.cut()
		synctest.Wait()
		for range 6 {
			emitAll(t, srv.Of("/"), strings.Repeat("x", 100<<10))
		}
		c.line.up(nil)
		c.wait(t, false)
		if got := srv.Stats().Recovery; got.Trimmed != 1 {
			t.Errorf("got %+v, want one trimmed", got)
		}
	})
}

// The pid of one namespace opens no door in another.
func TestRecoveryOtherNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, l := alone(t, &recovery.Options{})
		pid := func(body string) string {
			_, pid, _ := strings.Cut(body, `"pid":"`)
			pid, _, _ = strings.Cut(pid, `"`)
			return pid
		}
		raw := rawDial(t, srv)
		raw.send("0{}")
		first := pid(raw.poll())
		raw.send(`0/other,{"pid":"` + first + `"}`)
		second := pid(raw.poll())
		if first == "" || second == "" || first == second || l.last().Recovered() {
			t.Errorf("got pid %q after %q and recovered %v, want another pid and a new socket", second, first, l.last().Recovered())
		}
	})
}

func TestRecoveryMiddlewares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, skip := range []bool{false, true} {
			srv, l := alone(t, &recovery.Options{SkipMiddlewares: skip})
			c := call(t, srv, "/", map[string]any{})
			l.mu.Lock()
			l.refuse = true
			l.mu.Unlock()
			failed := make(chan error, 1)
			c.OnConnectError(func(err error) { failed <- err })
			c.line.cut()
			synctest.Wait()
			c.line.up(nil)
			if skip {
				c.wait(t, true)
				if l.asked != 1 {
					t.Errorf("got %d calls of the middleware, want 1", l.asked)
				}
				continue
			}
			for {
				err := <-failed
				if e, ok := errors.AsType[*client.ConnectError](err); ok {
					if e.Message != "no" {
						t.Errorf("got %v, want the middleware's refusal", err)
					}
					break
				}
			}
			if n := srv.Of("/").Sockets(); n != 0 {
				t.Errorf("got %d sockets, want none", n)
			}
			l.mu.Lock()
			l.refuse = false
			l.mu.Unlock()
			if err := c.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.wait(t, false) // whoever was refused has lost its session
		}
	})
}

// What DecodeData makes of the data; data that cannot be encoded.
func TestRecoveryData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, l := alone(t, &recovery.Options{DecodeData: func(data []byte) (any, error) { return string(data), nil }})
		c := call(t, srv, "/", map[string]any{"name": "ann"})
		again := func(want any) {
			t.Helper()
			c.line.cut()
			synctest.Wait()
			c.line.up(nil)
			c.wait(t, true)
			if got := l.last().Data(); got != want {
				t.Errorf("got data %v, want %v", got, want)
			}
		}
		again(`{"name":"ann"}`)
		l.last().SetData(7)
		again("7")
		l.last().SetData(make(chan int))
		again(nil)
		l.last().SetData(nil)
		again(nil)
	})
}

func BenchmarkEmitKept(b *testing.B) {
	for name, o := range map[string]*recovery.Options{"off": nil, "memory": {}} {
		b.Run(name, func(b *testing.B) {
			srv := atoll.NewServer(&atoll.Options{Recovery: o})
			defer srv.Close()
			room := srv.Of("/").To("room")
			b.ReportAllocs()
			for b.Loop() {
				if err := room.Emit(b.Context(), "said", "hello"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
