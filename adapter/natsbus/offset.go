package natsbus

import (
	"cmp"
	"strconv"
	"strings"
)

// An epoch tells a stream from an earlier one of its name, whose numbers were others: when
// it was made, in nanoseconds.
type epoch int64

// offsetOf writes a place in the log: which stream, and the sequence in it.
func offsetOf(e epoch, seq uint64) string {
	b := strconv.AppendInt(make([]byte, 0, 40), int64(e), 36)
	return string(strconv.AppendUint(append(b, '-'), seq, 36))
}

func parseOffset(s string) (e epoch, seq uint64, ok bool) {
	a, b, ok := strings.Cut(s, "-")
	if !ok {
		return 0, 0, false
	}
	created, err := strconv.ParseInt(a, 36, 64)
	if err != nil {
		return 0, 0, false
	}
	seq, err = strconv.ParseUint(b, 36, 64)
	return epoch(created), seq, err == nil && offsetOf(epoch(created), seq) == s
}

// Compare implements cluster.Log. What is no offset is before all that are.
func (l *Log) Compare(a, b string) int {
	ea, sa, oka := parseOffset(a)
	eb, sb, okb := parseOffset(b)
	if !oka || !okb {
		switch {
		case oka:
			return 1
		case okb:
			return -1
		}
		return strings.Compare(a, b)
	}
	return cmp.Or(cmp.Compare(ea, eb), cmp.Compare(sa, sb))
}
