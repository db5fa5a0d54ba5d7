//go:build unix

package proxies

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// browsed is what pages of other origins met in a browser, all with withCredentials.
type browsed struct {
	Near, Other map[string]bool // by mode: of the same site at another port, and of another site
	Pair        map[string]bool // near, in front of an Atoll and a Node.js node; nil where that was not tried
	Refused     bool            // an origin that no node allows was refused, in all modes
	Left        []string        // modes whose client was left waiting when no node was there, or did not come back
	Gone        map[string]int  // by mode: ms until a client knew that no node is there
	Back        map[string]int  // by mode: ms until it was served again after they were started
}

// tries are for a machine that is so busy that a session ends for that; see browser/tabs.mjs. No time-out that ends one is
// shorter than soon, so who fails sooner met something else: at most a node that was busy, and out for a moment.
const (
	tries    = 3
	soon     = 1000 // ms
	soonMost = 1    // visits of three modes
)

// browse has pages of other origins connect through a set-up in front of three nodes.
func (w *world) browse(t *testing.T, s *setUp, f *front, r *result) {
	t.Helper()
	defer take(w.light)()
	b := &browsed{Near: w.near(t, s, f, "three nodes")}
	r.Browser = b
	b.Other = w.other(t, s, f)
	b.Refused = w.refused(t, s, f)
	w.browser.do(t, "close", object{"group": s.name + ", far"})
	w.none(t, s, f, b)
}

// visited returns what visits have shown, by mode.
func visited(visits []visit) map[string]bool {
	ok := make(map[string]bool)
	for _, mode := range modes {
		ok[mode] = false
	}
	for _, v := range visits {
		ok[v.Mode] = v.Connected && (v.Transport == "polling") == (v.Mode == "polling")
	}
	return ok
}

// again complains about visits in front of our own configurations that failed soon, and returns how many were made again.
func (s *setUp) again(t *testing.T, where string, visits []visit) int {
	t.Helper()
	quick := 0
	for _, v := range visits {
		if !v.Connected && v.MS < soon {
			quick++
		}
	}
	if s.ours() && quick > soonMost {
		t.Errorf("browser, %s: got %+v, %d failed within %d ms, want %d at most", where, visits, quick, soon, soonMost)
	}
	more := len(visits) - len(modes)
	if more > 0 {
		t.Logf("browser, %s: some had to try again: %+v", where, visits)
	}
	return more
}

// near connects from a page of the same site at another port, whose cookies come back: that of the nodes, and where the balancer
// has one of its own too, with which all three clients come to the node of the first.
func (w *world) near(t *testing.T, s *setUp, f *front, where string) map[string]bool {
	t.Helper()
	group := s.name + ", near"
	name := group + ", " + where
	got := w.browser.do(t, "visit", object{"group": group, "page": w.browser.pages.near, "url": f.url(), "name": name, "modes": transports, "tries": tries})
	ok := visited(got.Visits)
	if !ok["polling"] || !ok["upgrade"] || !ok["websocket"] {
		t.Errorf("browser, %s: got %+v, want all connected", where, got.Visits)
		return ok
	}
	again := s.again(t, where, got.Visits)
	total, asked := f.nodes.seen(t, name)
	if total.Requests < 10 || total.Cookies < total.Requests-1-again { // the answer to the first may have been lost
		t.Errorf("browser, %s: got the cookie io with %d of %d requests, want with all but the first", where, total.Cookies, total.Requests)
	}
	if s.cookies && asked != 1 && again == 0 { // else the node may have been out
		t.Errorf("browser, %s: got requests at %d nodes, want at one: the balancer's cookie names it", where, asked)
	}
	return ok
}

