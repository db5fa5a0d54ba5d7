package redisstream

import (
	"cmp"
	"math"
	"strconv"
	"strings"
)

// An id is the id of an entry: milliseconds of Redis's clock, and a number among those of one millisecond.
type id struct{ ms, seq uint64 }

// parseID reads an id as Redis writes it.
func parseID(s string) (id, bool) {
	ms, seq, ok := strings.Cut(s, "-")
	a, ok1 := digits(ms)
	b, ok2 := digits(seq)
	return id{a, b}, ok && ok1 && ok2
}

// digits reads a number that is written in the one way that Redis writes it.
func digits(s string) (uint64, bool) {
	if s == "" || s[0] == '+' || s[0] == '-' || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

func (a id) String() string {
	b := strconv.AppendUint(make([]byte, 0, 24), a.ms, 10)
	return string(strconv.AppendUint(append(b, '-'), a.seq, 10))
}

func (a id) compare(b id) int {
	return cmp.Or(cmp.Compare(a.ms, b.ms), cmp.Compare(a.seq, b.seq))
}

func (a id) before(b id) bool { return a.compare(b) < 0 }

// previous returns the last id that an entry before a can have.
func (a id) previous() id {
	switch {
	case a.seq > 0:
		return id{a.ms, a.seq - 1}
	case a.ms > 0:
		return id{a.ms - 1, math.MaxUint64}
	default:
		return a
	}
}
