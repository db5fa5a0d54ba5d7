// Command proxies writes the table of the set-ups behind proxies, from the output of go test -json on standard input, into
// docs/load-balancing.md. Rows of set-ups that were not tried stay as they are. With -print it changes nothing, and
// shows the table.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
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
	Mixed             string
	Long              map[string]bool
	Idle              bool // Long was waited for
	Back              map[string]int
	Others, Thrown    int
	Addresses         bool
	H2                bool
}

const mark = "set-up: "

// read finds the results. A line of a test may come in pieces.
func read(in io.Reader) ([]result, error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	var all []result
	parts := make(map[string]string)
	for lines.Scan() {
		var e struct{ Package, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Output == "" {
			continue
		}
		text := parts[e.Test] + e.Output
		if !strings.HasSuffix(text, "\n") {
			parts[e.Test] = text
			continue
		}
		delete(parts, e.Test)
		_, line, ok := strings.Cut(text, mark)
		if !ok || !strings.HasSuffix(e.Package, "/e2e/proxies") {
			continue
		}
		var r result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, fmt.Errorf("%s: %w in %q", e.Test, err, line)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b result) int { return cmp.Compare(a.Order, b.Order) })
	return all, lines.Err()
}

// A row is a line of the table.
type row struct{ name, line string }

var head = []string{"set-up", "clients need", "works", "1 MB", "beside Node.js", "68 s of silence", "a node is killed: all back after", "it returns", "sees addresses", "HTTP/2"}

func (r *result) row() row {
	name := r.Name
	if r.File != "" {
		name = fmt.Sprintf("%s: [`%s`](../deploy/%s)", r.Name, r.File, r.File)
	}
	mixed := r.Mixed
	if mixed == "" {
		mixed = "–"
	}
	idle := "–"
	if r.Idle {
		idle = modes(r.Long)
	}
	cells := []string{name, cmp.Or(r.Needs, "nothing"), modes(r.Works), yes(r.Large), mixed, idle, r.back(), thrown(r.Thrown), yes(r.Addresses), "–"}
	if r.H2 {
		cells[len(cells)-1] = "yes"
	}
	return row{r.Name, "| " + strings.Join(cells, " | ") + " |"}
}

func (r *result) back() string {
	slowest := 0
	for _, ms := range r.Back {
		if ms < 0 {
			return "not within 10 s" + others(r.Others)
		}
		slowest = max(slowest, ms)
	}
	return fmt.Sprintf("%.1f s", float64(slowest)/1000) + others(r.Others)
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

var programs = []string{"nginx", "HAProxy", "httpd", "Traefik", "Caddy"}

func rank(name string) int {
	program, _, _ := strings.Cut(name, " ")
	if i := slices.Index(programs, program); i >= 0 {
		return i
	}
	return len(programs)
}

// merge puts fresh rows in the place of old ones of the same name, and others behind those of their program.
func merge(old, fresh []row) []row {
	all := slices.Clone(old)
	for _, f := range fresh {
		if i := slices.IndexFunc(all, func(r row) bool { return r.name == f.name }); i >= 0 {
			all[i] = f
		} else {
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, func(a, b row) int { return cmp.Compare(rank(a.name), rank(b.name)) })
	return all
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

func run(page string, show bool, in io.Reader) error {
	results, err := read(in)
	if err != nil {
		return err
	}
	var fresh []row
	for _, r := range results {
		fresh = append(fresh, r.row())
	}
	if show {
		fmt.Print(table(merge(nil, fresh)))
		return nil
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the table: it needs a line %s", page, begin)
	}
	t := table(merge(rows(old), fresh))
	if t == old {
		return nil
	}
	return os.WriteFile(page, []byte(before+begin+t+end+after), 0o644)
}

func main() {
	page := flag.String("page", "docs/load-balancing.md", "the page to write into")
	show := flag.Bool("print", false, "change nothing, print the table")
	flag.Parse()
	if err := run(*page, *show, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
