package sticky

import "math"

// hashOf returns 64 bits of s that are the same in every process: FNV-1a, mixed.
func hashOf(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix makes each bit of the result depend on each of h. It is the end of SplitMix64.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// score is how much the key with the given hash wants to go to b; it goes to the node with the highest score. A
// node gets keys in proportion to its weight, and a change of it moves no key between others.
func (b *backend) score(key uint64) float64 {
	u := (float64(mix(key^b.hash)>>11) + 0.5) / (1 << 53) // in (0, 1)
	return -float64(b.weight.Load()) / math.Log(u)
}

// byHash returns which of list the key goes to.
func byHash(list []*backend, key string) *backend {
	h := hashOf(key)
	var best *backend
	var most float64
	for _, b := range list {
		if s := b.score(h); best == nil || s > most {
			best, most = b, s
		}
	}
	return best
}
