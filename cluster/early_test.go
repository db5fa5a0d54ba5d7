package cluster

import (
	"testing"
	"time"
)

// TestEarlyMark has a lane's mark overtake its first messages, by another way: they are performed when they
// come, in order and once, though nobody waited for them so long.
func TestEarlyMark(t *testing.T) {
	var got []string
	h := &hold{
		limit: 1 << 20, wake: make(chan struct{}, 1),
		put:   func(w work) bool { got = append(got, w.from); return true },
		gap:   func(from string, first, last uint64) { t.Errorf("got a gap from %d to %d, want none", first, last) },
		lanes: make(map[laneID]*inlane), named: make(map[string][]*inlane), open: make(map[*inlane]struct{}),
		contacts: make(map[sender]*contact), listening: map[string]time.Time{"room": time.Now()},
	}
	id := laneID{sender{"a", 1}, "room"}
	accept := func(k uint64, name string, want bool) {
		t.Helper()
		if took := h.accept(id, k, work{from: name}, true, false); took != want {
			t.Errorf("number %d: got %v, want %v", k, took, want)
		}
	}
	h.mark(id, 4, 0)
	h.step(time.Now().Add(time.Second), time.Second, true, true, pace{grace: time.Millisecond, wait: time.Minute})
	accept(1, "1", true)
	accept(1, "again", false)
	accept(3, "3", true)
	accept(2, "behind 3", false)
	accept(4, "4", true)
	if len(got) != 3 || got[0] != "1" || got[1] != "3" || got[2] != "4" {
		t.Errorf("got %q performed, want 1, 3 and 4", got)
	}
}
