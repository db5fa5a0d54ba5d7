//go:build unix

package doctor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll/internal/doctor"
)

// A fault is a mistake that is made on purpose: it is found, mended by what was printed, and not found any more.
type fault struct {
	name  string // of the proxy, a colon, and what is wrong
	farm  farm
	front front
	plant []string // changes to what is right; see places
	o     doctor.Options
	tls   bool     // over https
	want  []string // all that is found beside notes, and the notes that are meant
	line  string   // in the first line that mends the first of them

	// How it is mended: by changes to the proxy, in which LINE is what was printed for it, or LINE(id) for another finding, with
	// placeholders filled in; by words of the note that are followed; by the nodes; by what the clients do.
	mend, fill, words []string
	cured             *farm
	then              func(o *doctor.Options)
	slow              bool // it takes a moment until the proxy knows
}

var quick = doctor.Options{Quick: true}

// foreign is a look with the eyes of a page of another site.
var foreign = doctor.Options{Quick: true, Origin: page}

var star = map[string]any{"origin": "*"}

func TestFaults(t *testing.T) {
	traefik := startTraefik(t, 2*len(traefikFaults(nil)))
	for _, c := range slices.Concat(nginxFaults, haproxyFaults, httpdFaults, traefikFaults(traefik)) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

func (c *fault) run(t *testing.T) {
	proxy, _, _ := strings.Cut(c.name, ":")
	proxy = strings.ToLower(proxy)
	if proxy == "traefik" { // it does not give itself away
		c.o.Proxy = proxy
	}
	nodes := c.farm.start(t)
	r := c.look(t, c.front(t, nodes, places(t, c.plant, nodes)))
	want := slices.Sorted(slices.Values(c.want))
	var got []string
	for _, f := range r.Findings {
		if f.Severity != doctor.Note || contains(want, f.ID) {
			got = append(got, f.ID)
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q: %+v", got, want, r.Findings)
	}
	f := r.Find(c.want[0])
	if f.Title == "" || f.Seen == "" || f.Why == "" || len(f.Evidence) == 0 {
		t.Errorf("got %+v, want it told in full", f)
	}
	if c.line != "" && (len(f.Mend) == 0 || !strings.Contains(f.Mend[0].Line, c.line)) {
		t.Errorf("got %+v, want the line %q first", f.Mend, c.line)
	}
	if r.Proxy != proxy && proxy != "by connection" {
		t.Errorf("got the proxy %q, want %s", r.Proxy, proxy)
	}
	c.cure(t, r, proxy, nodes)
}

// look checks what is at url.
func (c *fault) look(t *testing.T, url string) *doctor.Report {
	t.Helper()
	o := c.o
	if c.tls {
		url, o.TLS = secured(t, url)
	}
	return check(t, url, o)
}

var printed = regexp.MustCompile(`LINE(?:\(([a-z-]+)\))?`)

// cure does what the report says, and looks again.
func (c *fault) cure(t *testing.T, r *doctor.Report, proxy string, nodes []string) {
	t.Helper()
	if c.mend == nil && c.cured == nil && c.then == nil {
		return
	}
	said := func(id string) doctor.Mend {
		t.Helper()
		f := r.Find(id)
		if f == nil {
			t.Fatalf("%s is not found", id)
		}
		i := slices.IndexFunc(f.Mend, func(m doctor.Mend) bool { return m.Program == proxy })
		if i < 0 {
			t.Fatalf("got %+v, want what mends %s in %s", f.Mend, id, proxy)
		}
		return f.Mend[i]
	}
	for _, w := range c.words {
		if m := said(c.want[0]); !strings.Contains(m.Note, w) {
			t.Errorf("got the note %q, want %q in it", m.Note, w)
		}
	}
	changes, was := slices.Clone(c.plant), r.Find(c.want[0]).Severity
	for i, m := range c.mend {
		if i%2 == 0 {
			changes = append(changes, m)
			continue
		}
		changes = append(changes, printed.ReplaceAllStringFunc(m, func(s string) string {
			id := printed.FindStringSubmatch(s)[1]
			if id == "" {
				id = c.want[0]
			}
			if said(id).Line == "" {
				t.Errorf("got no line for %s in %s, want one", id, proxy)
			}
			return strings.NewReplacer(c.fill...).Replace(said(id).Line)
		}))
	}
	if c.cured != nil {
		nodes = c.cured.start(t)
	}
	if c.then != nil {
		c.then(&c.o)
	}
	c.o.Sessions = 4 // nothing is hidden among them now
	url := c.front(t, nodes, places(t, changes, nodes))
	r = c.look(t, url)
	for end := time.Now().Add(15 * time.Second); c.slow && !r.Healthy() && time.Now().Before(end); r = c.look(t, url) {
		time.Sleep(300 * time.Millisecond)
	}
	for _, f := range r.Findings {
		if f.Severity != doctor.Note || f.ID == c.want[0] && f.Severity == was {
			t.Errorf("mended as printed, got %+v", f)
		}
	}
}

// places fills in where things are: NODE0, NODE1, …, and PAGES, a server of pages.
func places(t *testing.T, changes, nodes []string) []string {
	t.Helper()
	var with []string
	for i, n := range nodes {
		with = append(with, fmt.Sprintf("NODE%d", i), n)
	}
	if strings.Contains(strings.Join(changes, "\n"), "PAGES") {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<!doctype html><title>app</title>")
		}))
		t.Cleanup(web.Close)
		with = append(with, "PAGES", web.Listener.Addr().String())
	}
	filled := make([]string, len(changes))
	for i, c := range changes {
		filled[i] = strings.NewReplacer(with...).Replace(c)
	}
	return filled
}

func TestByConnection(t *testing.T) {
	c := fault{name: "by connection", front: byConnection, o: quick, want: []string{"sticky-by-connection"}}
	c.run(t)
}
