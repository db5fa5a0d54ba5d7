package clustertest

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/atollhq/atoll/cluster"
)

// TestRouted tests nodes that send what is for one room only to where the room has members.
func TestRouted(t *testing.T, open Open) { (&suite{open: open, routed: true}).routes(t) }

// SimulateRouted is TestRouted in simulated time.
func SimulateRouted(t *testing.T, open Open) {
	(&suite{open: open, routed: true, simulated: true}).routes(t)
}

func (s *suite) routes(t *testing.T) {
	s.run(t, "rooms of every name", s.rooms)
	s.run(t, "enter, and be reached at once", s.enter)
	s.run(t, "only where there are members", s.elsewhere)
}

// elsewhere tests that a node without members of a room gets nothing that is for it.
func (s *suite) elsewhere(t *testing.T) {
	a, b, c := s.three(t)
	s.eventually(t, "three nodes that route", func() bool { return a.Routes() && b.Routes() && c.Routes() })
	if err := b.Enter(t.Context(), "/", "here"); err != nil {
		t.Fatalf("Enter: %v", err)
	}
	tell := func(room string) {
		op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: []byte(`["in"]`)}
		if room != "" {
			op.Rooms = []string{room}
		}
		if err := a.Tell(t.Context(), op); err != nil {
			t.Fatalf("Tell: %v", err)
		}
	}
	const count = 50
	for range count {
		tell("here")
	}
	tell("")
	s.eventually(t, "operations at the member's node", func() bool { return len(b.server.done()) == count+1 })
	s.eventually(t, "the operation for all", func() bool { return len(c.server.done()) > 0 })
	if got := len(c.server.done()); got != 1 {
		t.Errorf("the node without members: got %d operations, want the 1 that is for all", got)
	}
	b.Exit("/", "here")
}

// rooms tests that a room's name is only a name.
func (s *suite) rooms(t *testing.T) {
	a, b, c := s.three(t)
	names := []string{
		"r", "", " ", "*", "#", "a#b#", "/", "7", "-1", "0x10", "ü", "💧", "\u2028", "\t", `"`, `'; --`, "\\", "a[b]", "?", "<script>",
		"twenty-characters-ab", a.ID(), b.ID(), c.ID(), strings.Repeat("long", 75), "__proto__", "null",
	}
	for _, m := range []*member{b, c} {
		if err := m.Enter(t.Context(), "/", names...); err != nil {
			t.Fatalf("Enter: %v", err)
		}
	}
	for _, name := range names {
		op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: []byte(`["in"]`), Selector: cluster.Selector{Rooms: []string{name}}}
		if err := a.Tell(t.Context(), op); err != nil {
			t.Fatalf("Tell to room %q: %v", name, err)
		}
	}
	for _, m := range []*member{b, c} {
		s.eventually(t, "one operation for each room", func() bool { return len(m.server.done()) >= len(names) })
		var got []string
		for _, op := range m.server.done() {
			got = append(got, op.Rooms...)
		}
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(names)); !slices.Equal(got, want) {
			t.Errorf("node %s: got operations for rooms %q, want %q", m.Name(), got, want)
		}
		m.Exit("/", names...)
	}
}

// manyNamespaces opens ten thousand and gives them up again.
func (s *suite) manyNamespaces(t *testing.T) {
	count, step := 10_000, 500
	if testing.Short() {
		count = 1000
	}
	a, b, _ := s.three(t)
	name := func(i int) string { return "/many/" + strconv.Itoa(i) }
	each := func(f func(name string) error) {
		t.Helper()
		var wg sync.WaitGroup
		var once sync.Once
		for worker := range 32 {
			wg.Go(func() {
				for i := worker; i < count; i += 32 {
					if err := f(name(i)); err != nil {
						once.Do(func() { t.Errorf("namespace %s: %v", name(i), err) })
						return
					}
				}
			})
		}
		wg.Wait()
	}
	each(func(name string) error { return b.Open(t.Context(), name) })
	for i := 0; i < count; i += step {
		op := &cluster.Op{Kind: cluster.Emit, Namespace: name(i), Data: []byte(`["in"]`)}
		if err := a.Tell(t.Context(), op); err != nil {
			t.Fatalf("Tell: %v", err)
		}
	}
	s.eventually(t, "operations in many namespaces", func() bool { return len(b.server.done()) >= count/step })
	each(b.CloseNamespace)
	if got := len(b.server.done()); got != count/step {
		t.Errorf("got %d operations, want %d", got, count/step)
	}
}

// enter tests that a node that has entered a room is reached by whoever sends to the room then.
// ATOLL_TEST_ROUNDS says how often; 5,000 times if it is not set.
func (s *suite) enter(t *testing.T) {
	rounds := 5000
	if v, err := strconv.Atoi(os.Getenv("ATOLL_TEST_ROUNDS")); err == nil && v > 0 {
		rounds = v
	}
	if testing.Short() || s.simulated {
		rounds = min(rounds, 1000)
	}
	const workers = 32
	a, b, _ := s.three(t)
	seen := make([]bool, rounds)
	got := 0
	var mu sync.Mutex
	b.server.hook(func(op *cluster.Op) {
		mu.Lock()
		defer mu.Unlock()
		if i, err := strconv.Atoi(strings.TrimPrefix(op.Rooms[0], "round ")); err == nil && !seen[i] {
			seen[i] = true
			got++
		}
	})
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < rounds; i += workers {
				room := fmt.Sprint("round ", i)
				if err := b.Enter(t.Context(), "/", room); err != nil {
					t.Errorf("Enter: %v", err)
					return
				}
				op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Data: []byte(`["in"]`), Selector: cluster.Selector{Rooms: []string{room}}}
				if err := a.Tell(t.Context(), op); err != nil {
					t.Errorf("Tell: %v", err)
					return
				}
				b.Exit("/", room)
			}
		})
	}
	wg.Wait()
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return got
	}
	s.eventually(t, "all messages to rooms that were just entered", func() bool { return count() == rounds })
}
