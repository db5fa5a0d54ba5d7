// Command proxies writes the table of the set-ups behind proxies, from the output of go test -json on standard input, into
// docs/load-balancing.md. It changes nothing, and ends with status 1, when a test failed or did not end, and when a set-up
// was left out or is in the table but not among the tests. With -partial, rows of set-ups that were not tried stay as they
// are. With -print it changes nothing at all, and shows the table.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// A result is what e2e/proxies says of a set-up.
type result struct {
	Order             int
	Name, File, Needs string
	Works             map[string]bool
	Large             bool
	Long              map[string]bool
	Idle              bool // Long was waited for
	Addresses         bool
	H2                bool
	loss              // of one of three nodes
	Browser           *browser
	Pair              map[string]loss // of either of an Atoll and a Node.js node
	Mixed             string          // whether all is well with these two; empty where Node.js nodes cannot be
}

// A loss is what clients met when a node was killed.
type loss struct {
	Back           map[string]int
	Others, Thrown int
}

// A browser is what pages of other origins met in one.
type browser struct {
	Near, Other, Pair map[string]bool
	Refused           bool
	Left              []string
}

// A seen is what the tests have shown.
type seen struct {
	results []result
	ended   bool     // the package's tests did, and none failed
	failed  []string // tests
	skipped []string // tests, and why
}

const (
	mark = "set-up: "
	pkg  = "/e2e/proxies"
)

// read finds the results. A line of a test may come in pieces.
func read(in io.Reader) (*seen, error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	s := new(seen)
	parts, last := make(map[string]string), make(map[string]string)
	for lines.Scan() {
		var e struct{ Action, Package, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil || !strings.HasSuffix(e.Package, pkg) {
			continue
		}
		switch e.Action {
		case "output":
		case "pass":
			s.ended = s.ended || e.Test == ""
			continue
		case "fail":
			if e.Test != "" || len(s.failed) == 0 {
				s.failed = append(s.failed, cmp.Or(e.Test, e.Package))
			}
			continue
		case "skip":
			if strings.HasPrefix(e.Test, "TestSetUps") {
				s.skipped = append(s.skipped, e.Test+last[e.Test])
			}
			continue
		default:
			continue
		}
		text := parts[e.Test] + e.Output
		if !strings.HasSuffix(text, "\n") {
			parts[e.Test] = text
			continue
		}
		delete(parts, e.Test)
		if _, why, ok := strings.Cut(text, ".go:"); ok {
			_, why, _ = strings.Cut(why, ": ")
			last[e.Test] = ": " + strings.TrimSpace(why)
		}
		_, line, ok := strings.Cut(text, mark)
		if !ok {
			continue
		}
		var r result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, fmt.Errorf("%s: %w in %q", e.Test, err, line)
		}
		s.results = append(s.results, r)
	}
	slices.SortFunc(s.results, func(a, b result) int { return cmp.Compare(a.Order, b.Order) })
	return s, lines.Err()
}

// A row is a line of the table.
type row struct{ name, line string }

var head = []string{"set-up", "clients need", "works", "1 MB", "68 s of silence", "a node is killed: all back after", "it returns", "beside Node.js: all back after", "in Chromium", "sees addresses", "HTTP/2"}

func (r *result) row() row {
	name := r.Name
	if r.File != "" {
		name = fmt.Sprintf("%s: [`%s`](../deploy/%s)", r.Name, r.File, r.File)
	}
	idle := "–"
	if r.Idle {
		idle = modes(r.Long)
	}
	cells := []string{name, cmp.Or(r.Needs, "nothing"), modes(r.Works), yes(r.Large), idle, r.back(), thrown(r.Thrown), r.beside(), r.Browser.cell(), yes(r.Addresses), "–"}
	if r.H2 {
		cells[len(cells)-1] = "yes"
	}
	return row{r.Name, "| " + strings.Join(cells, " | ") + " |"}
}

// back says when the last client was back.
func (l *loss) back() string {
	slowest := 0
	for _, ms := range l.Back {
		if ms < 0 {
			return "not within 10 s" + others(l.Others)
		}
		slowest = max(slowest, ms)
	}
	return fmt.Sprintf("%.1f s", float64(slowest)/1000) + others(l.Others)
}

// beside says how it was beside Node.js: when either of the two was killed, and when it came back.
func (r *result) beside() string {
	switch r.Mixed {
	case "":
		return "–"
	case "yes":
	default:
		return "does not work"
	}
	both := loss{Back: make(map[string]int)}
	for name, l := range r.Pair {
		for mode, ms := range l.Back {
			both.Back[name+mode] = ms
		}
		both.Others += l.Others
		both.Thrown += l.Thrown
	}
	text := both.back()
	if both.Thrown > 0 {
		text += "; " + thrown(both.Thrown) + " when it returns"
	}
	return text
}

