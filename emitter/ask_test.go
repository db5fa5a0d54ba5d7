package emitter_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/event"
)

// setup has clients say who they are and where they belong, and servers say their names.
func setup(name string, srv *atoll.Server) {
	for _, nsp := range []string{"/", "/chat"} {
		srv.Of(nsp).OnConnect(func(_ context.Context, s *atoll.Socket) error {
			var auth struct {
				Name  string
				Rooms []string
			}
			if err := s.Auth(&auth); err != nil {
				return err
			}
			s.SetData(auth.Name)
			s.Join(auth.Rooms...)
			return nil
		})
		atoll.AnswerServer(srv.Of(nsp), "name", func(context.Context, event.None) (string, error) { return name, nil })
	}
}

// dial connects a client that answers "who" with its name, unless it is mute.
func dial(t *testing.T, n *atolltest.Node, nsp, name string, rooms ...string) *client.Socket {
	t.Helper()
	s := n.New(t, nsp, &client.Options{Auth: map[string]any{"name": name, "rooms": rooms}, DisableReconnect: true})
	client.Answer(s, "who", func(context.Context, event.None) (string, error) { return name, nil })
	if err := s.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// connect returns an emitter on a bus of its own.
func connect(t *testing.T, hub *membus.Hub, o *emitter.Options) *emitter.Emitter {
	t.Helper()
	bus := membus.New(hub, &membus.Options{Name: "emitter"})
	t.Cleanup(func() { bus.Close() })
	if o == nil {
		o = &emitter.Options{}
	}
	o.Logger = slog.New(slog.DiscardHandler)
	em, err := emitter.Connect(t.Context(), bus, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { em.Close() })
	return em
}

func TestConnectAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		n := atolltest.Cluster(t, &hub, 3, setup)
		a := dial(t, n[0], "/", "a", "red")
		dial(t, n[1], "/", "b", "red", "blue")
		dial(t, n[2], "/", "c", "blue")
		dial(t, n[2], "/chat", "d", "red")
		em := connect(t, &hub, nil)
		ctx := t.Context()
		names := make(map[string]string)
		for _, m := range em.Peers() {
			names[m.ID] = m.Name
		}

		if got := len(em.Peers()); got != 3 {
			t.Errorf("got %d peers, want 3", got)
		}
		if got, err := em.To("red").Except("blue").Count(ctx); got != 1 || err != nil {
			t.Errorf("Count: got %d and %v, want 1", got, err)
		}
		if got, err := em.Of("chat").Count(ctx); got != 1 || err != nil {
			t.Errorf("Count of /chat: got %d and %v, want 1", got, err)
		}
		var got []string
		who := event.Request[event.None, string]("who")
		for name, err := range who.AskAll(ctx, em.To("red", "blue"), event.None{}) {
			if err != nil {
				t.Error(err)
			}
			got = append(got, name)
		}
		slices.Sort(got)
		if strings.Join(got, ",") != "a,b,c" {
			t.Errorf("AskAll: got %v, want a, b and c", got)
		}
		got = nil
		for s, err := range em.In("red").Fetch(ctx) {
			var name string
			if err == nil {
				err = s.Data(&name)
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(names[s.Node], name, s.Rooms[1:]))
			if name == "a" {
				if s.ID != a.ID() {
					t.Errorf("got id %s, want %s", s.ID, a.ID())
				}
				if err := s.Target().Join(ctx, "green"); err != nil {
					t.Error(err)
				}
			}
		}
		slices.Sort(got)
		if want := "node1a[red] node2b[red blue]"; strings.Join(got, " ") != want {
			t.Errorf("Fetch: got %v, want %s", got, want)
		}
		rooms, err := em.Rooms(ctx)
		slices.Sort(rooms)
		rooms = slices.DeleteFunc(rooms, func(r string) bool { return len(r) == 20 })
		if strings.Join(rooms, ",") != "blue,green,red" || err != nil {
			t.Errorf("Rooms: got %v and %v, want blue, green, red", rooms, err)
		}
		got = nil
		for a, err := range em.ServerSide().AskAll(ctx, "name") {
			var name string
			if err == nil {
				err = a.Decode(0, &name)
			}
			if err != nil {
				t.Error(err)
			}
			got = append(got, name)
		}
		slices.Sort(got)
		if strings.Join(got, ",") != "node1,node2,node3" {
			t.Errorf("ServerSide: got %v, want three nodes", got)
		}
	})
}

