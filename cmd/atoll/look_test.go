//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/adapter/redisshard"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/pgtest"
	"github.com/atollhq/atoll/internal/redistest"
)

// run runs atoll and returns what it printed.
func run(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := program(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("atoll %s: got exit status %d, want %d\n%s%s", strings.Join(args, " "), got, code, out.String(), errs.String())
	}
	return out.String()
}

// start starts atoll; lines holds what it prints. It ends with the test.
func start(t *testing.T, args ...string) (lines chan string, errs *lockedBuffer, signal func(os.Signal)) {
	t.Helper()
	cmd := program(args...)
	errs = &lockedBuffer{some: make(chan struct{}, 1)}
	cmd.Stderr = errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines = make(chan string, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(15 * time.Second):
			_ = cmd.Process.Kill()
			<-done
			t.Errorf("atoll %s does not end", strings.Join(args, " "))
		}
	})
	return lines, errs, func(s os.Signal) { _ = cmd.Process.Signal(s) }
}

// wantLine waits for a line that matches.
func wantLine(t *testing.T, lines chan string, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var seen []string
	for deadline := time.After(20 * time.Second); ; {
		select {
		case line := <-lines:
			if re.MatchString(line) {
				return line
			}
			seen = append(seen, line)
		case <-deadline:
			t.Fatalf("got %q, want a line that matches %s", seen, pattern)
		}
	}
}

// media are the buses of the tests, and how to name them.
var media = []struct {
	name string
	bus  func(t *testing.T) []string
	// counts says that nodes are found though they do not speak: one that is frozen is missed.
	counts bool
}{
	{"embedded", func(t *testing.T) []string {
		return []string{"--cluster", fmt.Sprintf("test-%d", time.Now().UnixNano())}
	}, false},
	{"redis", func(t *testing.T) []string { return []string{"--bus", "redis://" + redistest.Start(t).Addr()} }, true},
	{"redis+native", func(t *testing.T) []string { return []string{"--bus", "redis+native://" + redistest.Start(t).Addr()} }, false},
	{"redis+sharded", func(t *testing.T) []string { return []string{"--bus", "redis+sharded://" + redistest.Start(t).Addr()} }, true},
	{"redis+streams", func(t *testing.T) []string { return []string{"--bus", "redis+streams://" + redistest.Start(t).Addr()} }, true},
	{"postgres", func(t *testing.T) []string { return []string{"--bus", pgURL(t)} }, false},
	{"postgres+native", func(t *testing.T) []string {
		return []string{"--bus", strings.Replace(pgURL(t), "postgres://", "postgres+native://", 1)}
	}, false},
	{"nats", func(t *testing.T) []string { return []string{"--bus", startNATS(t, false)} }, false},
	{"nats with log", func(t *testing.T) []string { return []string{"--bus", startNATS(t, true) + "?log=true"} }, false},
}

// pgURL starts a Postgres and returns the URL of a database on it.
func pgURL(t *testing.T) string {
	s := pgtest.Start(t)
	return s.URL(s.Database(t))
}

// startNATS starts a NATS in this process and returns its URL.
func startNATS(t *testing.T, log bool) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: log, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS of the test does not start")
	}
	return "nats://" + s.Addr().String()
}

