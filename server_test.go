package atoll_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// A record collects what happened, in order.
type record struct {
	mu    sync.Mutex
	lines []string
}

func (r *record) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *record) want(t testing.TB, lines ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.lines, lines) {
		t.Errorf("got  %s\nwant %s", strings.Join(r.lines, " | "), strings.Join(lines, " | "))
	}
	r.lines = nil
}

// hear records all events that sock receives.
func (r *record) hear(name string, sock *client.Socket) {
	sock.OnAny(func(_ context.Context, e *client.Event) error {
		r.add("%s: %s%s", name, e.Name, e.Args)
		return nil
	})
}

func TestEventsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
		ns := srv.Of("/")
		ns.OnConnect(func(context.Context, *atoll.Socket) error { r.add("connect"); return nil })
		ns.OnDisconnect(func(s *atoll.Socket, cause *atoll.DisconnectError) {
			r.add("disconnect: %s, %d rooms", cause.Reason, len(s.Rooms()))
		})
		atoll.On(ns, "n", func(_ context.Context, s *atoll.Socket, n int) error {
			if n == 1 {
				time.Sleep(time.Second) // the others wait
			}
			if n > 0 { // the client has left before; with the first it may still be there
				s.Join(fmt.Sprint("room", n))
			}
			r.add("n %d", n)
			return nil
		})
		sock := atolltest.Serve(t, srv).Dial(t, "/", nil)
		for n := range 4 {
			if err := sock.Emit(t.Context(), "n", n); err != nil {
				t.Fatal(err)
			}
		}
		sock.Disconnect()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		r.want(t, "connect", "n 0", "n 1", "n 2", "n 3", "disconnect: client namespace disconnect, 1 rooms")
		if got := srv.Stats().Sockets; got != 0 {
			t.Errorf("got %d sockets, want 0", got)
		}
	})
}

// A handler that waits, for its own client even, stops nothing but its socket's next events.
func TestHandlerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := atoll.NewServer(&atoll.Options{Logger: quiet(), Engine: engine.Options{PingInterval: time.Second, PingTimeout: time.Second}})
		ns := srv.Of("/")
		ns.Handle("add", func(ctx context.Context, s *atoll.Socket, e *atoll.Event) error {
			a, err := s.Ask(ctx, "left")
			if err != nil {
				return err
			}
			b, err := s.Ask(ctx, "right")
			if err != nil {
				return err
			}
			var x, y int
			if err := errors.Join(a.Decode(0, &x), b.Decode(0, &y)); err != nil {
				return err
			}
			return e.Reply(x + y)
		})
		ns.Handle("sleep", func(context.Context, *atoll.Socket, *atoll.Event) error {
			time.Sleep(10 * time.Second) // pings and pongs go on
			return nil
		})
		ns.Handle("echo", func(_ context.Context, _ *atoll.Socket, e *atoll.Event) error { return e.Reply(e.Args) })

		for _, transports := range [][]string{{client.WebSocket}, {client.Polling}} {
			sock := atolltest.Serve(t, srv).New(t, "/", &client.Options{Transports: transports})
			client.Answer(sock, "left", func(context.Context, event.None) (int, error) { return 20, nil })
			client.Answer(sock, "right", func(context.Context, event.None) (int, error) { return 22, nil })
			if err := sock.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			sum, err := event.Request[event.None, int]("add").Ask(t.Context(), sock, event.None{})
			if err != nil || sum != 42 {
				t.Errorf("%v: got %d and error %v, want 42", transports, sum, err)
			}
			if err := sock.Emit(t.Context(), "sleep"); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			if _, err := sock.Ask(t.Context(), "echo"); err != nil {
				t.Errorf("%v: after a long handler: %v", transports, err)
			}
			if d := time.Since(begin); d < 9*time.Second || d > 11*time.Second {
				t.Errorf("%v: answered after %v, want 10s: behind the handler before", transports, d)
			}
		}
	})
}

// What is emitted to a socket, or to a room that it joins, before the client knows that it
// is connected, comes right behind that news.
func TestNothingMissedWhileConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
		ns := srv.Of("/")
		ns.Use(func(ctx context.Context, s *atoll.Socket) error { return s.Emit(ctx, "from middleware") })
		ns.OnConnect(func(ctx context.Context, s *atoll.Socket) error {
			s.Join("room")
			if err := ns.To("room").Emit(ctx, "to room", 1); err != nil {
				return err
			}
			return s.Emit(ctx, "to socket", 2)
		})
		sock := atolltest.Serve(t, srv).New(t, "/", nil)
		sock.OnConnect(func(context.Context) error { r.add("connect"); return nil })
		r.hear("got", sock)
		if err := sock.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.want(t, "connect", "got: from middleware[]", "got: to room[1]", "got: to socket[2]")
	})
}

func TestAskInOnConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
		srv.Of("/").Use(func(ctx context.Context, s *atoll.Socket) error {
			if _, err := s.Ask(ctx, "who"); err == nil {
				t.Error("asked in a middleware, and got an answer")
			}
			return nil
		})
		srv.Of("/").OnConnect(func(ctx context.Context, s *atoll.Socket) error {
			a, err := s.Ask(ctx, "who")
			r.add("%v %v", a, err)
			return err
		})
		sock := atolltest.Serve(t, srv).New(t, "/", nil)
		client.Answer(sock, "who", func(context.Context, event.None) (string, error) { return "ada", nil })
		if err := sock.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.want(t, `["ada"] <nil>`)
	})
}

func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
		srv.Of("/no").Use(func(context.Context, *atoll.Socket) error {
			return fmt.Errorf("wrapped: %w", &atoll.ConnectError{Message: "no", Data: map[string]int{"code": 7}})
		})
		srv.Of("/secret").OnConnect(func(context.Context, *atoll.Socket) error { return errors.New("the password is swordfish") })
		srv.Of("/secret").OnDisconnect(func(*atoll.Socket, *atoll.DisconnectError) { t.Error("OnDisconnect of a socket that was refused") })
		srv.Of("/panics").OnConnect(func(context.Context, *atoll.Socket) error { panic("oh") })
		s := atolltest.Serve(t, srv)
		for nsp, want := range map[string]string{"/no": `no [{"code":7}]`, "/secret": "connection refused []", "/unknown": "Invalid namespace []"} {
			err := s.New(t, nsp, nil).Connect(t.Context())
			e, ok := errors.AsType[*client.ConnectError](err)
			if !ok {
				t.Errorf("%s: got %v, want a *ConnectError", nsp, err)
				continue
			}
			if got := e.Message + " " + e.Data.String(); got != want {
				t.Errorf("%s: got %s, want %s", nsp, got, want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.New(t, "/panics", nil).Connect(ctx); err == nil {
			t.Error("/panics: connected")
		}
		synctest.Wait()
		if got := srv.Stats(); got.Sockets != 0 || got.Panics != 1 || got.Refused != 2 {
			t.Errorf("got %d sockets, %d panics, %d refused; want 0, 1, 2", got.Sockets, got.Panics, got.Refused)
		}
	})
}

// A panic in a handler ends its socket, and nobody else's.
func TestPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
		ns := srv.Of("/")
		ns.Handle("oh", func(context.Context, *atoll.Socket, *atoll.Event) error { panic("oh") })
		ns.Handle("echo", func(_ context.Context, _ *atoll.Socket, e *atoll.Event) error { return e.Reply(e.Args) })
		ns.OnDisconnect(func(_ *atoll.Socket, cause *atoll.DisconnectError) { r.add("%s", cause.Reason); panic("again") })
		s := atolltest.Serve(t, srv)
		bad := s.Dial(t, "/", &client.Options{DisableReconnect: true})
		good := s.Dial(t, "/", nil)
		bad.OnDisconnect(func(cause *client.DisconnectError) { r.add("client: %s", cause.Reason) })
		if err := bad.Emit(t.Context(), "oh"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.want(t, "server namespace disconnect", "client: io server disconnect")
		if _, err := good.Ask(t.Context(), "echo"); err != nil {
			t.Errorf("the other socket: %v", err)
		}
		if got := srv.Stats().Panics; got != 2 {
			t.Errorf("got %d panics counted, want 2", got)
		}
	})
}

