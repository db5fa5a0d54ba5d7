package atoll_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/recovery"
)

// A world is a cluster whose medium keeps events and sessions.
type world struct {
	hub     membus.Hub
	store   *recovery.Memory
	options recovery.Options
	lobby   lobby
	nodes   []*wnode
	made    int
}

type wnode struct {
	*atolltest.Node
	dead atomic.Bool
}

var errDead = errors.New("the node is dead")

// A mortal store is a node's way to the store, which dies with it.
type mortal struct {
	recovery.Sessions
	n *wnode
}

func (m mortal) Create(ctx context.Context, s *recovery.Session, ttl time.Duration) error {
	if m.n.dead.Load() {
		return errDead
	}
	return m.Sessions.Create(ctx, s, ttl)
}

func (m mortal) Update(ctx context.Context, ss []*recovery.Session, ttl time.Duration) ([]*recovery.Session, error) {
	if m.n.dead.Load() {
		return nil, errDead
	}
	return m.Sessions.Update(ctx, ss, ttl)
}

func (m mortal) Drop(ctx context.Context, s *recovery.Session) error {
	if m.n.dead.Load() {
		return errDead
	}
	return m.Sessions.Drop(ctx, s)
}

func newWorld(t *testing.T, n int) *world {
	w := &world{store: recovery.NewMemory(nil)}
	for range n {
		w.start(t)
	}
	return w
}

func (w *world) start(t *testing.T) *wnode {
	n := new(wnode)
	o := w.options
	o.Sessions = mortal{w.store, n}
	w.made++
	n.Node = atolltest.Start(t, &w.hub, "node"+strconv.Itoa(w.made), &atolltest.NodeOptions{
		Log: true, Server: atoll.Options{Recovery: &o}, Setup: func(srv *atoll.Server) { w.lobby.register(srv, "/") },
	})
	w.nodes = append(w.nodes, n)
	return n
}

// kill ends a node without a word to anybody.
func (w *world) kill(n *wnode) {
	n.dead.Store(true)
	n.Bus.SetDown(true)
	_ = n.Server.Close()
	w.nodes = slices.DeleteFunc(w.nodes, func(x *wnode) bool { return x == n })
}

// stop shuts a node down.
func (w *world) stop(t *testing.T, n *wnode) {
	if err := n.Server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	_ = n.Cluster.Close()
	w.nodes = slices.DeleteFunc(w.nodes, func(x *wnode) bool { return x == n })
}

// A client that comes back to another node: after its line was cut, after its node was stopped, or killed,
// while it was sent something and before, and before its old node knows.
func TestRecoveryOnAnotherNode(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, w *world, c *caller){
		"cut":      func(_ *testing.T, _ *world, c *caller) { c.line.cut() },
		"vanished": func(_ *testing.T, _ *world, c *caller) { c.line.vanish() },
		"stopped": func(t *testing.T, w *world, c *caller) {
			c.line.cut()
			w.stop(t, w.nodes[0])
		},
		"killed": func(_ *testing.T, w *world, c *caller) {
			c.line.cut()
			w.kill(w.nodes[0])
		},
	} {
		for _, before := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s, %d events before", name, before), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 3)
					home, other := w.nodes[0], w.nodes[1]
					c := call(t, home.Server, "/", map[string]any{"rooms": []string{"red"}, "name": "ann"})
					id := c.ID()
					red := w.nodes[2].Of("/").To("red")
					synctest.Wait()
					var want []string
					for i := range before {
						emitAll(t, red, fmt.Sprint("before", i))
						want = append(want, fmt.Sprint("e:before", i))
					}
					c.want(t, want...)
					c.line.up(other.Server)
					end(t, w, c)
					emitAll(t, red, "1", "2")
					emitAll(t, other.Of("/").To(id), "3")
					c.line.up(nil)
					c.wait(t, true)
					emitAll(t, red, "4")
					emitAll(t, other.Of("/").Socket(id), "5")
					c.want(t, "e:1", "e:2", "e:3", "e:4", "e:5")
					if got, want := fmt.Sprint(w.lobby.last().Rooms(), w.lobby.last().Data()), fmt.Sprint([]string{id, "red"}, map[string]any{"name": "ann"}); got != want {
						t.Errorf("got rooms and data %s, want %s", got, want)
					}
					time.Sleep(10 * time.Second)
					if name != "killed" {
						if n := home.Of("/").Sockets(); n != 0 {
							t.Errorf("got %d sockets on the old node, want none", n)
						}
					}
					if n, err := other.Of("/").Count(t.Context()); n != 1 || err != nil {
						t.Errorf("got %d sockets in the cluster and error %v, want 1", n, err)
					}
					// and on, five times, from node to node
					for i := range 5 {
						c.line.up(w.nodes[i%len(w.nodes)].Server)
						c.line.vanish()
						emitAll(t, w.nodes[(i+1)%len(w.nodes)].Of("/").To("red"), "away")
						c.wait(t, true)
						c.want(t, "e:away")
					}
				})
			})
		}
	}
}

