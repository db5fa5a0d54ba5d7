package sticky

import (
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
)

// pick chooses a node for c, none of those that were tried, and counts a session as being opened there; the
// caller takes it out of opening again. It returns nil where no node is left, and notes why.
func (l *Balancer) pick(c *call) *backend {
	o, v := l.rules(), l.view.Load()
	if len(v.list) == 0 {
		return nil
	}
	opens := c.kind == handshake
	leads := l.leads(o, v, c)
	l.picking.Lock()
	defer l.picking.Unlock()
	if opens && o.Limits.Sessions > 0 && l.count(v) >= int64(o.Limits.Sessions) {
		c.trail.denied = tooManySessions
		return nil
	}
	var space [16]*backend
	list, full := eligible(space[:0], v.list, c.tried, opens)
	if len(list) == 0 {
		if full {
			c.trail.denied = tooManySessions
		}
		return nil
	}
	var b *backend
	switch {
	case !opens:
		b = inTurn(list, 1)
	case leads.b != nil && slices.Contains(list, leads.b):
		b = leads.b
	case leads.key != "":
		b = byHash(unloaded(list, o.HashLoad), leads.key)
	case o.Policy == RoundRobin:
		b = inTurn(list, 0)
	case o.Policy == Random:
		b = byChance(list)
	default:
		b = l.idlest(list, o.SlowStart)
	}
	b.opening.Add(1)
	return b
}

// A lead is what the affinities say: a node, and a key for the case that it is not to be had; or one of the two, or nothing.
type lead struct {
	b   *backend
	key string
}

// leads asks the affinities about a handshake.
func (l *Balancer) leads(o *Options, v *view, c *call) (r lead) {
	if c.kind != handshake && c.kind != session {
		return r
	}
	for _, a := range o.Affinity {
		b, key := a.lead(l, v, &c.head)
		if b != nil && r.b == nil {
			r.b = b
		}
		if key != "" {
			r.key = key
			return r
		}
	}
	if o.Policy == Hash {
		_, r.key = ClientAddress{32, 64}.lead(l, v, &c.head)
	}
	return r
}

// guess returns where a session may be whose id nobody knows, or nil.
func (l *Balancer) guess(c *call) *backend {
	o := l.rules()
	if len(o.Affinity) == 0 && o.Policy != Hash || c.head.method == http.MethodOptions {
		return nil
	}
	l.settled(c.ctx) // the hash is of all that are up, not of those that were checked first
	v := l.view.Load()
	r := l.leads(o, v, c)
	if r.b != nil && r.b.serves() {
		return r.b
	}
	if r.key == "" {
		return nil
	}
	var list []*backend
	for _, b := range v.list {
		if b.serves() {
			list = append(list, b)
		}
	}
	return byHash(list, r.key)
}

// setCookie fills in the cookie for the node that was chosen for a handshake.
func (c *call) setCookie() {
	c.cookie = ""
	for _, a := range c.l.rules().Affinity {
		if a, ok := a.(Cookie); ok {
			if cookieIn(&c.head, a.Name) != a.value(c.b) {
				c.cookie = a.set(c.b, c.l.o.Path)
			}
			return
		}
	}
}

// eligible appends to buf those of list that take what is new and were not tried. Nodes under suspicion are among them
// only where there are no others. It reports whether some are not among them because they are full.
func eligible(buf, list, tried []*backend, opens bool) (_ []*backend, full bool) {
	now := time.Now().UnixNano()
	suspects := 0
	for _, b := range list {
		if b.now() != Up || slices.Contains(tried, b) {
			continue
		}
		if most := b.most.Load(); opens && most > 0 && b.load() >= most {
			full = true
			continue
		}
		if b.suspected.Load() > now {
			suspects++
		}
		buf = append(buf, b)
	}
	if 0 < suspects && suspects < len(buf) {
		buf = slices.DeleteFunc(buf, func(b *backend) bool { return b.suspected.Load() > now })
	}
	return buf, full
}

// inTurn returns the next of list in the given order: 0 for sessions, 1 for other requests. Of nodes with
// weights 3 and 1, the turns are a a b a, not a a a b. The caller holds picking.
func inTurn(list []*backend, order int) *backend {
	var total int64
	var best *backend
	for _, b := range list {
		w := b.weight.Load()
		total += w
		b.turn[order] += w
		if best == nil || b.turn[order] > best.turn[order] {
			best = b
		}
	}
	best.turn[order] -= total
	return best
}

// byChance returns one of list by chance, in proportion to the weights.
func byChance(list []*backend) *backend {
	var total int64
	for _, b := range list {
		total += b.weight.Load()
	}
	n := rand.Int64N(total)
	for _, b := range list {
		if n -= b.weight.Load(); n < 0 {
			return b
		}
	}
	return list[0] // a weight has changed meanwhile
}

// idlest returns the one of list that has the fewest sessions for its weight, counted with the one to come. The
// caller holds picking.
func (l *Balancer) idlest(list []*backend, slow time.Duration) *backend {
	first := int(l.turn.Add(1) % uint64(len(list)))
	var best *backend
	var least float64
	for i := range list {
		b := list[(first+i)%len(list)]
		load := float64(b.load()+1) / (float64(b.weight.Load()) * b.warmth(slow))
		if best == nil || load < least {
			best, least = b, load
		}
	}
	return best
}

// warmth is how much of its share a node takes: all of it, or less in the time after it came up.
func (b *backend) warmth(slow time.Duration) float64 {
	if slow <= 0 {
		return 1
	}
	up := b.upAt.Load()
	if up == 0 {
		return 1
	}
	return min(1, max(0.05, float64(time.Now().UnixNano()-up)/float64(slow)))
}

// unloaded returns those of list that have less than bound times their share of the sessions, of which there is always one.
func unloaded(list []*backend, bound float64) []*backend {
	if bound <= 0 {
		return list
	}
	var total, weights int64
	for _, b := range list {
		total += b.load()
		weights += b.weight.Load()
	}
	var some []*backend
	for _, b := range list {
		share := float64(total+1) * float64(b.weight.Load()) / float64(weights)
		if float64(b.load()) < math.Ceil(bound*share) {
			some = append(some, b)
		}
	}
	if len(some) == 0 {
		return list
	}
	return some
}

// count is how many sessions there are, those included that are being opened.
func (l *Balancer) count(v *view) (n int64) {
	for _, b := range v.list {
		n += b.load()
	}
	return n
}
