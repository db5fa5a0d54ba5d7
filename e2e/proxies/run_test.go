//go:build unix

package proxies

import (
	"encoding/json"
	"flag"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// atOnce is how many set-ups are under load at the same time; as many are before the browser or beside Node.js. All wait for their long polls at the same time.
const atOnce = 3

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of the time the set-ups wait; who works takes a turn (world.turns, world.light).
	if err := flag.Set("test.parallel", "64"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

var wait = flag.Bool("idle", true, "wait for long polls that are idle for more than a minute")

const (
	clients = 60
	few     = 18 // clients of the pair
)

// A result is what was seen of a set-up: a row of the table.
type result struct {
	Order                      int // in the table
	Name, Program, File, Needs string

	Works     map[string]bool // by mode: all clients connected, and nothing was lost, there twice or out of order
	Large     bool            // a megabyte of text, and one of bytes, in each mode
	Long      map[string]bool // by mode: idle for more than a minute
	Idle      bool            // Long was waited for
	LongWhy   []string
	Addresses bool // the nodes know the addresses of the clients
	H2        bool // polling over HTTP/2 was tried
	loss           // of one of three nodes

	Browser *browsed         // nil where there is none
	Pair    map[string]*loss // of either of an Atoll and a Node.js node, "atoll" and "js"; nil where Node.js nodes cannot be
	Mixed   string           // "yes", "no": all is well with the two; empty where Node.js nodes cannot be
}

var modes = []string{"polling", "upgrade", "websocket"}

func TestSetUps(t *testing.T) {
	w := startWorld(t)
	t.Run("all", func(t *testing.T) {
		for i, s := range setUps {
			t.Run(strings.ReplaceAll(s.name, " ", "_"), func(t *testing.T) {
				t.Parallel()
				if _, ok := find(s.program); !ok {
					t.Skipf("%s is not installed%s", s.program, hints[s.program])
				}
				w.try(t, i, &s)
			})
		}
	})
}

// try tries one set-up in everything.
func (w *world) try(t *testing.T, order int, s *setUp) {
	r := &result{Order: order, Idle: *wait, Name: s.name, Program: s.program, File: s.file, Needs: s.needs, Works: map[string]bool{}, Long: map[string]bool{}}
	c := startCrowd(t)
	begin := w.idle(t, s, c)
	f := w.three(t, s, c, r)
	if w.browser != nil {
		w.browse(t, s, f, r)
	}
	if s.foreign {
		w.pair(t, s, c, r)
	}
	if *wait {
		time.Sleep(time.Until(begin.Add(longPing + 5*time.Second)))
	}
	c.lenient = false
	w.woken(t, s, c, r)
	line, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("set-up: %s", line)
}

// idle connects a client of each mode that has nothing to say for more than a minute.
func (w *world) idle(t *testing.T, s *setUp, c *crowd) time.Time {
	t.Helper()
	all := w.long
	if s.nodeCookie {
		all = w.cookie
	}
	f := w.front(t, t.TempDir(), all)
	s.start(t, f)
	got := c.do(t, "connect", object{"group": "long", "url": f.url(), "count": 3, "room": s.name, "cookies": s.cookies})
	if got.Connected != 3 {
		t.Errorf("idle: got %d clients connected, want 3: late %v, %v", got.Connected, got.Late, got.Failures)
	}
	return time.Now()
}

// woken looks at them again.
func (w *world) woken(t *testing.T, s *setUp, c *crowd, r *result) {
	t.Helper()
	got := c.do(t, "still", object{"group": "long"})
	for _, mode := range modes {
		r.Long[mode] = true
	}
	for _, who := range slices.Concat(got.Drops, got.Away) {
		mode, _, _ := strings.Cut(who, "-")
		r.Long[mode] = false
	}
	r.LongWhy = got.Drops
	if s.ours() && len(got.Drops)+len(got.Away) > 0 {
		t.Errorf("idle for %v: got %q lost, %q away, want none", longPing, got.Drops, got.Away)
	}
	c.do(t, "leave", object{"group": "long"})
}

// fullest returns the node with the most clients.
func fullest(n map[string]int) string {
	best, most := "n1", math.MinInt
	for _, id := range slices.Sorted(maps.Keys(n)) {
		if n[id] > most {
			best, most = id, n[id]
		}
	}
	return best
}

// word leaves what the name of a cluster may have.
func word(c rune) rune {
	if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
		return c
	}
	return '-'
}

// asRoot says whether programs are started by root, where some want to know who they are to be.
func asRoot() bool { return os.Geteuid() == 0 }