// The store is away when a client connects: it is connected without a pid. The store loses everything: nobody
// is disconnected, and sessions are there again after a while.
func TestRecoveryStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		n := w.nodes[0]
		c := call(t, n.Server, "/", map[string]any{"rooms": []string{"red"}})
		n.dead.Store(true)
		without := call(t, n.Server, "/", map[string]any{"rooms": []string{"red"}})
		w.lobby.last().Join("blue")
		time.Sleep(5 * time.Minute) // longer than any session lives
		n.dead.Store(false)
		time.Sleep(time.Minute)
		emitAll(t, n.Of("/"), "1")
		c.want(t, "e:1")
		without.want(t, "e:1")
		c.line.cut()
		without.line.cut()
		synctest.Wait()
		emitAll(t, n.Of("/"), "2")
		c.line.up(nil)
		without.line.up(nil)
		c.wait(t, true)
		without.wait(t, false)
		c.want(t, "e:2")
		without.want(t)
	})
}

// What several nodes emit reaches each client exactly once and in the order that is the same for all,
// while lines are cut and nodes are stopped, killed and started.
func TestRecoveryAgainstModel(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { recoveryAgainstModel(t, rand.New(rand.NewPCG(seed, 3))) })
		})
	}
}

func recoveryAgainstModel(t *testing.T, rnd *rand.Rand) {
	w := newWorld(t, 3)
	callers := make([]*caller, 4)
	for i := range callers {
		room := "even"
		if i%2 == 1 {
			room = "odd"
		}
		callers[i] = call(t, w.nodes[i%3].Server, "/", map[string]any{"rooms": []string{"all", room}})
	}
	synctest.Wait()
	w.lobby.mu.Lock()
	w.lobby.slow = func() { time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond) }
	w.lobby.mu.Unlock()
	var mu sync.Mutex
	unsure := make(map[string]bool) // what an error was returned for: it may arrive, or not
	sent := make(map[string][]string)
	var emitters sync.WaitGroup
	emitFrom := func(n *wnode, name string, rooms []string, pauses []time.Duration) {
		emitters.Go(func() {
			for i, pause := range pauses {
				time.Sleep(pause)
				room := rooms[i%len(rooms)]
				text := fmt.Sprintf("%s-%d", name, i)
				err := n.Of("/").To(room).Emit(t.Context(), "e", text)
				mu.Lock()
				if err != nil {
					unsure["e:"+text] = true
				} else {
					sent[room] = append(sent[room], "e:"+text)
				}
				mu.Unlock()
				if n.dead.Load() || err != nil {
					return
				}
			}
		})
	}
	work := func(n *wnode) {
		pauses := make([]time.Duration, 40)
		for i := range pauses {
			pauses[i] = time.Duration(rnd.IntN(20)) * time.Millisecond
		}
		emitFrom(n, n.Name, []string{"all", "odd", "even"}, pauses)
	}
	for _, n := range w.nodes {
		work(n)
	}
	moved := make([]int, len(callers))
	for range 12 {
		time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond)
		switch k := rnd.IntN(10); {
		case k < 6:
			i := rnd.IntN(len(callers))
			callers[i].line.up(w.nodes[rnd.IntN(len(w.nodes))].Server)
			if k%2 == 0 {
				callers[i].line.vanish()
			} else {
				callers[i].line.cut()
				time.Sleep(time.Duration(rnd.IntN(10)) * time.Millisecond)
				callers[i].line.up(nil)
			}
			moved[i]++
		default:
			n := w.nodes[rnd.IntN(len(w.nodes))]
			work(w.start(t))
			alive := slices.DeleteFunc(slices.Clone(w.nodes), func(x *wnode) bool { return x == n })
			for _, c := range callers {
				if c.line.at(n.Server) {
					c.line.up(alive[rnd.IntN(len(alive))].Server)
				}
			}
			if k < 8 {
				w.kill(n)
			} else {
				w.stop(t, n)
			}
		}
	}
	emitters.Wait()
	time.Sleep(30 * time.Second)
	emitAll(t, w.nodes[0].Of("/").To("all"), "end")
	sent["all"] = append(sent["all"], "e:end")
	synctest.Wait()
	var order [2][]string // of the clients in even, and in odd
	for i, c := range callers {
		for len(c.back) > 0 {
			if !<-c.back {
				t.Errorf("client %d was connected anew, want it recovered each time", i)
			}
		}
		c.mu.Lock()
		got := c.seen
		c.mu.Unlock()
		room := []string{"even", "odd"}[i%2]
		var sure []string
		seen := make(map[string]bool)
		for _, e := range got {
			if seen[e] {
				t.Errorf("client %d got %s twice", i, e)
			}
			seen[e] = true
			if !unsure[e] {
				sure = append(sure, e)
			}
		}
		for _, r := range []string{"all", room} {
			for _, e := range sent[r] {
				if !seen[e] {
					t.Errorf("client %d has missed %s, sent to %s", i, e, r)
				}
			}
		}
		if len(sure) != len(sent["all"])+len(sent[room]) {
			t.Errorf("client %d got %d events, want %d", i, len(sure), len(sent["all"])+len(sent[room]))
		}
		if order[i%2] == nil {
			order[i%2] = sure
		} else if !slices.Equal(order[i%2], sure) {
			t.Errorf("clients %d and %d got events in different orders:\n%s\n%s", i-2, i, strings.Join(order[i%2], " "), strings.Join(sure, " "))
		}
	}
}