func TestTypedEvents(t *testing.T) {
	type move struct {
		X, Y  int
		Bytes []byte
	}
	const (
		moved  event.Name[move]                             = "moved"
		mirror event.Request[event.Two[string, move], move] = "mirror"
	)
	synctest.Test(t, func(t *testing.T) {
		var r record
		srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
		ns := srv.Of("/game")
		atoll.On(ns, moved, func(ctx context.Context, s *atoll.Socket, m move) error {
			return moved.Emit(ctx, s.Broadcast(), m)
		})
		atoll.Answer(ns, mirror, func(_ context.Context, _ *atoll.Socket, v event.Two[string, move]) (move, error) {
			if v.A == "no" {
				return move{}, &atoll.ReplyError{Args: []any{move{X: -1}}}
			}
			return move{v.B.Y, v.B.X, v.B.Bytes}, nil
		})
		s := atolltest.Serve(t, srv)
		a, b := s.Dial(t, "/game", nil), s.New(t, "/game", nil)
		client.On(b, moved, func(_ context.Context, m move) error { r.add("%v", m); return nil })
		if err := b.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := moved.Emit(t.Context(), a, move{1, 2, []byte{3}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.want(t, "{1 2 [3]}")
		got, err := mirror.Ask(t.Context(), a, event.Two[string, move]{A: "yes", B: move{1, 2, []byte{3}}})
		if err != nil || got.X != 2 || got.Y != 1 || string(got.Bytes) != "\x03" {
			t.Errorf("got %v and error %v, want {2 1 [3]}", got, err)
		}
		if got, err = mirror.Ask(t.Context(), a, event.Two[string, move]{A: "no"}); err != nil || got.X != -1 {
			t.Errorf("got %v and error %v, want {-1 …}", got, err)
		}
		// An argument that does not fit costs the event, not the connection.
		if err := a.Emit(t.Context(), "moved", "nonsense"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.want(t)
		if a.ID() == "" {
			t.Error("disconnected by an argument that does not fit")
		}
	})
}

func TestTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
		ns := srv.Of("/")
		ns.OnConnect(func(_ context.Context, s *atoll.Socket) error {
			var rooms []string
			if err := s.Auth(&struct{ Rooms *[]string }{&rooms}); err != nil {
				return err
			}
			s.Join(rooms...)
			return nil
		})
		ns.Handle("to others", func(ctx context.Context, s *atoll.Socket, e *atoll.Event) error {
			return s.To("red").Emit(ctx, "x", e.Args)
		})
		s := atolltest.Serve(t, srv)
		socks := map[string]*client.Socket{}
		for _, who := range []struct {
			name  string
			rooms []string
		}{{"a", []string{"red"}}, {"b", []string{"red", "blue"}}, {"c", []string{"blue"}}, {"d", nil}} {
			sock := s.New(t, "/", &client.Options{Auth: map[string]any{"rooms": who.rooms}})
			r.hear(who.name, sock)
			if err := sock.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			socks[who.name] = sock
		}
		for _, c := range []struct {
			what string
			to   event.Emitter
			want string
		}{
			{"all", ns, "abcd"},
			{"a room", ns.To("red"), "ab"},
			{"two rooms, one in both", ns.To("red", "blue"), "abc"},
			{"rooms one after the other", ns.To("red").To("blue"), "abc"},
			{"but", ns.To("red", "blue").Except("red"), "c"},
			{"all but", ns.Except("blue"), "ad"},
			{"one", ns.To(socks["d"].ID()), "d"},
			{"a room and one of it", ns.To("red", socks["a"].ID()), "ab"},
			{"all but one", ns.Except(socks["d"].ID(), "blue"), "a"},
			{"an empty room", ns.To("nobody"), ""},
			{"here", ns.Local().To("blue"), "bc"},
			{"volatile", ns.Volatile().To("blue"), "bc"},
		} {
			if err := c.to.Emit(t.Context(), "x"); err != nil {
				t.Errorf("%s: %v", c.what, err)
			}
			synctest.Wait()
			r.mu.Lock()
			var got []string
			for _, l := range r.lines {
				got = append(got, l[:1])
			}
			r.lines = nil
			r.mu.Unlock()
			slices.Sort(got)
			if g := strings.Join(got, ""); g != c.want {
				t.Errorf("%s: got %q, want %q", c.what, g, c.want)
			}
		}
		if err := socks["a"].Emit(t.Context(), "to others", []byte{1, 2}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.want(t, `b: x[{"_placeholder":true,"num":0}]`)
		if err := ns.Emit(t.Context(), "disconnect"); err == nil {
			t.Error("emitted a reserved event")
		}
		if err := ns.Emit(t.Context(), "x", func() {}); err == nil {
			t.Error("emitted a function")
		}
	})
}

func TestMiddlewaresOfEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
		ns := srv.Of("/")
		ns.UseEvent(func(_ context.Context, _ *atoll.Socket, e *atoll.Event) error {
			if e.Name == "forbidden" {
				return &atoll.ReplyError{Args: []any{"no"}}
			}
			return nil
		})
		ns.OnAny(func(_ context.Context, _ *atoll.Socket, e *atoll.Event) error { r.add("any %s", e.Name); return nil })
		ns.OnAnyOutgoing(func(_ *atoll.Socket, name string) { r.add("out %s", name) })
		atoll.On(ns, "known", func(ctx context.Context, s *atoll.Socket, _ event.None) error {
			r.add("known")
			return errors.Join(s.Emit(ctx, "direct"), ns.Emit(ctx, "to all"))
		})
		ns.Handle("forbidden", func(context.Context, *atoll.Socket, *atoll.Event) error { r.add("forbidden"); return nil })
		sock := atolltest.Serve(t, srv).Dial(t, "/", nil)
		if a, err := sock.Ask(t.Context(), "known"); err != nil || a.Len() != 0 {
			t.Errorf("known: got %v and error %v, want an empty ack", a, err)
		}
		if a, err := sock.Ask(t.Context(), "forbidden"); err != nil || a.String() != `["no"]` {
			t.Errorf("forbidden: got %v and error %v, want no", a, err)
		}
		if err := sock.Emit(t.Context(), "unknown"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.want(t, "any known", "known", "out direct", "out to all", "any unknown")
		if got := srv.Stats().Unhandled; got != 1 {
			t.Errorf("got %d unhandled, want 1", got)
		}
	})
}