// TestNotANode: nobody takes an emitter for one.
func TestNotANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		n := atolltest.Cluster(t, &hub, 2, setup)
		em := connect(t, &hub, nil)
		time.Sleep(5 * time.Second)
		if got := len(n[0].Cluster.Peers()); got != 1 {
			t.Errorf("a node has %d peers, want 1", got)
		}
		begun := time.Now()
		if got, err := n[0].Of("/").To("x").Count(t.Context()); got != 0 || err != nil || time.Since(begun) > 0 {
			t.Errorf("got %d and %v after %v, want 0 at once", got, err, time.Since(begun))
		}
		em.Close()
		if _, err := em.Count(t.Context()); !errors.Is(err, cluster.ErrClosed) {
			t.Errorf("Count after Close: got %v, want %v", err, cluster.ErrClosed)
		}
	})
}

func TestWhoIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		n := atolltest.Cluster(t, &hub, 2, setup)
		dial(t, n[0], "/", "a")
		mute := n[1].Dial(t, "/", &client.Options{DisableReconnect: true})
		mute.Handle("who", func(context.Context, *client.Event) error { return nil })
		em := connect(t, &hub, nil)
		begun := time.Now()
		acks := 0
		var last error
		for _, err := range em.Timeout(2*time.Second).AskAll(t.Context(), "who") {
			if last = err; err == nil {
				acks++
			}
		}
		absent, ok := errors.AsType[*cluster.AbsentError](last)
		if took := time.Since(begun); acks != 1 || !ok || absent.Acks != 1 || took != 2*time.Second {
			t.Errorf("got %d acks and %v after %v, want 1 and that 1 is missing after 2 s", acks, last, took)
		}
		n[1].Bus.Freeze()
		got, err := em.Timeout(time.Second).Count(t.Context())
		if absent, ok = errors.AsType[*cluster.AbsentError](err); got != 1 || !ok || !strings.Contains(strings.Join(absent.Nodes, ","), "node2") {
			t.Errorf("got %d and %v, want 1 and that node2 is missing", got, err)
		}
		n[1].Bus.Thaw()
	})
}

// TestManyNamespaces: those that nobody asks about any more are closed, and can be asked about again.
func TestManyNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		atolltest.Cluster(t, &hub, 1, setup)
		em := connect(t, &hub, nil)
		for round := range 3 {
			for i := range 300 {
				go func() {
					if _, err := em.Of(fmt.Sprint("/", i)).Count(t.Context()); err != nil {
						t.Errorf("round %d, namespace %d: %v", round, i, err)
					}
				}()
			}
			synctest.Wait()
		}
	})
}

func TestTellsOnly(t *testing.T) {
	em := emitter.New(&recorder{}, nil)
	if _, err := em.Count(t.Context()); !errors.Is(err, emitter.ErrTellsOnly) {
		t.Errorf("Count: got %v, want %v", err, emitter.ErrTellsOnly)
	}
	n := 0
	for _, err := range em.AskAll(t.Context(), "x") {
		if n++; !errors.Is(err, emitter.ErrTellsOnly) {
			t.Errorf("AskAll: got %v, want %v", err, emitter.ErrTellsOnly)
		}
	}
	if n != 1 {
		t.Errorf("AskAll: got %d pairs, want 1", n)
	}
	if err := em.Close(); err != nil {
		t.Error(err)
	}
}