// other connects from a page of another site, where cookies of SameSite=Lax do not come back. Atoll nodes need none.
func (w *world) other(t *testing.T, s *setUp, f *front) map[string]bool {
	t.Helper()
	name := s.name + ", other"
	got := w.browser.do(t, "visit", object{"group": s.name + ", far", "page": w.browser.pages.other, "url": f.url(), "name": name, "modes": transports, "tries": tries})
	ok := visited(got.Visits)
	if !ok["polling"] || !ok["upgrade"] || !ok["websocket"] {
		t.Errorf("browser, another site: got %+v, want all connected", got.Visits)
	}
	s.again(t, "another site", got.Visits)
	if total, _ := f.nodes.seen(t, name); total.Cookies != 0 {
		t.Errorf("browser, another site: got the cookie io with %d requests, want with none", total.Cookies)
	}
	return ok
}

// refused connects from a page of an origin that no node allows.
func (w *world) refused(t *testing.T, s *setUp, f *front) bool {
	t.Helper()
	name := s.name + ", stranger"
	got := w.browser.do(t, "visit", object{"group": s.name + ", far", "page": w.browser.pages.stranger, "url": f.url(), "name": name, "modes": transports, "tries": 1})
	ok := len(got.Visits) == len(modes)
	for _, v := range got.Visits {
		ok = ok && !v.Connected && strings.HasSuffix(v.Error, " error") // "timeout" where nobody answered
	}
	total, _ := f.nodes.seen(t, name)
	if ok = ok && total.Requests == len(modes); !ok {
		t.Errorf("browser, an origin that is not allowed: got %+v, %d requests, want each refused with its first", got.Visits, total.Requests)
	}
	return ok
}

// none kills all nodes under clients that stay, whom the balancer then has to answer itself, and starts them again.
func (w *world) none(t *testing.T, s *setUp, f *front, b *browsed) {
	t.Helper()
	const limit = 30_000 // ms
	group := s.name + ", near"
	here := w.browser.do(t, "stay", object{"group": group, "page": w.browser.pages.near, "url": f.url(), "name": group, "modes": transports})
	for _, k := range here.Kept {
		if !k.OK && s.ours() {
			t.Errorf("browser, clients that stay: got %+v, want all connected", here.Kept)
		}
	}
	began := time.Now()
	for _, n := range f.nodes {
		n.kill()
	}
	gone := w.browser.do(t, "until", object{"group": group, "what": "refused", "ms": limit})
	again := time.Now()
	for _, n := range f.nodes {
		n.launch(t, f.dir)
	}
	f.nodes.await(t)
	back := w.browser.do(t, "until", object{"group": group, "what": "back", "ms": limit})
	w.browser.do(t, "close", object{"group": group})

	b.Gone, b.Back = make(map[string]int), make(map[string]int)
	for i, k := range gone.Kept {
		b.Gone[k.Mode], b.Back[k.Mode] = -1, -1
		if k.OK && k.Error != "timeout" {
			b.Gone[k.Mode] = int(k.Refused - began.UnixMilli())
		}
		if later := back.Kept[i]; later.OK {
			b.Back[k.Mode] = int(later.Back - again.UnixMilli())
		}
		if b.Gone[k.Mode] < 0 || b.Back[k.Mode] < 0 {
			b.Left = append(b.Left, k.Mode)
		}
	}
	if s.ours() && len(b.Left) > 0 {
		t.Errorf("browser, no node is there: got %+v, and %+v when they were back, want each answered, and served again within %d ms", gone.Kept, back.Kept, limit)
	}
}

// A count is what nodes have seen of the requests of a name.
type count struct {
	Requests int
	Cookies  int // requests with the cookie io
}

// seen returns what all nodes have seen of a name, and how many of them have seen any.
func (all nodes) seen(t testing.TB, name string) (total count, asked int) {
	t.Helper()
	for _, n := range all {
		res, err := http.Get(fmt.Sprintf("http://%s/seen?name=%s", n.addr, url.QueryEscape(name)))
		if err != nil {
			t.Fatal(err)
		}
		var c count
		err = json.NewDecoder(res.Body).Decode(&c)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		total.Requests += c.Requests
		total.Cookies += c.Cookies
		if c.Requests > 0 {
			asked++
		}
	}
	return total, asked
}
