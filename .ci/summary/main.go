// Command summary reads the output of go test -json, shows what a person wants to see
// of it, and counts: one line for each package, the whole output of what failed, the reason of
// what was skipped. It exits with status 1 when anything failed.
//
// With -o it appends the line "passed failed skipped" to a file. A test counts when it has no
// subtests; a fuzz target counts once. A package that fails without a failing test (it does not compile,
// it panics, it leaves a goroutine behind) counts as one failure.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
)

// An event is a line of test2json, as go doc test2json describes it.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// A run is what is known of a package.
type run struct {
	results map[string]string   // test → pass, fail or skip
	output  map[string][]string // test → what it printed; "" for the package
}

// A summary is what is known of all.
type summary struct {
	runs                    map[string]*run
	builds                  map[string][]string // import path → what the compiler said
	skips                   []string
	passed, failed, skipped int
}

func main() {
	out := flag.String("o", "", "append the counts to this file")
	flag.Parse()
	s := &summary{runs: map[string]*run{}, builds: map[string][]string{}}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadString('\n')
		var e event
		if line == "" {
		} else if json.Unmarshal([]byte(line), &e) != nil {
			fmt.Print(line) // not of a test: what go itself says
		} else {
			s.take(e)
		}
		if err != nil {
			break
		}
	}
	for name, r := range s.runs { // never ended: go test itself was ended
		s.finish(name, r, "fail", 0)
	}
	sort.Strings(s.skips)
	for _, skip := range s.skips {
		fmt.Println(skip)
	}
	if *out != "" {
		f, err := os.OpenFile(*out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			fmt.Fprintln(f, s.passed, s.failed, s.skipped)
			err = f.Close()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "summary:", err)
			os.Exit(1)
		}
	}
	if s.failed > 0 {
		os.Exit(1)
	}
}

func (s *summary) take(e event) {
	switch e.Action {
	case "build-output":
		s.builds[e.ImportPath] = append(s.builds[e.ImportPath], e.Output)
		return
	case "build-fail", "start":
		return
	}
	r := s.runs[e.Package]
	if r == nil {
		r = &run{results: map[string]string{}, output: map[string][]string{}}
		s.runs[e.Package] = r
	}
	switch e.Action {
	case "output":
		r.output[e.Test] = append(r.output[e.Test], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			if e.FailedBuild != "" {
				r.output[""] = append(r.output[""], s.builds[e.FailedBuild]...)
			}
			s.finish(e.Package, r, e.Action, e.Elapsed)
			return
		}
		r.results[e.Test] = e.Action
		if e.Action == "pass" {
			delete(r.output, e.Test)
		}
	case "run":
		r.results[e.Test] = "fail" // until it says otherwise
	}
}

// finish counts and shows a package that ended with the given result.
func (s *summary) finish(name string, r *run, result string, seconds float64) {
	delete(s.runs, name)
	inner := map[string]bool{} // has subtests
	for test := range r.results {
		if i := strings.LastIndexByte(test, '/'); i > 0 {
			inner[test[:i]] = true
		}
	}
	var passed, failed, skipped int
	tests := make([]string, 0, len(r.results))
	for test := range r.results {
		tests = append(tests, test)
	}
	sort.Strings(tests)
	for _, test := range tests {
		fuzz := strings.HasPrefix(test, "Fuzz")
		counts := !inner[test] && !fuzz || fuzz && !strings.Contains(test, "/")
		switch got := r.results[test]; {
		case got == "fail":
			fmt.Printf("%s: %s\n%s", name, test, strings.Join(r.output[test], ""))
			if counts {
				failed++
			}
		case !counts:
		case got == "skip":
			skipped++
			s.skips = append(s.skips, fmt.Sprintf("skipped %s %s: %s", name, test, reason(r.output[test])))
		default:
			passed++
		}
	}
	if result == "fail" && failed == 0 {
		failed = 1
		fmt.Printf("%s\n%s", name, strings.Join(r.output[""], ""))
	} else if result == "fail" {
		for _, line := range r.output[""] {
			if strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") || strings.Contains(line, "goroutine") {
				fmt.Print(strings.Join(r.output[""], ""))
				break
			}
		}
	}
	s.passed, s.failed, s.skipped = s.passed+passed, s.failed+failed, s.skipped+skipped
	if passed+failed+skipped > 0 {
		mark := "ok  "
		if failed > 0 {
			mark = "FAIL"
		}
		if len(tests) == 1 {
			name += " " + tests[0]
		}
		fmt.Printf("%s  %-44s %7.1fs  %d passed, %d failed, %d skipped\n", mark, name, seconds, passed, failed, skipped)
	}
}

// reason returns what a skipped test said, in a line.
func reason(output []string) string {
	var words []string
	for _, line := range output {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			words = append(words, line)
		}
	}
	return strings.Join(words, " ")
}
