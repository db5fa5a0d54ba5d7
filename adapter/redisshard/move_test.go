//go:build unix

package redisshard_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/redisshard"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/redistest"
)

// A talker is a node that tells the others numbered events, to all and to a room in turns, and notes
// what comes.
type talker struct {
	*cluster.Node
	bus  *redisshard.Bus
	sent int // once stop has returned
	quit chan struct{}
	done chan struct{}

	mu    sync.Mutex
	last  map[string]int // by sender and lane
	got   int
	wrong []string
}

func talk(t *testing.T, name string, mode redisshard.Mode, addrs []string) *talker {
	t.Helper()
	x := &talker{
		bus:  open(t, &redisshard.Options{Mode: mode, Logger: quiet}, addrs...),
		quit: make(chan struct{}), done: make(chan struct{}), last: make(map[string]int),
	}
	var err error
	x.Node, err = cluster.Join(t.Context(), x.bus, &cluster.Options{
		Name: name, Heartbeat: 100 * time.Millisecond, DeadAfter: 2 * time.Second, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	if err := x.Attach(x); err != nil {
		t.Fatal(err)
	}
	if err := x.Open(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	if err := x.Enter(t.Context(), "/", "room"); err != nil {
		t.Fatal(err)
	}
	return x
}

// start begins to talk.
func (x *talker) start(t *testing.T) {
	go func() {
		defer close(x.done)
		for {
			select {
			case <-x.quit:
				return
			case <-time.After(3 * time.Millisecond):
			}
			x.sent++
			lane := "all"
			op := &cluster.Op{Kind: cluster.Emit, Namespace: "/"}
			if x.sent%2 == 0 {
				lane, op.Rooms = "room", []string{"room"}
			}
			op.Data = fmt.Appendf(nil, `["%s %s",%d]`, x.Name(), lane, x.sent)
			if err := x.Tell(t.Context(), op); err != nil && !errors.Is(err, cluster.ErrDelayed) {
				t.Errorf("Tell: %v", err)
			}
		}
	}()
}

func (x *talker) stop() {
	close(x.quit)
	<-x.done
}

func (x *talker) Do(op *cluster.Op, answer func(cluster.Answer)) {
	if answer != nil {
		answer(cluster.Answer{First: true})
		return
	}
	lane, number, _ := strings.Cut(strings.Trim(string(op.Data), "[]"), ",")
	n, _ := strconv.Atoi(number)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.got++; n <= x.last[lane] {
		x.wrong = append(x.wrong, fmt.Sprintf("%s: %d behind %d", lane, n, x.last[lane]))
	}
	x.last[lane] = n
}

func (x *talker) received() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.got
}

// TestSlots has the slots of the channels move to other servers, and the server of a channel die and
// be replaced, while three nodes talk: what is delivered and what is reported as lost are all that was
// sent, in order, and the channels are live again soon.
func TestSlots(t *testing.T) {
	for _, mode := range modes[:2] {
		t.Run(string(mode), func(t *testing.T) {
			settle(t)
			c := redistest.StartReplicated(t)
			var xs []*talker
			for _, name := range []string{"a", "b", "c"} {
				xs = append(xs, talk(t, name, mode, c.Addrs()))
			}
			for _, x := range xs {
				eventually(t, "two peers", func() bool { return len(x.Peers()) == 2 })
			}
			for _, x := range xs {
				x.start(t)
			}
			const all, room = "socket.io#/#", "socket.io#/#room#"
			channels := []string{all}
			if mode == redisshard.Dynamic {
				channels = append(channels, room)
			}
			live := func(what string) {
				t.Helper()
				start := time.Now()
				for _, channel := range channels {
					eventually(t, "three subscribers "+what, func() bool {
						n, err := xs[0].bus.Count(t.Context(), channel)
						return n == 3 && err == nil
					})
				}
				t.Logf("%s: live again after %v", what, time.Since(start).Round(time.Millisecond))
			}
			live("at the start")
			for range 2 {
				for _, channel := range channels {
					slot := c.Slot(t, channel)
					if got := redisshard.SlotOf(channel); got != slot {
						t.Fatalf("slot of %q: got %d, want %d", channel, got, slot)
					}
					primaries := c.Primaries(t)
					to := primaries[0]
					if c.Owner(t, slot) == to {
						to = primaries[1]
					}
					c.MoveSlot(t, slot, to)
					live("when slot " + channel + " had moved")
				}
			}
			slot := c.Slot(t, all)
			owner := c.Owner(t, slot)
			owner.Kill()
			c.Promoted(t, slot, owner)
			live("when the server of " + all + " was replaced")
			time.Sleep(300 * time.Millisecond)
			sent := 0
			for _, x := range xs {
				x.stop()
				sent += x.sent
			}
			for _, x := range xs {
				want := sent - x.sent
				eventually(t, fmt.Sprintf("%d messages delivered to %s or reported as lost", want, x.Name()), func() bool {
					return x.received()+int(x.Stats().Gaps) >= want
				})
				lost := int(x.Stats().Gaps)
				if got := x.received(); got+lost != want {
					t.Errorf("node %s: got %d messages and %d lost, want %d together", x.Name(), got, lost, want)
				}
				if len(x.wrong) > 0 {
					t.Errorf("node %s: got %v, want the order of each sender on each channel", x.Name(), x.wrong[:min(5, len(x.wrong))])
				}
				if got := x.bus.Links(); got > 3 {
					t.Errorf("node %s: got %d connections for subscriptions, want 3 at most", x.Name(), got)
				}
				t.Logf("node %s: %d sent by others, %d lost, %+v, %d repaired", x.Name(), want, lost, x.bus.Stats(), x.Stats().Repaired)
			}
		})
	}
}

// TestRounds has a node join a room and another one send to it at once, again and again.
func TestRounds(t *testing.T) {
	s := redistest.Start(t)
	a := talk(t, "a", redisshard.Dynamic, []string{s.Addr()})
	b := talk(t, "b", redisshard.Dynamic, []string{s.Addr()})
	for _, x := range []*talker{a, b} {
		eventually(t, "a peer", func() bool { return len(x.Peers()) == 1 })
	}
	const rounds = 2000
	for i := range rounds {
		room := "round " + strconv.Itoa(i)
		if err := b.Enter(t.Context(), "/", room); err != nil {
			t.Fatal(err)
		}
		op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: fmt.Appendf(nil, `["x",%d]`, i+1)}
		op.Rooms = []string{room}
		if err := a.Tell(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all messages", func() bool { return b.received() == rounds })
	if lost := b.Stats().Gaps; lost > 0 || a.received() > 0 {
		t.Errorf("got %d lost, and %d at the sender, want none", lost, a.received())
	}
}

// TestToldJoin has a node make a remote socket join a room, and send to the room at once: that goes to all.
func TestToldJoin(t *testing.T) {
	s := redistest.Start(t)
	a := talk(t, "a", redisshard.Dynamic, []string{s.Addr()})
	b := talk(t, "b", redisshard.Dynamic, []string{s.Addr()})
	for _, x := range []*talker{a, b} {
		eventually(t, "a peer", func() bool { return len(x.Peers()) == 1 })
	}
	const rounds = 200
	for i := range rounds {
		room := "round " + strconv.Itoa(i)
		join := &cluster.Op{Kind: cluster.JoinRooms, Namespace: "/", Names: []string{room}, Data: nil}
		if err := a.Tell(t.Context(), join); err != nil {
			t.Fatal(err)
		}
		op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: fmt.Appendf(nil, `["x",%d]`, i+1)}
		op.Rooms = []string{room}
		if err := a.Tell(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the joins and all messages", func() bool { return b.received() == 2*rounds })
}
