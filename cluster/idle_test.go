package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// TestIdleLanes has a lane rest for so long that its sender could forget it.
func TestIdleLanes(t *testing.T) {
	tell := func(t *testing.T, s *site, nsp, data string) {
		t.Helper()
		if err := s.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: nsp, Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	simulate(t, "longer than its sender keeps it, by little", func(t *testing.T, hub *membus.Hub) {
		a, b := joinBy(t, hub, "a"), joinBy(t, hub, "b")
		for _, data := range []string{"1", "2", "3"} {
			tell(t, a, "/", data)
		}
		time.Sleep(35 * time.Minute)
		for _, data := range []string{"4", "5"} {
			tell(t, a, "/", data)
		}
		check(t, "then", b, "1 2 3 4 5")
	})
	simulate(t, "one of a room, where announcements are many", func(t *testing.T, hub *membus.Hub) {
		often := func(o *cluster.Options) { o.RouteRooms, o.Heartbeat = true, 100*time.Millisecond }
		a, b := join(t, hub, "a", often), join(t, hub, "b", often)
		if err := b.Enter(t.Context(), "/", "r"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		say := func(data string) {
			t.Helper()
			if err := a.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/", Selector: cluster.Selector{Rooms: []string{"r"}}, Data: []byte(data)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, data := range []string{"1", "2", "3"} {
			say(data)
		}
		time.Sleep(5 * time.Minute)
		say("4")
		check(t, "then", b, "1 2 3 4")
	})
}

// TestLanesGo has rooms be told to once, and never again: neither side remembers them for ever.
func TestLanesGo(t *testing.T) {
	simulate(t, "rooms that were used once", func(t *testing.T, hub *membus.Hub) {
		route := func(o *cluster.Options) { o.RouteRooms = true }
		a, b := join(t, hub, "a", route), join(t, hub, "b", route)
		const rooms = 300
		for i := range rooms {
			room := fmt.Sprint("room", i)
			if err := b.Enter(t.Context(), "/", room); err != nil {
				t.Fatal(err)
			}
			err := a.Tell(t.Context(), &cluster.Op{Kind: cluster.Emit, Namespace: "/", Selector: cluster.Selector{Rooms: []string{room}}, Data: []byte("x")})
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := len(b.received()); got != rooms {
			t.Fatalf("got %d messages, want %d", got, rooms)
		}
		if out, _ := a.Lanes(); out != rooms {
			t.Errorf("sender: got %d lanes, want %d", out, rooms)
		}
		if _, in := b.Lanes(); in < rooms {
			t.Errorf("receiver: got %d lanes, want %d or more", in, rooms)
		}
		time.Sleep(40 * time.Minute)
		if out, _ := a.Lanes(); out != 0 {
			t.Errorf("sender, later: got %d lanes, want none", out)
		}
		if _, in := b.Lanes(); in > 1 {
			t.Errorf("receiver, later: got %d lanes, want that of all only", in)
		}
	})
}