func TestLookIntoCluster(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for _, m := range media {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			where := m.bus(t)
			with := func(args ...string) []string { return append(args, where...) }
			a := startServer(t, with("serve", "--port", "0", "--rooms", "--relay", "--name", "anna")...)
			lines, _, signal := start(t, with("serve", "--port", "0", "--rooms", "--relay", "--name", "bert")...)
			b := servesLine.FindStringSubmatch(wantLine(t, lines, "Serving "))[1]
			ada, ben, carl := connect(t, a, "/"), connect(t, b, "/"), connect(t, b, "/chat")
			for _, p := range []*poller{ada, ben} {
				p.post(`42["join","lobby"]`)
				p.post(`420["leave","nowhere"]`)
				p.until("430[")
			}
			ben.post(`42["join","two words"]`)
			ben.post(`421["leave","nowhere"]`)
			ben.until("431[")

			tail, watching, _ := start(t, with("tail")...)
			watching.until(t, "Watching the cluster")
			wantLine(t, tail, `\d\d:\d\d:\d\d\.\d{3}  anna +\+ came`)

			t.Run("nodes", func(t *testing.T) {
				out := run(t, 0, with("nodes")...)
				for _, want := range []string{`(?m)^NAME +ID +UP +CLIENTS +ANSWER +FORMAT +STATE$`, `(?m)^anna +\S+ +\d+s +1 +\d+\.\d ms  atoll 1 +serving$`, `(?m)^bert `} {
					if !regexp.MustCompile(want).MatchString(out) {
						t.Errorf("got\n%swant %s", out, want)
					}
				}
				var n nodeLine
				first, _, _ := strings.Cut(run(t, 0, with("nodes", "--json")...), "\n")
				if err := json.Unmarshal([]byte(first), &n); err != nil || n.Name != "anna" || n.Clients == nil || *n.Clients != 1 || n.AnswerMs == nil {
					t.Errorf("got %s, %v", first, err)
				}
			})
			t.Run("sockets", func(t *testing.T) {
				out := run(t, 0, with("sockets", "--room", "two words")...)
				if !regexp.MustCompile(`^ID +NODE +ROOMS\n\S{20}  bert +lobby, two words\n$`).MatchString(out) {
					t.Errorf("got\n%s", out)
				}
				out = run(t, 0, with("sockets", "--json", "--nsp", "chat")...)
				var s socketLine
				if err := json.Unmarshal([]byte(out), &s); err != nil || s.Name != "bert" || len(s.Rooms) != 0 || s.Handshake != nil {
					t.Errorf("got %s, %v", out, err)
				}
				if out := run(t, 0, with("sockets", "--json", "--handshake", "--limit", "1")...); !strings.Contains(out, `"handshake":{`) {
					t.Errorf("got %s, want a handshake", out)
				}
				if out := run(t, 0, with("sockets", "--count", "--room", "lobby")...); out != "2\n" {
					t.Errorf("got %s, want 2", out)
				}
				if out := run(t, 0, with("sockets", "--room", "nobody-is-here")...); !strings.HasPrefix(out, "No client") {
					t.Errorf("got %s, want that there is none", out)
				}
			})
			t.Run("rooms", func(t *testing.T) {
				out := run(t, 0, with("rooms")...)
				if !regexp.MustCompile(`^ROOM +MEMBERS +NODES\nlobby +2  anna, bert\ntwo words +1  bert\n$`).MatchString(out) {
					t.Errorf("got\n%s", out)
				}
				if out := run(t, 0, with("rooms", "--json", "--sort", "name", "--limit", "1")...); out != `{"room":"lobby","members":2,"nodes":["anna","bert"]}`+"\n" {
					t.Errorf("got %s", out)
				}
			})
			t.Run("tail", func(t *testing.T) {
				filtered, _, _ := start(t, with("tail", "--json", "--room", "lobby,nowhere", "--event", "said", "--count", "1")...)
				chat, watchingChat, _ := start(t, with("tail", "-n", "chat", "--for", "10m")...)
				watchingChat.until(t, "Watching /chat")
				if m.name == "redis+sharded" {
					return // see TestTailSharded
				}
				deadline := time.Now().Add(20 * time.Second)
				for done := false; !done; { // it says nothing, so it is told until it has heard
					if time.Now().After(deadline) {
						t.Fatal("tail has not seen within 20 s what was emitted")
					}
					emit(t, with("--room", "lobby", "--except", "x y", "--volatile", "said", `{"a":1}`, `"\u001b[2J"`)...)
					select {
					case line := <-filtered:
						var e entry
						if err := json.Unmarshal([]byte(line), &e); err != nil || e.Kind != "emit" || e.From != "emitter" || e.Namespace != "/" ||
							e.Event != "said" || string(e.Args) != `[{"a":1},"\u001b[2J"]` || !e.Volatile || len(e.Rooms) != 1 || len(e.Except) != 1 {
							t.Errorf("got %s, %v", line, err)
						}
						done = true
					case <-time.After(time.Second):
					}
				}
				wantLine(t, tail, `  emitter +emit +/ lobby !x y  "said" \[\{"a":1\},"\\u001b\[2J"\] \(volatile\)$`)
				emit(t, with("--nsp", "/chat", "hello")...)
				wantLine(t, chat, `emit +/chat  "hello"$`)
				ada.post(`42["hi"]`)
				wantLine(t, tail, `anna +emit +/ !`+regexp.QuoteMeta(sidOf(ada))+`  "hi"$`)
				run(t, 0, with("sockets", "--count")...)
				wantLine(t, tail, ` ask +/  count$`)
			})
			t.Run("emit --ask", func(t *testing.T) {
				done := make(chan string)
				go func() { done <- run(t, 0, with("emit", "who", "--ask", "--room", "two words", "--timeout", "10s")...) }()
				ben.until(`["who"]`)
				id := regexp.MustCompile(`42(\d+)\["who"\]`).FindStringSubmatch(ben.all)[1]
				ben.post("43" + id + `["ben",{"x":1}]`)
				if got := <-done; got != `["ben",{"x":1}]`+"\n" {
					t.Errorf("got %s, want the ack", got)
				}
				run(t, 3, with("emit", "who", "--ask", "--room", "two words", "--timeout", "200ms")...)
			})
			t.Run("a node that hangs", func(t *testing.T) {
				signal(syscall.SIGSTOP)
				defer signal(syscall.SIGCONT)
				code := 0 // who comes now has never heard of that node
				if m.counts {
					code = 3
				}
				if out := run(t, code, with("nodes", "--timeout", "700ms")...); !regexp.MustCompile(`(?m)^anna .* ms `).MatchString(out) {
					t.Errorf("got %s, want anna's answer", out)
				}
				if out := run(t, code, with("sockets", "--count", "--timeout", "700ms")...); out != "1\n" {
					t.Errorf("got %s, want 1", out)
				}
				wantLine(t, tail, `bert +- died`)
			})
			wantLine(t, tail, `bert +\+ came`)
			for _, p := range []*poller{ada, ben, carl} {
				p.post("1")
			}
		})
	}
}

