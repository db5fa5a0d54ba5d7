package atoll_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
)

// routed starts nodes that get only what is for rooms with members there. Their clients join
// a room by an event, and are answered when they are in it.
func routed(t *testing.T, hub *membus.Hub, n int) []*atolltest.Node {
	nodes := make([]*atolltest.Node, n)
	for i := range nodes {
		nodes[i] = atolltest.Start(t, hub, fmt.Sprint("node", i+1), &atolltest.NodeOptions{
			Cluster: cluster.Options{RouteRooms: true},
			Setup: func(srv *atoll.Server) {
				greet("", srv)
				atoll.Answer(srv.Of("/"), "join", func(_ context.Context, s *atoll.Socket, room string) (event.None, error) {
					s.Join(room)
					return event.None{}, nil
				})
				atoll.Answer(srv.Of("/"), "leave", func(_ context.Context, s *atoll.Socket, room string) (event.None, error) {
					s.Leave(room)
					return event.None{}, nil
				})
			},
		})
	}
	time.Sleep(5 * time.Second) // all know that all route
	return nodes
}

// A join is followed at once by what another node emits to the room: nothing is lost.
func TestJoinThenEmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		hub.SetFault(func(string, string, string) membus.Fault { return membus.Fault{Delay: time.Millisecond} })
		n := routed(t, &hub, 3)
		var r record
		got := make(chan string, 10)
		a := join(t, n[0], &r, "a")
		b := join(t, n[0], &r, "b")
		for name, s := range map[string]*client.Socket{"a": a, "b": b} {
			s.Handle("note", func(_ context.Context, e *client.Event) error {
				var text string
				err := e.Args.Decode(0, &text)
				got <- name + text
				return err
			})
		}
		ask := func(s *client.Socket, what, room string) {
			t.Helper()
			if _, err := s.Ask(t.Context(), what, room); err != nil {
				t.Fatal(err)
			}
		}
		emit := func(from int, room, text string) {
			t.Helper()
			if err := n[from].Of("/").To(room).Emit(t.Context(), "note", text); err != nil {
				t.Fatal(err)
			}
		}
		want := func(texts ...string) {
			t.Helper()
			for _, text := range texts {
				select {
				case g := <-got:
					if g != text {
						t.Fatalf("got %q, want %q", g, text)
					}
				case <-time.After(time.Minute):
					t.Fatalf("got nothing, want %q", text)
				}
			}
			time.Sleep(10 * time.Millisecond)
			select {
			case g := <-got:
				t.Fatalf("got %q, want nothing more", g)
			default:
			}
		}
		for i := range 200 {
			room := fmt.Sprint("room", i%7) // some are left just before, some a while ago
			ask(a, "join", room)
			emit(1+i%2, room, fmt.Sprint(i))
			want(fmt.Sprint("a", i))
			ask(b, "join", room)
			ask(a, "leave", room)
			emit(2-i%2, room, fmt.Sprint(i))
			want(fmt.Sprint("b", i))
			if i%3 == 0 {
				time.Sleep(1500 * time.Millisecond)
			}
			if i%5 == 0 {
				emit(1, a.ID(), "own")
				want("aown")
			}
			ask(b, "leave", room)
			emit(1, room, "nobody")
			want()
		}
		ask(a, "join", "only here")
		before := n[2].Cluster.Stats().Received
		for i := range 100 {
			emit(1, "only here", fmt.Sprint(i))
			want(fmt.Sprint("a", i))
		}
		if got := n[2].Cluster.Stats().Received - before; !n[0].Cluster.Routes() || got > 20 {
			t.Errorf("got %d messages on a node without members (and routing: %v), want heartbeats only", got, n[0].Cluster.Routes())
		}
		// told by another node, and followed by its emit
		for i := range 20 {
			room := fmt.Sprint("told", i)
			if err := n[1].Of("/").In(a.ID()).Join(t.Context(), room); err != nil {
				t.Fatal(err)
			}
			emit(1, room, "told")
			want("atold")
			time.Sleep(10 * time.Second) // and long after, when it is routed
			emit(2, room, "later")
			want("alater")
			if err := n[1].Of("/").In(a.ID()).Leave(t.Context(), room); err != nil {
				t.Fatal(err)
			}
		}
	})
}
