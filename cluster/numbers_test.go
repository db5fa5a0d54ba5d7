package cluster

import (
	"math/rand/v2"
	"slices"
	"testing"
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
				if got := s.first(st.k); got != st.want {
					t.Fatalf("step %d: first(%d): got %v, want %v", i, st.k, got, st.want)
				}
			}
		})
	}
}

// Whatever the order, each number is taken once.
func TestNumbersShuffled(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		const count = 400
		dup := 0
		var ks []uint64
		for k := uint64(1); k <= count; k++ {
			if r.IntN(10) == 0 {
				continue
			}
			ks = append(ks, k)
			if r.IntN(5) == 0 {
				ks = append(ks, k)
				dup++
			}
		}
		for i := range ks { // near its place
			j := min(len(ks)-1, i+r.IntN(20))
			ks[i], ks[j] = ks[j], ks[i]
		}
		var s numbers
		taken := map[uint64]int{}
		for _, k := range ks {
			if s.first(k) {
				taken[k]++
			}
			if !slices.IsSortedFunc(s.holes, func(a, b span) int { return int(a.last) - int(b.first) }) {
				t.Fatalf("seed %d: holes %v are not in order", seed, s.holes)
			}
		}
		if want := len(ks) - dup; len(taken) != want {
			t.Errorf("seed %d: got %d numbers, want %d", seed, len(taken), want)
		}
		for k, n := range taken {
			if n != 1 {
				t.Errorf("seed %d: %d taken %d times, want once", seed, k, n)
			}
		}
	}
}
