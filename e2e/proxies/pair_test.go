//go:build unix

package proxies

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// pair has clients talk in a cluster of an Atoll node and a Node.js node, and kills each of them once, under load. Behind
// configurations of others only that of Atoll: it takes a third of the time.
func (w *world) pair(t *testing.T, s *setUp, c *crowd, r *result) {
	t.Helper()
	defer take(w.light)()
	dir := t.TempDir()
	all := w.startPair(t, dir, "pair-"+strings.Map(word, s.name))
	f := w.front(t, dir, all)
	s.start(t, f)
	c.lenient = false
	got := c.do(t, "connect", object{"group": "g", "url": f.url(), "count": few, "room": "pair", "cookies": s.cookies})
	drops := c.do(t, "talk", object{"group": "g"}).Drops
	r.Mixed = "yes"
	if got.Connected != few || len(got.Failures)+len(drops) > 0 {
		r.Mixed = "no"
		t.Errorf("beside Node.js: got %d of %d clients connected, failures %v, lost %q, want all and none", got.Connected, few, got.Failures, drops)
	}
	if w.browser != nil {
		r.Browser.Pair = w.near(t, s, f, "beside Node.js")
		w.browser.do(t, "close", object{"group": s.name + ", near"})
	}

	c.lenient = !s.ours()
	r.Pair = make(map[string]*loss)
	for i, name := range []string{"atoll", "js"} {
		if name == "js" && !s.ours() {
			break
		}
		c.do(t, "load", object{"group": "g"})
		c.do(t, "calm", object{"group": "g", "ms": 300})
		l := s.lose(t, c, f, all[i], s.avoids+1500*time.Millisecond)
		c.do(t, "stop", object{"group": "g"})
		thrown := 0
		if s.moves {
			thrown = l.Marked
		}
		s.judge(t, fmt.Sprintf("the %s node of two", name), &l, 0, thrown)
		r.Pair[name] = &l
		if s.moves { // those who were sent back come again
			c.do(t, "settle", object{"group": "g"})
		}
	}
	c.do(t, "leave", object{"group": "g"})
}
