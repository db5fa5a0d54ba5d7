//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A fakeNode is what a balancer takes for a Socket.IO server that is not Atoll's.
type fakeNode struct {
	*httptest.Server
	opened atomic.Int64
	held   chan struct{} // polls wait for it
}

func startFakeNode(t *testing.T) *fakeNode {
	n := &fakeNode{held: make(chan struct{})}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/socket.io/" || r.Method == "POST":
			io.WriteString(w, "ok")
		case r.URL.Query().Has("sid"):
			select {
			case <-n.held:
			case <-r.Context().Done():
			}
			io.WriteString(w, "1") // close
		default:
			fmt.Fprintf(w, `0{"sid":"%s-%d"}`, n.Listener.Addr(), n.opened.Add(1))
		}
	}))
	t.Cleanup(n.Close)
	return n
}

// A balancer is a program that runs.
type balancer struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	said bytes.Buffer
}

func (b *balancer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said.Write(p)
}

func (b *balancer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said.String()
}

// startBalancer returns a balancer with its URL and that of its status page.
func startBalancer(t *testing.T, args ...string) (b *balancer, url, admin string) {
	t.Helper()
	b = &balancer{cmd: program(append([]string{"balance"}, args...)...)}
	b.cmd.Stderr = b
	out, err := b.cmd.StdoutPipe()
	if err == nil {
		err = b.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(20*time.Second, func() { b.cmd.Process.Kill() })
		defer kill.Stop()
		if err := b.cmd.Wait(); err != nil {
			t.Errorf("got %v, want a clean end\n%s", err, b)
		}
	})
	lines := bufio.NewScanner(out)
	for admin == "" && lines.Scan() {
		if m := servesLine.FindStringSubmatch(lines.Text()); m != nil {
			url = m[1]
		}
		_, admin, _ = strings.Cut(lines.Text(), "Status page: ")
	}
	if url == "" || admin == "" {
		t.Fatalf("it did not start: %s", b)
	}
	return b, url, admin
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func pollUntil(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// The configuration changes under a poll that waits, which gets its answer; a bad one changes nothing.
func TestBalanceConfig(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a, b := startFakeNode(t), startFakeNode(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "balance.yaml")
	config := func(policy string, nodes ...*fakeNode) {
		text := "policy: " + policy + "\nlisten: {port: 0, shutdown: 1s}\nadmin: {listen: '127.0.0.1:0', changes: true}\naccess_log: {path: access.log}\nbackends:\n"
		for _, n := range nodes {
			text += "  - {url: '" + n.URL + "', weight: 2}\n"
		}
		writeFile(t, path, text)
	}
	config("round-robin", a)
	p, url, admin := startBalancer(t, "--config", path, "--status", "/balancer")
	const handshake = "/socket.io/?EIO=4&transport=polling"
	_, body := get(t, url+handshake)
	id := strings.TrimSuffix(strings.TrimPrefix(body, `0{"sid":"`), `"}`)
	poll := make(chan string, 1)
	go func() {
		res, err := http.Get(url + handshake + "&sid=" + id)
		if err != nil {
			poll <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		poll <- string(body)
	}()
	status := func() string {
		_, body := get(t, admin+"/status.json")
		return body
	}
	pollUntil(t, "the poll waits", func() bool { return strings.Contains(status(), `"active": 1`) })

	config("random", a, b)
	pollUntil(t, "the file is read", func() bool { return strings.Contains(status(), `"policy": "random"`) })
	pollUntil(t, "the new node is up", func() bool { return strings.Count(status(), `"state": "up"`) == 2 })
	writeFile(t, path, "polcy: hash\n")
	p.cmd.Process.Signal(syscall.SIGHUP)
	pollUntil(t, "the log says what is wrong", func() bool { return strings.Contains(p.String(), `do you mean \"policy\"?`) })
	if s := status(); strings.Count(s, `"state": "up"`) != 2 {
		t.Errorf("a bad file has changed something: %s", s)
	}
	config("hash", b)
	p.cmd.Process.Signal(syscall.SIGHUP)
	pollUntil(t, "the node is leaving", func() bool { return strings.Contains(status(), `"leaving": true`) })
	for range 3 {
		get(t, url+handshake)
	}
	if a.opened.Load() != 1 || b.opened.Load() != 3 {
		t.Errorf("got %d and %d sessions, want 1 and 3", a.opened.Load(), b.opened.Load())
	}
	close(a.held)
	if got := <-poll; got != "1" {
		t.Errorf("the poll got %q, want its answer", got)
	}
	pollUntil(t, "the node is gone", func() bool { return !strings.Contains(status(), `"leaving": true`) })

	for _, c := range []struct {
		url, want string
		status    int
	}{
		{url + "/balancer", `"policy": "hash"`, 200}, {admin + "/metrics", `atoll_balancer_reloads_total{result="ok"} `, 200},
		{admin + "/", "Atoll balancer", 200}, {admin + "/health", "ok", 200},
	} {
		if got, body := get(t, c.url); got != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: got %d %s, want %s", c.url, got, body, c.want)
		}
	}
	// The clock may have seen a change before the signal came, so there can be more.
	if _, body := get(t, admin+"/metrics"); strings.Contains(body, `reloads_total{result="ok"} 0`) || strings.Contains(body, `reloads_total{result="failed"} 0`) {
		t.Errorf("got %s, want that changes were counted, and the bad file", body)
	}
	log := filepath.Join(dir, "access.log")
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	p.cmd.Process.Signal(syscall.SIGUSR1)
	pollUntil(t, "the log is opened anew", func() bool { _, err := os.Stat(log); return err == nil })
	text, err := os.ReadFile(log + ".1")
	if err != nil || strings.Count(string(text), "\n") < 5 || strings.Contains(string(text), id) {
		t.Errorf("access log: got %v, %s", err, text)
	}
}

func TestCheckConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "balance.yaml")
	for _, c := range []struct {
		text string
		args []string
		code int
		want string
	}{
		{"backends: [a:1, b:2]\npolicy: hash\n", nil, 0, "The configuration makes sense: 2 nodes, hash."},
		{"discover: [{dns: x, port: 1}]", []string{"--policy", "random"}, 0, "0 nodes and those that are found, random"},
		{"backends: [a:1]", []string{"--affinity", "cookie,header=x-user", "--trust", "10.0.0.0/8"}, 0, "makes sense"},
		{"polcy: hash", nil, 2, `balance.yaml:1: unknown key "polcy": do you mean "policy"?`},
		{"policy: hash", nil, 2, "no nodes to balance to"},
		{"backends: [a:1, a:1]", nil, 2, "given twice"},
		{"backends: [a:1]", []string{"--affinity", "cake"}, 2, `no affinity "cake"`},
		{"backends: [a:1]", []string{"--dns", "x"}, 2, "write host:port"},
		{"backends: [a:1]", []string{"--tls-cert", "x"}, 2, "go together"},
		{"backends: [a:1]\nlisten: {tls: [{cert: nothing.pem}]}", nil, 1, "nothing.pem"},
	} {
		writeFile(t, path, c.text)
		cmd := program(append([]string{"balance", "--check-config", "--config", path}, c.args...)...)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.want) {
			t.Errorf("%q %q: got %d, %s, want %d, %s", c.text, c.args, code, out, c.code, c.want)
		}
	}
}
