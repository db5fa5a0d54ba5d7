package cluster

// A span is a run of numbers that have not come.
type span struct{ first, last uint64 }

// numbers follows the numbers of the answers to one question, which may come in any order: which were seen,
// and which not.
type numbers struct {
	high  uint64 // the highest seen
	holes []span // below high, in order
}

const maxHoles = 1024 // what is in older ones is taken to have been seen

// first reports whether k, from 1, comes for the first time.
func (s *numbers) first(k uint64) bool {
	if k > s.high {
		if k > s.high+1 {
			s.holes = append(s.holes, span{s.high + 1, k - 1})
			if len(s.holes) > maxHoles {
				s.holes = append(s.holes[:0], s.holes[1:]...)
			}
		}
		s.high = k
		return true
	}
	for i := len(s.holes) - 1; i >= 0; i-- {
		h := &s.holes[i]
		switch {
		case k > h.last:
			return false
		case k < h.first:
			continue
		case h.first == h.last:
			s.holes = append(s.holes[:i], s.holes[i+1:]...)
		case k == h.first:
			h.first++
		case k == h.last:
			h.last--
		default:
			rest := span{k + 1, h.last}
			h.last = k - 1
			s.holes = append(s.holes, span{})
			copy(s.holes[i+2:], s.holes[i+1:])
			s.holes[i+1] = rest
		}
		return true
	}
	return false
}
