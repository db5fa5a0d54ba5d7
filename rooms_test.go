package atoll

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/atollhq/atoll/cluster"
)

// A roomModel says the same as rooms, in the plainest way.
type roomModel map[*Socket]map[string]bool

func (m roomModel) selected(sel cluster.Selector) []string {
	var ids []string
	for s, in := range m {
		hit := len(sel.Rooms) == 0 || slices.ContainsFunc(sel.Rooms, func(n string) bool { return n == s.id || in[n] })
		if hit && !slices.ContainsFunc(sel.Except, func(n string) bool { return n == s.id || in[n] }) {
			ids = append(ids, s.id)
		}
	}
	slices.Sort(ids)
	return ids
}

func ids(l *receivers) []string {
	var ids []string
	for _, s := range l.sockets {
		ids = append(ids, s.id)
	}
	slices.Sort(ids)
	return ids
}

func TestRoomsAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			var rs rooms
			model := make(roomModel)
			var sockets []*Socket
			// Some rooms are named like sockets.
			name := func() string {
				if n := r.IntN(12); n < 9 {
					return "room" + strconv.Itoa(n)
				}
				return "s" + strconv.Itoa(r.IntN(len(sockets)+1))
			}
			names := func(most int) []string {
				list := make([]string, r.IntN(most+1))
				for i := range list {
					list[i] = name()
				}
				return list
			}
			for range 2000 {
				switch n := r.IntN(10); {
				case n == 0 || len(sockets) == 0:
					s := &Socket{id: "s" + strconv.Itoa(len(sockets))}
					early := names(2)
					rs.enter(s, early...)
					if !rs.add(s) || rs.add(s) {
						t.Fatal("a socket can be added once, and only once")
					}
					sockets = append(sockets, s)
					model[s] = make(map[string]bool)
					for _, n := range early {
						model[s][n] = true
					}
				case n == 1 && len(model) > 3:
					s := sockets[r.IntN(len(sockets))]
					rs.remove(s)
					delete(model, s)
				case n < 6:
					s, n := sockets[r.IntN(len(sockets))], name()
					rs.enter(s, n)
					if in := model[s]; in != nil {
						in[n] = true
					}
				case n < 8:
					s, n := sockets[r.IntN(len(sockets))], name()
					rs.exit(s, n)
					if in := model[s]; in != nil {
						delete(in, n)
					}
				default:
					sel := cluster.Selector{Rooms: names(3), Except: names(2)}
					if r.IntN(4) == 0 { // the way for many exceptions
						sel.Except = append(sel.Except, names(20)...)
					}
					got := rs.selected(&sel)
					if want := model.selected(sel); !slices.Equal(ids(got), want) {
						t.Fatalf("selected %+v: got %v, want %v", sel, ids(got), want)
					}
					got.free()
				}
			}
			if got, want := rs.len(), len(model); got != want {
				t.Errorf("got %d sockets, want %d", got, want)
			}
			for s := range model {
				rs.remove(s)
			}
			if len(rs.named) != 0 || len(rs.byID) != 0 || len(rs.all.members) != 0 {
				t.Errorf("left over after all have gone: %d rooms, %d ids, %d members", len(rs.named), len(rs.byID), len(rs.all.members))
			}
		})
	}
}

func TestRoomsOfASocketThatHasLeft(t *testing.T) {
	var rs rooms
	s := &Socket{id: "me"}
	rs.enter(s, "a", "b", "a")
	rs.exit(s, "b")
	rs.add(s)
	rs.enter(s, "c", "me")
	want := []string{"me", "a", "c"}
	if got := rs.of(s); !slices.Equal(got, want) {
		t.Errorf("while in: got %v, want %v", got, want)
	}
	rs.remove(s)
	if got := rs.of(s); !slices.Equal(got, want) {
		t.Errorf("after it has left: got %v, want %v", got, want)
	}
	rs.enter(s, "d")
	if rs.add(s) || rs.len() != 0 {
		t.Error("a socket that has left came back")
	}
}

func BenchmarkSelectRoom(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var rs rooms
			for i := range 10_000 {
				s := &Socket{id: strconv.Itoa(i)}
				rs.add(s)
				if i < n {
					rs.enter(s, "room")
				}
			}
			sel := &cluster.Selector{Rooms: []string{"room"}}
			b.ReportAllocs()
			for b.Loop() {
				rs.selected(sel).free()
			}
		})
	}
}
