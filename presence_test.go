package atoll_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/cluster"
)

func TestPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		var hub membus.Hub
		n := atolltest.Cluster(t, &hub, 2, greet)
		a := join(t, n[0], &r, "a", "red")
		b := join(t, n[1], &r, "b", "red", "blue")
		ns := n[0].Of("/")
		for room, want := range map[string]bool{"red": true, "blue": true, "green": false, a.ID(): true, b.ID(): true} {
			if got, err := ns.In(room).Has(t.Context()); got != want || err != nil {
				t.Errorf("has %s: got %v and error %v, want %v", room, got, err, want)
			}
		}
		ids, err := ns.In("red").IDs(t.Context())
		if want := []string{a.ID(), b.ID()}; !slices.Equal(ids, want) || err != nil {
			t.Errorf("ids: got %q and error %v, want %q", ids, err, want)
		}
		for _, fields := range []cluster.Fields{0, cluster.FieldID, cluster.FieldRooms, cluster.FieldData | cluster.FieldHandshake} {
			for s, err := range ns.In("blue").Fields(fields).Fetch(t.Context()) {
				var name string
				var h struct{ URL string }
				if err != nil || s.Data(&name) != nil || s.Handshake(&h) != nil {
					t.Fatal(err)
				}
				if got, want := s.Rooms != nil, fields.Has(cluster.FieldRooms); s.ID != b.ID() || got != want {
					t.Errorf("fields %b: got id %s and rooms %q, want %s and rooms: %v", fields, s.ID, s.Rooms, b.ID(), want)
				}
				if got, want := name == "b", fields.Has(cluster.FieldData); got != want {
					t.Errorf("fields %b: got data %q, want data: %v", fields, name, want)
				}
				if got, want := h.URL != "", fields.Has(cluster.FieldHandshake); got != want {
					t.Errorf("fields %b: got the handshake's URL %q, want it: %v", fields, h.URL, want)
				}
			}
		}
	})
}

// More sockets than a node describes at once, here and there.
func TestFetchInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 2500
		var hub membus.Hub
		n := atolltest.Cluster(t, &hub, 2, nil)
		for range many {
			rawDial(t, n[1].Server).send("0")
		}
		synctest.Wait()
		for i := range n {
			ids, err := n[i].Of("/").Except().IDs(t.Context())
			slices.Sort(ids)
			if got := len(slices.Compact(ids)); got != many || err != nil {
				t.Errorf("from %s: got %d different ids and error %v, want %d", n[i].Name, got, err, many)
			}
			for range n[i].Of("/").Fetch(t.Context()) {
				break
			}
		}
	})
}
