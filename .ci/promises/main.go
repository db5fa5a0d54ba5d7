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

// A row is an adapter in one format, with patterns for the names of its tests. An empty one
// matches nothing: there is no such test, and no such promise.
type row struct {
	name, pkg                             string
	cluster, faults, deaths, routed, back string
	world                                 string // the name of the medium in e2e
}

var rows = []row{
	{"memory", "adapter/membus", `TestClusterReal|TestSimulated`, ``, ``, ``, ``, ``},
	{"NATS", "adapter/natsbus", `TestClusterEmbedded|TestConnect/cluster`, `TestFaults`, `Test(Deaths|Frozen)Embedded`, `TestRoutedEmbedded`, ``, ``},
	{"NATS, JetStream", "adapter/natsbus", `Test(Log|Store)IsABus/cluster`, `TestLogFaults`, `TestDeathsStore`, ``, `TestRecovery`, ``},
	{"Redis pub/sub", "adapter/redisbus", `TestCluster`, `TestFaults`, `Test(Deaths|Frozen)(/|$)`, ``, ``, `classic`},
	{"Redis pub/sub, own format", "adapter/redisbus", `TestNativeCluster`, `TestNativeFaults`, ``, `TestNativeRouted`, ``, ``},
	{"Redis sharded pub/sub", "adapter/redisshard", `Test(Redis)?Cluster`, `TestFaults`, `Test(Deaths|Frozen)(/|$)`, `TestRouted`, ``, `sharded`},
	{"Redis Streams", "adapter/redisstream", `Test(Redis)?Cluster`, `TestFaults`, `Test(Deaths|Frozen)`, ``, `TestRecovery`, `streams`},
	{"Postgres", "adapter/pgbus", `TestCluster/official`, `TestFaults/official`, `Test(Deaths|Frozen)/official`, ``, ``, `postgres`},
	{"Postgres, own format", "adapter/pgbus", `TestCluster/log`, `TestFaults/log`, `Test(Deaths|Frozen)/log`, `TestRouted`, `TestRecovery`, ``},
}

// A column is something that an adapter may promise.
type column struct {
	name string
	of   func(row) (pkg, pattern string)
	more string // what the name goes on with
	loss bool   // the cell says what was lost, as the kit noted it
}

func faults(r row) (string, string) { return r.pkg, r.faults }

var columns = []column{
	{"all operations, in order", func(r row) (string, string) { return r.pkg, r.cluster }, ``, false},
	{"with Node.js nodes", func(r row) (string, string) { return "e2e", prefixed(`Test(Tell|Ask)/`, r.world) }, ``, false},
	{"medium killed", faults, `.*medium_killed`, true},
	{"medium frozen", faults, `.*medium_frozen`, true},
	{"connections cut", faults, `.*(connections_cut|half-open|cut_off)`, true},
	{"node frozen or killed", func(r row) (string, string) { return r.pkg, r.deaths }, ``, true},
	{"routes by interest", func(r row) (string, string) { return r.pkg, r.routed }, ``, false},
	{"recovery on another node", func(r row) (string, string) { return r.pkg, r.back }, ``, false},
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
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
	pkg, pattern := c.of(r)
	if pattern == "" {
		return "–"
	}
	re := regexp.MustCompile("^" + regexp.QuoteMeta(pkg+".") + "(" + pattern + ")" + c.more)
	passed, lost, counted := 0, 0, false
	for name, x := range all {
		if !re.MatchString(name) {
			continue
		}
		switch x.action {
		case "pass":
			passed++
			lost += x.lost
			counted = counted || x.counts
		case "fail":
			return "**fails**"
		}
	}
	switch {
	case passed == 0:
		return "–"
	case !c.loss, !counted:
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
