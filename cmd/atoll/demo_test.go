//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A running demo.
type running struct {
	cmd  *exec.Cmd
	url  string
	text string // the start-up text
	pids []int  // of the nodes
	done chan error

	mu   sync.Mutex
	errs bytes.Buffer
}

func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.errs.Write(p)
}

var (
	pidLine = regexp.MustCompile(`pid (\d+)`)
	urlLine = regexp.MustCompile(`atoll   (http://\S+)`)
)

// startDemo starts a demo and waits until it says that it serves.
func startDemo(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{cmd: program(append([]string{"demo"}, args...)...), done: make(chan error, 1)}
	r.cmd.Env = append(r.cmd.Env, "TMPDIR="+t.TempDir()) // one that is killed leaves its folder there
	r.cmd.Stderr = r
	r.cmd.WaitDelay = 5 * time.Second
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text := make(chan string, 1)
	go func() {
		var b strings.Builder
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			b.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "Ctrl-C") {
				text <- b.String()
			}
		}
		_, _ = io.Copy(io.Discard, out)
		r.done <- r.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		select {
		case <-r.done:
		case <-time.After(10 * time.Second):
			t.Error("the demo does not end, even killed")
		}
		if t.Failed() {
			t.Logf("the demo wrote to its standard error:\n%s", r.errs.String())
		}
	})
	select {
	case r.text = <-text:
	case err := <-r.done:
		r.done <- err
		t.Fatalf("the demo ended: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("the demo did not say within 30 s that it serves")
	}
	m := urlLine.FindStringSubmatch(r.text)
	if m == nil {
		t.Fatalf("no URL in the start-up text:\n%s", r.text)
	}
	r.url = m[1]
	for _, m := range pidLine.FindAllStringSubmatch(r.text, -1) {
		pid, _ := strconv.Atoi(m[1])
		r.pids = append(r.pids, pid)
	}
	return r
}

// gone waits until none of the nodes is there any more.
func (r *running) gone(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(6 * time.Second)
	for _, pid := range r.pids {
		for alive(pid) {
			if time.Now().After(deadline) {
				t.Errorf("node %d is still there", pid)
				_ = syscall.Kill(pid, syscall.SIGKILL)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !bytes.Contains(stat, []byte(") Z ")) // a zombie whose parent is slow
}

func TestDemoServesAndCtrlCLeavesNothing(t *testing.T) {
	r := startDemo(t, "--port", "0")
	if len(r.pids) != 3 {
		t.Errorf("got %d nodes, want 3:\n%s", len(r.pids), r.text)
	}
	res, err := http.Get(r.url)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if res.StatusCode != 200 || !bytes.Contains(body, []byte("<title>atoll demo</title>")) {
		t.Errorf("got %d and %.80q, want the page", res.StatusCode, body)
	}
	// Ctrl-C goes to all processes of a terminal at once.
	for _, pid := range append([]int{r.cmd.Process.Pid}, r.pids...) {
		_ = syscall.Kill(pid, syscall.SIGINT)
	}
	select {
	case err := <-r.done:
		r.done <- err
		if err != nil {
			t.Errorf("got %v, want a clean end", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the demo did not end within 10 s")
	}
	r.gone(t)
}

func TestDemoNodeEndsWhenTold(t *testing.T) {
	r := startDemo(t, "--port", "0", "--nodes", "2")
	_ = syscall.Kill(r.pids[0], syscall.SIGTERM)
	r.pids = r.pids[:1]
	r.gone(t)
}

func TestDemoKilledLeavesNothing(t *testing.T) {
	r := startDemo(t, "--port", "0", "--nodes", "2")
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	r.gone(t)
}

func TestDemoPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	r := startDemo(t, "--port", strconv.Itoa(port), "--nodes", "1")
	if want := fmt.Sprintf("Port %d is taken", port); !strings.Contains(r.text, want) || !strings.Contains(r.text, "--port") {
		t.Errorf("got\n%s\nwant %q and what to do", r.text, want)
	}
	if _, got, _ := net.SplitHostPort(strings.TrimPrefix(r.url, "http://")); got == strconv.Itoa(port) {
		t.Errorf("got the port that is taken, %s", got)
	}
}

// TestDemoInBrowser is the main job, as people do it: six tabs in Chromium, a node that
// is killed while all of them write. With ATOLL_DEMO_PICTURES, a folder, it leaves screenshots there.
func TestDemoInBrowser(t *testing.T) {
	browser := filepath.Join("..", "..", "e2e")
	if _, err := os.Stat(filepath.Join(browser, "node_modules", "puppeteer-core")); err != nil {
		t.Skip("puppeteer-core is missing: run `npm ci` in e2e (./test does)")
	}
	chromium := os.Getenv("CHROMIUM")
	if chromium == "" {
		chromium = "/usr/bin/chromium"
	}
	for _, name := range []string{chromium, "node"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is missing: install it (./test does)", name)
		}
	}
	r := startDemo(t, "--port", "0")
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join(browser, "browser", "chat.mjs"), r.url, os.Getenv("ATOLL_DEMO_PICTURES"))
	cmd.Env = append(os.Environ(), "CHROMIUM="+chromium)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // puppeteer ends its browser then
	cmd.WaitDelay = 10 * time.Second
	timer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer timer.Stop()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, runErr := cmd.Output()
	done := false
	for line := range bytes.Lines(out) {
		var c struct {
			Check string
			OK    bool
			Got   json.RawMessage
			Done  bool
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Errorf("not a result: %s", line)
			continue
		}
		done = done || c.Done
		switch {
		case c.Check == "":
		case c.OK:
			t.Logf("%s: %s", c.Check, c.Got)
		default:
			t.Errorf("not so: %s: got %s", c.Check, c.Got)
		}
	}
	if !done {
		t.Errorf("the browser's script did not end as it should: %v\n%s", runErr, errs.String())
	}
}
