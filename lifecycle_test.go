package atoll_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
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
)

func TestDynamicNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		var hub membus.Hub
		var parents []*atoll.Parent
		n := atolltest.Cluster(t, &hub, 2, func(name string, srv *atoll.Server) {
			srv.Of("/room-static")
			p := srv.OfPattern(regexp.MustCompile(`^/room-\d+$`))
			p.OnConnect(func(_ context.Context, s *atoll.Socket) error {
				r.add("%s in %s", name, s.Namespace().Name())
				return nil
			})
			atoll.On(p, "say", func(ctx context.Context, s *atoll.Socket, text string) error {
				return s.Namespace().Emit(ctx, "said", text)
			})
			srv.OfFunc(func(_ context.Context, name string, auth event.Args) bool {
				var key string
				_ = auth.Decode(0, &struct{ Key *string }{&key})
				return strings.HasPrefix(name, "/vip") && key == "swordfish"
			})
			parents = append(parents, p)
		})
		dial := func(i int, nsp string, auth any) *client.Socket {
			sock := n[i].New(t, nsp, &client.Options{Auth: auth})
			client.On(sock, "said", func(_ context.Context, text string) error { r.add("%s: %s", nsp, text); return nil })
			if err := sock.Connect(t.Context()); err != nil {
				t.Fatalf("%s: %v", nsp, err)
			}
			return sock
		}
		a, b := dial(0, "/room-1", nil), dial(1, "/room-1", nil)
		c := dial(0, "/room-2", nil)
		synctest.Wait()
		r.want(t, "node1 in /room-1", "node2 in /room-1", "node1 in /room-2")
		if err := a.Emit(t.Context(), "say", "hi"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.want(t, "/room-1: hi", "/room-1: hi")
		if err := parents[0].Emit(t.Context(), "said", "all"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := len(r.lines); got != 3 {
			t.Errorf("emitted to all namespaces of a parent: got %d events, want 3", got)
		}
		for nsp, auth := range map[string]any{"/room-x": nil, "/vip": nil, "/other": nil} {
			if err := n[0].New(t, nsp, &client.Options{Auth: auth}).Connect(t.Context()); err == nil {
				t.Errorf("%s: connected", nsp)
			}
		}
		dial(0, "/vip-1", map[string]string{"key": "swordfish"})

		// They go with their last clients.
		if got := len(parents[0].Namespaces()); got != 2 {
			t.Errorf("got %d namespaces, want 2", got)
		}
		a.Disconnect()
		b.Disconnect()
		c.Disconnect()
		synctest.Wait()
		if got := len(parents[0].Namespaces()); got != 0 {
			t.Errorf("after all have left: got %d namespaces, want none", got)
		}
		r.lines = nil
		d := dial(1, "/room-1", nil) // and come again
		if err := d.Emit(t.Context(), "say", "again"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.want(t, "node2 in /room-1", "/room-1: again")
	})
}

// Ways to go, and what the server is told of each.
func TestDisconnectCauses(t *testing.T) {
	for _, c := range []struct {
		name   string
		do     func(t *testing.T, srv *atoll.Server, sock *client.Socket)
		reason string
		err    func(error) bool
	}{
		{"client leaves", func(_ *testing.T, _ *atoll.Server, sock *client.Socket) { sock.Disconnect() }, atoll.ReasonClientDisconnect, nil},
		{"client closes", func(_ *testing.T, _ *atoll.Server, sock *client.Socket) { sock.Close() }, "", nil},
		{"server disconnects", func(_ *testing.T, srv *atoll.Server, sock *client.Socket) {
			srv.Of("/").Socket(sock.ID()).Disconnect(false)
		}, atoll.ReasonServerDisconnect, nil},
		{"server closes", func(_ *testing.T, srv *atoll.Server, sock *client.Socket) {
			srv.Of("/").Socket(sock.ID()).Disconnect(true)
		}, atoll.ReasonServerDisconnect, nil},
		{"shutdown", func(t *testing.T, srv *atoll.Server, _ *client.Socket) {
			if err := srv.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}, atoll.ReasonShutdown, nil},
		{"too fast", func(t *testing.T, _ *atoll.Server, sock *client.Socket) {
			for range 200 {
				_ = sock.Emit(t.Context(), "slow", strings.Repeat("x", 1000))
			}
		}, atoll.ReasonForcedClose, func(err error) bool {
			e, ok := errors.AsType[*atoll.LimitError](err)
			return ok && e.What == "Options.MaxInbox" && e.Limit == 100_000
		}},
		{"too large", func(t *testing.T, _ *atoll.Server, sock *client.Socket) {
			_ = sock.Emit(t.Context(), "echo", make([]byte, 900), make([]byte, 900), make([]byte, 900), make([]byte, 900), make([]byte, 900))
		}, atoll.ReasonParseError, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var causes []*atoll.DisconnectError
				var ctxCause error
				srv := atoll.NewServer(&atoll.Options{Logger: quiet(), MaxInbox: 100_000, Engine: engine.Options{MaxPayload: 2000}, MaxAttachmentBytes: 4000})
				ns := srv.Of("/")
				ns.Handle("slow", func(ctx context.Context, _ *atoll.Socket, _ *atoll.Event) error {
					<-ctx.Done()
					ctxCause = context.Cause(ctx)
					return ctx.Err()
				})
				ns.Handle("echo", func(_ context.Context, _ *atoll.Socket, e *atoll.Event) error { return e.Reply(e.Args) })
				ns.OnDisconnect(func(_ *atoll.Socket, cause *atoll.DisconnectError) { causes = append(causes, cause) })
				sock := atolltest.Serve(t, srv).Dial(t, "/", &client.Options{DisableReconnect: true})
				c.do(t, srv, sock)
				time.Sleep(time.Second)
				synctest.Wait()
				if len(causes) != 1 {
					t.Fatalf("got %d calls of OnDisconnect, want 1", len(causes))
				}
				if c.reason != "" && causes[0].Reason != c.reason {
					t.Errorf("got %v, want reason %q", causes[0], c.reason)
				}
				if c.err != nil && !c.err(causes[0]) {
					t.Errorf("got %v: not what lies below", causes[0])
				}
				if ctxCause != nil && ctxCause != error(causes[0]) {
					t.Errorf("the context of the handler says %v, OnDisconnect %v", ctxCause, causes[0])
				}
			})
		})
	}
}

