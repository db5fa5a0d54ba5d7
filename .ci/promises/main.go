// Command promises writes the table of what each adapter keeps, from the output of go test -json
// on standard input, into docs/adapters.md. With -print it changes nothing, and shows the table.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// A row is an adapter in one format. Its tests are those of a package whose names match.
type row struct {
	name, pkg string
	prefix    string // of the kit's tests in the package, behind Test
	world     string // the name of the medium in e2e; empty where there are no Node.js nodes on it
}

var rows = []row{
	{"memory", "adapter/membus", "", ""},
	{"NATS", "adapter/natsbus", "", ""},
	{"NATS, JetStream", "adapter/natsbus", "Log", ""},
	{"Redis pub/sub", "adapter/redisbus", "", "classic"},
	{"Redis pub/sub, own format", "adapter/redisbus", "Native", ""},
	{"Redis sharded pub/sub", "adapter/redisshard", "", "sharded"},
	{"Redis Streams", "adapter/redisstream", "", "streams"},
	{"Postgres", "adapter/pgbus", "", "postgres"},
	{"Postgres, own format", "adapter/pgbus", "Log", ""},
}

// A column is something that an adapter may promise.
type column struct {
	name string
	test string // a pattern for pkg + "." + test, in which ROW, PREFIX and WORLD stand for the row's
	loss bool   // the cell says what was lost, as the kit noted it
}

var columns = []column{
	{"all operations, in order", `ROW\.Test(Simulated/)?PREFIXCluster[A-Za-z]*(/|$)`, false},
	{"with Node.js nodes", `e2e\.Test(Tell|Ask)/WORLD`, false},
	{"medium killed", `ROW\.TestPREFIXFaults/.*medium_killed`, true},
	{"medium frozen", `ROW\.TestPREFIXFaults/.*medium_frozen`, true},
	{"connections cut", `ROW\.TestPREFIXFaults/.*(connections_cut|half-open|cut_off)`, true},
	{"node frozen or killed", `ROW\.TestPREFIX(Deaths|Frozen)`, true},
	{"routes by interest", `ROW\.Test(Simulated)?PREFIXRouted`, false},
	{"recovery on another node", `ROW\.TestPREFIXRecovery`, false},
}

// A result is what is known of one test.
type result struct {
	action string
	lost   int
	counts bool
}

var noted = regexp.MustCompile(`ledger: sent \d+, lost (\d+)`)

func read(in *bufio.Scanner) map[string]*result {
	all := make(map[string]*result)
	for in.Scan() {
		var e struct{ Action, Package, Test, Output string }
		if json.Unmarshal(in.Bytes(), &e) != nil || e.Test == "" {
			continue
		}
		key := strings.TrimPrefix(e.Package, "github.com/atollhq/atoll/") + "." + e.Test
		r := all[key]
		if r == nil {
			r = &result{}
			all[key] = r
		}
		switch e.Action {
		case "pass", "fail", "skip":
			r.action = e.Action
		case "output":
			if m := noted.FindStringSubmatch(e.Output); m != nil {
				n, _ := strconv.Atoi(m[1])
				r.lost += n
				r.counts = true
			}
		}
	}
	return all
}

// cell says what the tests of a promise have shown.
func cell(all map[string]*result, r row, c column) string {
	if strings.Contains(c.test, "WORLD") && r.world == "" {
		return "–"
	}
	re := regexp.MustCompile("^" + strings.NewReplacer("ROW", regexp.QuoteMeta(r.pkg), "PREFIX", r.prefix, "WORLD", r.world).Replace(c.test))
	passed, lost := 0, 0
	for name, x := range all {
		if !re.MatchString(name) {
			continue
		}
		switch x.action {
		case "pass":
			passed++
			lost += x.lost
		case "fail":
			return "**fails**"
		}
	}
	switch {
	case passed == 0:
		return "–"
	case !c.loss:
		return "yes"
	case lost == 0:
		return "nothing lost"
	}
	return "loss counted"
}

func table(all map[string]*result) string {
	var b strings.Builder
	b.WriteString("| adapter |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.name)
	}
	b.WriteString("\n|" + strings.Repeat(" --- |", len(columns)+1) + "\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s |", r.name)
		for _, c := range columns {
			fmt.Fprintf(&b, " %s |", cell(all, r, c))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

const (
	begin = "<!-- written by .ci/promises from the tests: begin -->\n"
	end   = "<!-- end -->"
)

func main() {
	page := flag.String("page", "docs/adapters.md", "the page to write into")
	show := flag.Bool("print", false, "change nothing, print the table")
	flag.Parse()
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	t := table(read(in))
	if *show {
		fmt.Print(t)
		return
	}
	text, err := os.ReadFile(*page)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		fmt.Fprintf(os.Stderr, "%s has no place for the table: it needs a line %s", *page, begin)
		os.Exit(1)
	}
	switch {
	case old == t:
	default:
		if err := os.WriteFile(*page, []byte(head+begin+t+end+tail), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