// TestTailSharded: what nodes tell a room goes over a channel of the room, and that can be watched.
func TestTailSharded(t *testing.T) {
	addr := redistest.Start(t).Addr()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	bus := redisshard.New(client, nil)
	defer bus.Close()
	node, err := cluster.Join(t.Context(), bus, &cluster.Options{Name: "anna"})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	tail, errs, _ := start(t, "tail", "--bus", "redis+sharded://"+addr, "--room", "lobby", "--kind", "emit,member")
	errs.until(t, "Watching")
	wantLine(t, tail, `anna +\+ came`)
	op := &cluster.Op{Kind: cluster.Emit, Namespace: "/", Selector: cluster.Selector{Rooms: []string{"lobby"}}, Data: []byte(`["hi",1]`)}
	if err := node.Tell(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	wantLine(t, tail, `anna +emit +/ lobby  "hi" \[1\]$`)
}

// sidOf returns the id of the socket of a poller in "/".
func sidOf(p *poller) string {
	return regexp.MustCompile(`40\{"sid":"([^"]+)"`).FindStringSubmatch(p.all)[1]
}

func TestGateway(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	where := media[0].bus(t)
	node := startServer(t, append([]string{"serve", "--port", "0"}, where...)...)
	file := filepath.Join(t.TempDir(), "tokens")
	one, two := strings.Repeat("1", 20), strings.Repeat("2", 20)
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# of the shop\n" + one + "\n\n")
	gate := startServer(t, append([]string{"gateway", "--port", "0", "--token-file", file}, where...)...)
	ada := connect(t, node, "/")
	post := func(token, body string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", gate, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := post(one, `[{"event":"news","args":["ü"]},{"query":"count"}]`); got != 200 {
		t.Errorf("got %d, want 200", got)
	}
	ada.until(`42["news","ü"]`)
	if got := post(two, `{"event":"news"}`); got != 401 {
		t.Errorf("an unknown token: got %d, want 401", got)
	}
	write(one + "\n" + two + "\n")
	for deadline := time.Now().Add(20 * time.Second); post(two, `{"event":"more"}`) != 200; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the new token is not taken within 20 s")
		}
	}
	ada.until(`42["more"]`)
	write("short\n") // and the old ones stay
	if got := post(one, `{"event":"news"}`); got != 200 {
		t.Errorf("got %d, want 200", got)
	}
	res, err := http.Get(strings.TrimSuffix(gate, "/emit") + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("health: got %d, want 200", res.StatusCode)
	}
	ada.post("1")
}