// cell says in which modes pages of other origins work, and what else is not well.
func (b *browser) cell() string {
	if b == nil {
		return "–"
	}
	var bad []string
	for _, x := range []struct {
		where string
		ok    map[string]bool
	}{{"same site", b.Near}, {"another site", b.Other}, {"beside Node.js", b.Pair}} {
		if text := modes(x.ok); text != "yes" {
			bad = append(bad, x.where+": "+text)
		}
	}
	if !b.Refused {
		bad = append(bad, "strangers come in")
	}
	if len(b.Left) > 0 {
		bad = append(bad, strings.Join(b.Left, ", ")+" left waiting without nodes")
	}
	return cmp.Or(strings.Join(bad, "; "), "yes")
}

func others(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d of other nodes cut", n)
}

func thrown(n int) string {
	if n == 0 {
		return "nobody notices"
	}
	return fmt.Sprintf("%d cut", n)
}

func yes(ok bool) string {
	if ok {
		return "yes"
	}
	return "no"
}

// modes says which modes are not well.
func modes(ok map[string]bool) string {
	var not []string
	for _, mode := range slices.Sorted(maps.Keys(ok)) {
		if !ok[mode] {
			not = append(not, mode)
		}
	}
	switch len(not) {
	case 0:
		return "yes"
	case len(ok):
		return "no"
	}
	return "not " + strings.Join(not, ", ")
}

// rows returns the rows of a table as it is written.
func rows(table string) []row {
	var all []row
	for line := range strings.Lines(table) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| "+head[0]+" |") {
			continue
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		name, _, _ := strings.Cut(first, ": [")
		all = append(all, row{name, line})
	}
	return all
}

var programs = []string{"atoll", "nginx", "HAProxy", "httpd", "Traefik", "Caddy"}

func rank(name string) int {
	program, _, _ := strings.Cut(name, " ")
	if i := slices.Index(programs, program); i >= 0 {
		return i
	}
	return len(programs)
}

// check says why the results may not be written: a table is of tests that passed, all of them unless partial.
func (s *seen) check(old []row, partial bool) error {
	var errs []error
	for _, test := range s.failed {
		if !slices.ContainsFunc(s.failed, func(x string) bool { return strings.HasPrefix(x, test+"/") }) {
			errs = append(errs, fmt.Errorf("failed: %s", test))
		}
	}
	if !s.ended && len(s.failed) == 0 {
		errs = append(errs, errors.New("the tests of e2e/proxies have not ended; is this the output of go test -json?"))
	}
	if len(s.results) == 0 {
		errs = append(errs, errors.New("no set-up was tried"))
	}
	if partial {
		return errors.Join(errs...)
	}
	for _, test := range s.skipped {
		errs = append(errs, fmt.Errorf("left out: %s", test))
	}
	for _, r := range old {
		if !slices.ContainsFunc(s.results, func(x result) bool { return x.Name == r.name }) {
			errs = append(errs, fmt.Errorf("no test has tried %q, which is in the table: delete its row, or keep it with -partial", r.name))
		}
	}
	return errors.Join(errs...)
}

// merge puts fresh rows in the place of old ones of the same name, and others behind those of their program.
func merge(old, fresh []row) ([]row, error) {
	all := slices.Clone(old)
	for _, f := range fresh {
		if i := slices.IndexFunc(all, func(r row) bool { return r.name == f.name }); i >= 0 {
			all[i] = f
		} else {
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, func(a, b row) int { return cmp.Compare(rank(a.name), rank(b.name)) })
	for _, r := range all {
		if got := strings.Count(r.line, "|") - 1; got != len(head) {
			return nil, fmt.Errorf("the row of %q has %d cells, the table %d columns: try all set-ups", r.name, got, len(head))
		}
	}
	return all, nil
}

func table(all []row) string {
	var b strings.Builder
	b.WriteString("| " + strings.Join(head, " | ") + " |\n|" + strings.Repeat(" --- |", len(head)) + "\n")
	for _, r := range all {
		b.WriteString(r.line + "\n")
	}
	return b.String()
}

const (
	begin = "<!-- written by .ci/proxies from the tests: begin -->\n"
	end   = "<!-- end -->"
)

func run(page string, partial, show bool, in io.Reader, out io.Writer) error {
	s, err := read(in)
	if err != nil {
		return err
	}
	var fresh []row
	for _, r := range s.results {
		fresh = append(fresh, r.row())
	}
	if show {
		all, err := merge(nil, fresh)
		if err != nil {
			return err
		}
		_, err = io.WriteString(out, table(all))
		return errors.Join(err, s.check(nil, partial))
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the table: it needs the lines %s and %s", page, strings.TrimSpace(begin), end)
	}
	if err := s.check(rows(old), partial); err != nil {
		return err
	}
	kept := rows(old)
	if !partial { // all of them are fresh; the order is that of the tests
		kept = nil
	}
	all, err := merge(kept, fresh)
	if err != nil {
		return err
	}
	t := table(all)
	if t == old {
		return nil
	}
	return os.WriteFile(page, []byte(before+begin+t+end+after), 0o644)
}

func main() {
	page := flag.String("page", "docs/load-balancing.md", "the page to write into")
	partial := flag.Bool("partial", false, "keep the rows of set-ups that were not tried")
	show := flag.Bool("print", false, "change nothing, print the table")
	flag.Parse()
	if err := run(*page, *partial, *show, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
