package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An output is what go test -json says.
type output struct{ strings.Builder }

func (o *output) say(action, test, text string) {
	line, err := json.Marshal(map[string]string{"Action": action, "Package": "example.com/atoll" + pkg, "Test": test, "Output": text})
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(o, "%s\n", line)
}

// try has a test of a set-up say what it has seen, in two pieces, and end.
func (o *output) try(t *testing.T, action string, r result) {
	t.Helper()
	line, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	test := "TestSetUps/all/" + strings.ReplaceAll(r.Name, " ", "_")
	o.say("output", test, "    run_test.go:110: "+mark+string(line[:20]))
	o.say("output", test, string(line[20:])+"\n")
	o.say(action, test, "")
}

// good is a result in which everything is well.
func good(order int, name, file string) result {
	all := map[string]bool{"polling": true, "upgrade": true, "websocket": true}
	return result{
		Order: order, Name: name, File: file, Works: all, Large: true, Long: all, Idle: true, Addresses: true, H2: true,
		loss:    loss{Back: map[string]int{"polling": 1240, "upgrade": 700, "websocket": 650}},
		Browser: &browser{Near: all, Other: all, Refused: true},
	}
}

// page is one with a table of three set-ups.
func page(t *testing.T) string {
	t.Helper()
	var old []row
	for i, name := range []string{"nginx hash", "HAProxy cookie", "Traefik cookie"} {
		r := good(i, name, "")
		r.Thrown = 7
		old = append(old, r.row())
	}
	path := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(path, []byte("before\n"+begin+table(old)+end+"\nafter\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTable(t *testing.T) {
	path := page(t)
	var o output
	o.try(t, "pass", good(2, "Traefik cookie", "traefik/dynamic-cookie.yml"))
	r := good(1, "HAProxy cookie", "")
	r.Needs, r.Works, r.Large, r.Idle, r.Addresses, r.H2 = "cookies", map[string]bool{"polling": false, "upgrade": true}, false, false, false, false
	r.Back, r.Others = map[string]int{"polling": -1, "upgrade": 300}, 2
	r.Mixed, r.Pair = "yes", map[string]loss{"atoll": {Back: map[string]int{"polling": 900}}, "js": {Back: map[string]int{"polling": 1700}, Thrown: 3}}
	r.Browser = &browser{Near: r.Works, Other: map[string]bool{"polling": false}, Left: []string{"polling", "upgrade"}}
	o.try(t, "pass", r)
	r = good(0, "nginx hash", "")
	r.Long = map[string]bool{"polling": false, "upgrade": false}
	r.Mixed, r.Browser = "no", nil
	o.try(t, "pass", r)
	o.say("pass", "TestSetUps", "")
	o.say("pass", "", "")
	if err := run(path, false, false, strings.NewReader(o.String()), nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(string(b), "\n")
	want := []string{
		"before",
		strings.TrimSpace(begin),
		"| " + strings.Join(head, " | ") + " |",
		"|" + strings.Repeat(" --- |", len(head)),
		"| nginx hash | nothing | yes | yes | no | 1.2 s | nobody notices | does not work | – | yes | yes |",
		"| HAProxy cookie | cookies | not polling | no | – | not within 10 s; 2 of other nodes cut | nobody notices | 1.7 s; 3 cut when it returns | " +
			"same site: not polling; another site: no; strangers come in; polling, upgrade left waiting without nodes | no | – |",
		"| Traefik cookie: [`traefik/dynamic-cookie.yml`](../deploy/traefik/dynamic-cookie.yml) | nothing | yes | yes | yes | 1.2 s | nobody notices | – | yes | yes | yes |",
		end,
		"after",
		"",
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("got %s\nwant %s", b, strings.Join(want, "\n"))
		}
	}
}

// TestNothingOldIsWritten: what was not seen to pass in this run is not in the table, and nothing is written.
func TestNothingOldIsWritten(t *testing.T) {
	names := []string{"nginx hash", "HAProxy cookie", "Traefik cookie"}
	tests := []struct {
		name, last string // last is how the last of the set-ups ends; empty: it has no test
		end        string // of the package
		partial    bool
		want       string // in the error; empty: none
	}{
		{"all pass", "pass", "pass", false, ""},
		{"one failed", "fail", "fail", false, "failed: TestSetUps/all/Traefik_cookie"},
		{"one failed, partial", "fail", "fail", true, "failed: TestSetUps/all/Traefik_cookie"},
		{"one was left out", "skip", "pass", false, "left out: TestSetUps/all/Traefik_cookie: traefik is not installed"},
		{"one was left out, partial", "skip", "pass", true, ""},
		{"one has no test", "", "pass", false, `"Traefik cookie"`},
		{"one has no test, partial", "", "pass", true, ""},
		{"the tests were ended", "pass", "", false, "have not ended"},
		{"the tests were ended, partial", "pass", "", true, "have not ended"},
		{"the package failed", "pass", "fail", false, "failed: example.com"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var o output
			for i, name := range names {
				switch last := i == len(names)-1; {
				case !last || tt.last == "pass":
					o.try(t, "pass", good(i, name, ""))
				case tt.last == "fail":
					o.try(t, "fail", good(i, name, ""))
				case tt.last == "skip":
					test := "TestSetUps/all/" + strings.ReplaceAll(name, " ", "_")
					o.say("output", test, "    run_test.go:72: traefik is not installed\n")
					o.say("output", test, "--- SKIP: "+test+" (0.00s)\n")
					o.say("skip", test, "")
				}
			}
			if tt.end != "" {
				o.say(tt.end, "", "")
			}
			path := page(t)
			before, _ := os.ReadFile(path)
			err := run(path, tt.partial, false, strings.NewReader(o.String()), nil)
			after, _ := os.ReadFile(path)
			if tt.want == "" {
				if err != nil || string(before) == string(after) {
					t.Fatalf("got %v, changed %t, want a new table", err, string(before) != string(after))
				}
				if kept := strings.Count(string(after), "7 cut"); kept != len(names)-strings.Count(o.String(), mark) {
					t.Errorf("got %d old rows kept in %s", kept, after)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || string(before) != string(after) {
				t.Errorf("got %v, changed %t, want %q and no change", err, string(before) != string(after), tt.want)
			}
		})
	}
}

// TestColumns: an old row of fewer columns does not go into the table.
func TestColumns(t *testing.T) {
	path := page(t)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = []byte(strings.ReplaceAll(string(b), " | 7 cut", ""))
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	var o output
	o.try(t, "pass", good(0, "nginx hash", ""))
	o.say("pass", "", "")
	if err := run(path, true, false, strings.NewReader(o.String()), nil); err == nil || !strings.Contains(err.Error(), "columns") {
		t.Errorf("got %v, want that the columns are others", err)
	}
}

func TestPrint(t *testing.T) {
	var o, out output
	o.try(t, "fail", good(0, "nginx hash", ""))
	o.say("fail", "", "")
	err := run("there is none", false, true, strings.NewReader(o.String()), &out)
	if err == nil || !strings.Contains(out.String(), "| nginx hash |") {
		t.Errorf("got %q, %v, want the row, and that it failed", out.String(), err)
	}
}
