package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestNumbers(t *testing.T) {
	type step struct {
		k    uint64
		want bool
	}
	for name, steps := range map[string][]step{
		"in order":            {{1, true}, {2, true}, {3, true}},
		"begins anywhere":     {{7, true}, {8, true}, {6, true}, {6, false}, {8, false}},
		"again":               {{1, true}, {1, false}, {2, true}, {1, false}, {2, false}},
		"late":                {{1, true}, {5, true}, {3, true}, {3, false}, {2, true}, {4, true}, {4, false}, {6, true}},
		"edges of a hole":     {{1, true}, {6, true}, {2, true}, {5, true}, {2, false}, {5, false}, {3, true}, {4, true}, {4, false}},
		"two holes":           {{1, true}, {3, true}, {5, true}, {2, true}, {4, true}, {2, false}, {4, false}, {6, true}},
		"the middle of three": {{1, true}, {3, true}, {5, true}, {7, true}, {4, true}, {4, false}, {2, true}, {6, true}},
	} {
		t.Run(name, func(t *testing.T) {
			var s numbers
			for i, st := range steps {
				if got := s.first(st.k, time.Time{}); got != st.want {
					t.Fatalf("step %d: first(%d): got %v, want %v", i, st.k, got, st.want)
				}
			}
		})
	}
}

func TestNumbersLost(t *testing.T) {
	start := time.Unix(1000, 0)
	var s numbers
	s.upTo(0, start) // announced that the first message will be number 1
	s.first(3, start)
	s.first(4, start.Add(time.Second))
	s.upTo(6, start.Add(time.Second))
	if lost := s.settle(start.Add(time.Second/2), time.Second); lost != nil {
		t.Errorf("after half a second: got lost %v, want none yet", lost)
	}
	if got, want := fmt.Sprint(spans(s.settle(start.Add(time.Second), time.Second))), "[1-2]"; got != want {
		t.Errorf("after a second: got lost %v, want %v", got, want)
	}
	if !s.first(2, start) || s.first(2, start) {
		t.Error("a message that was reported as lost and comes twice: want it taken once")
	}
	if got, want := fmt.Sprint(spans(s.settle(start.Add(2*time.Second), time.Second))), "[5-6]"; got != want {
		t.Errorf("after two seconds: got lost %v, want %v", got, want)
	}
	if lost := s.settle(start.Add(time.Hour), time.Second); lost != nil {
		t.Errorf("after an hour: got lost %v, want each reported once", lost)
	}
}

func spans(ss []span) []string {
	var out []string
	for _, s := range ss {
		out = append(out, fmt.Sprintf("%d-%d", s.first, s.last))
	}
	return out
}

// Whatever the order, each number is taken once, and what never came is reported once.
func TestNumbersShuffled(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		const count = 400
		missing := map[uint64]bool{}
		var ks []uint64
		for k := uint64(1); k <= count; k++ {
			if r.IntN(10) == 0 {
				missing[k] = true
				continue
			}
			ks = append(ks, k)
			if r.IntN(5) == 0 {
				ks = append(ks, k)
			}
		}
		for i := range ks { // near its place
			j := min(len(ks)-1, i+r.IntN(20))
			ks[i], ks[j] = ks[j], ks[i]
		}
		var s numbers
		s.upTo(0, time.Time{})
		taken := map[uint64]int{}
		for _, k := range ks {
			if s.first(k, time.Time{}) {
				taken[k]++
			}
			if !slices.IsSortedFunc(s.holes, func(a, b span) int { return int(a.last) - int(b.first) }) {
				t.Fatalf("seed %d: holes %v are not in order", seed, spans(s.holes))
			}
		}
		s.upTo(count, time.Time{})
		for _, l := range s.settle(time.Unix(1, 0), time.Second) {
			for k := l.first; k <= l.last; k++ {
				if !missing[k] {
					t.Errorf("seed %d: %d reported as lost, but it came", seed, k)
				}
				delete(missing, k)
			}
		}
		if len(missing) > 0 {
			t.Errorf("seed %d: %v lost and not reported", seed, missing)
		}
		for k, n := range taken {
			if n != 1 {
				t.Errorf("seed %d: %d taken %d times, want once", seed, k, n)
			}
		}
	}
}

func TestSendersBounded(t *testing.T) {
	var s senders
	var lost uint64
	gap := func(_ string, first, last uint64) { lost += last - first + 1 }
	for i := range 2 * maxSenders {
		s.first(fmt.Sprint(i), 1, 1, gap)
	}
	if got := len(s.all); got > maxSenders {
		t.Errorf("got %d senders, want at most %d", got, maxSenders)
	}
	const holes = 3 * maxHoles
	for i := range uint64(holes) {
		s.first("many holes", 1, 2*i+1, gap)
	}
	x := s.all[sender{"many holes", 1}]
	if got := len(x.holes); got > maxHoles {
		t.Errorf("got %d holes, want at most %d", got, maxHoles)
	}
	s.settle(time.Now().Add(time.Hour), time.Second, gap)
	if lost != holes-1 {
		t.Errorf("got %d lost messages, want %d", lost, holes-1)
	}
	s.settle(time.Now().Add(time.Hour), time.Second, gap)
	if got := len(s.all); got != 0 {
		t.Errorf("after an hour of silence, got %d senders, want none", got)
	}
}