// A session that is in no namespace is not kept.
func TestConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := atoll.NewServer(&atoll.Options{Logger: quiet(), ConnectTimeout: 3 * time.Second})
		s := atolltest.Serve(t, srv)
		open := func() int { return int(srv.Stats().Engine.Sessions) }
		if err := s.New(t, "/nobody", &client.Options{DisableReconnect: true}).Connect(t.Context()); err == nil {
			t.Fatal("connected to what does not exist")
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if got := open(); got != 0 {
			t.Errorf("refused everywhere: got %d sessions after the time-out, want 0", got)
		}
		stays := s.Dial(t, "/", nil)
		time.Sleep(time.Minute)
		if got := open(); got != 1 || stays.ID() == "" {
			t.Errorf("connected: got %d sessions, want 1", got)
		}
	})
}

// A client cannot make the server hold any number of namespaces.
func TestMaxNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := atoll.NewServer(&atoll.Options{Logger: quiet(), MaxNamespaces: 2})
		srv.OfPattern(regexp.MustCompile(`^/room-\d+$`))
		sock := atolltest.Serve(t, srv).Dial(t, "/room-1", nil)
		two, three := sock.Of("/room-2", nil), sock.Of("/room-3", nil)
		defer two.Close()
		defer three.Close()
		if err := two.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := three.Connect(t.Context())
		if e, ok := errors.AsType[*client.ConnectError](err); !ok || e.Message != "Too many namespaces" {
			t.Errorf("one too many: got %v, want a refusal", err)
		}
		two.Disconnect()
		synctest.Wait()
		if err := three.Connect(t.Context()); err != nil {
			t.Errorf("after another has left: %v", err)
		}
	})
}

func TestShutdownWaitsForHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		srv := atoll.NewServer(&atoll.Options{Logger: quiet()})
		ns := srv.Of("/")
		ns.Handle("work", func(context.Context, *atoll.Socket, *atoll.Event) error {
			r.add("begins")
			time.Sleep(5 * time.Second)
			r.add("ends")
			return nil
		})
		ns.OnDisconnect(func(*atoll.Socket, *atoll.DisconnectError) { time.Sleep(time.Second); r.add("left") })
		sock := atolltest.Serve(t, srv).Dial(t, "/", &client.Options{DisableReconnect: true})
		if err := sock.Emit(t.Context(), "work"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a handler that goes on: got %v, want the deadline", err)
		}
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		r.want(t, "begins", "ends", "left")
		if err := ns.Emit(t.Context(), "x"); err != nil {
			t.Errorf("emit after shutdown: got %v, want nothing", err)
		}
	})
}

func TestHealth(t *testing.T) {
	srv := atoll.NewServer(nil)
	h := srv.Health()
	ask := func(method string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, "/health", nil)
		r.Host, r.Proto, r.ProtoMinor = "", "HTTP/1.0", 0
		h.ServeHTTP(w, r)
		return w
	}
	if w := ask("GET"); w.Code != http.StatusOK || len(w.Header().Get(atoll.NodeHeader)) != 8 || !strings.Contains(w.Body.String(), srv.Node()) {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
	if w := ask("POST"); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d, want 405", w.Code)
	}
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	if w := ask("HEAD"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("after Close: got %d, want 503", w.Code)
	}
}

// What is set twice, or has a name that means something else, is found at start-up.
func TestStartUpPanics(t *testing.T) {
	ns := atoll.NewServer(nil).Of("/")
	h := func(context.Context, *atoll.Socket, *atoll.Event) error { return nil }
	ns.Handle("x", h)
	ns.OnConnect(func(context.Context, *atoll.Socket) error { return nil })
	for what, f := range map[string]func(){
		"handler twice":   func() { ns.Handle("x", h) },
		"reserved name":   func() { ns.Handle("disconnect", h) },
		"OnConnect twice": func() { ns.OnConnect(func(context.Context, *atoll.Socket) error { return nil }) },
		"wrong option":    func() { atoll.NewServer(&atoll.Options{Engine: engine.Options{Transports: []string{"pigeon"}}}) },
	} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), ":") {
					t.Errorf("%s: got %v, want a panic that says what to do", what, r)
				}
			}()
			f()
		}()
	}
}
