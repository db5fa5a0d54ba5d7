//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// arrivals opens sessions and ends them, each over a connection of its own, until stop is called, and returns how many.
func arrivals(t *testing.T, url string) (stop func() int) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	n := 0
	wg.Go(func() {
		for ctx.Err() == nil {
			res, err := c.Get(url + "/socket.io/?EIO=4&transport=polling")
			if err != nil {
				t.Errorf("connection attempt %d: %v", n, err)
				return
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			m := sidField.FindSubmatch(body)
			if res.StatusCode != 200 || m == nil {
				t.Errorf("connection attempt %d: got %d %q, want a session", n, res.StatusCode, body)
				return
			}
			n++
			res, err = c.Post(url+"/socket.io/?EIO=4&transport=polling&sid="+string(m[1]), "text/plain", strings.NewReader("1"))
			if err == nil {
				res.Body.Close()
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	return func() int {
		cancel()
		wg.Wait()
		return n
	}
}

func TestRun(t *testing.T) {
	lines, errs, signal := start(t, "run", "--nodes", "3", "--port", "0", "--drain-lead", "0s", "--cluster", fmt.Sprintf("test-run-%d", os.Getpid()),
		"--", os.Args[0], "serve", "--rooms", "--drain-window", "2s")
	url := servesLine.FindStringSubmatch(wantLine(t, lines, `^Serving http.* with 3 nodes of `))[1]
	eventually(t, "all nodes are up", func() bool { return healthOf(t, url) == 3 })
	stop := arrivals(t, url)
	signal(syscall.SIGHUP)
	wantLog(t, errs, `all processes were replaced`)
	pids := regexp.MustCompile(`"a node is up" node=\d pid=(\d+)`).FindAllStringSubmatch(errs.String(), -1)
	if len(pids) != 6 {
		t.Fatalf("got %d processes that served, want 6:\n%s", len(pids), errs.String())
	}
	pid, _ := strconv.Atoi(pids[5][1])
	_ = syscall.Kill(pid, syscall.SIGKILL)
	wantLog(t, errs, `signal: killed(?s:.*)"a node is up" node=3`)
	eventually(t, "all nodes are up again", func() bool { return healthOf(t, url) == 3 })
	if n := stop(); n < 20 {
		t.Errorf("got %d sessions meanwhile, want more", n)
	}
}

// healthOf returns how many processes serve.
func healthOf(t *testing.T, url string) int {
	t.Helper()
	res, err := http.Get(url + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body struct{ Processes int }
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return body.Processes
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for range 1500 {
		if ok() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("not within 30 s: %s", what)
}

// wantLog waits until what was logged matches.
func wantLog(t *testing.T, errs *lockedBuffer, pattern string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for range 1500 {
		if re.MatchString(errs.String()) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("got the log\n%s\nwant %s", errs.String(), pattern)
}

// A program of any kind is run, and is told what it needs.
func TestRunEnvironment(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no shell")
	}
	cmd := program("run", "--nodes", "2", "--port", "0", "--cluster", "c1", "--", "sh", "-c", `echo "$ATOLL_CLUSTER $ATOLL_NAME $ATOLL_NODE $HOST $((PORT - ATOLL_PORT)) $GOMAXPROCS"; exit 7`)
	cmd.Env = append(cmd.Environ(), "GOMAXPROCS=") // as if it was not set: then this process and that one have the same
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errs.String(), "exit status 7") {
		t.Errorf("got %v, want exit status 1, and how the program ended\n%s", err, errs.String())
	}
	half := share(runtime.GOMAXPROCS(0), 2)
	for _, want := range []string{fmt.Sprintf("[1] c1 c1-1 1 127.0.0.1 0 %d\n", half), fmt.Sprintf("[2] c1 c1-2 2 127.0.0.1 0 %d\n", half)} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
}

func TestShare(t *testing.T) {
	for _, c := range []struct{ processors, processes, want int }{{1, 1, 1}, {2, 3, 1}, {8, 8, 1}, {8, 3, 3}, {64, 4, 16}, {4, 1, 4}} {
		if got := share(c.processors, c.processes); got != c.want {
			t.Errorf("%d processors for %d processes: got %d each, want %d", c.processors, c.processes, got, c.want)
		}
	}
}

// TestServeDrains: at SIGTERM a client is asked to go, and everything that is ready for it comes first.
func TestServeDrains(t *testing.T) {
	cmd := program("serve", "--port", "0", "--cluster", fmt.Sprintf("test-term-%d", os.Getpid()), "--drain-lead", "300ms")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1000)
	n, _ := out.Read(b)
	m := servesLine.FindStringSubmatch(string(b[:n]))
	if m == nil {
		t.Fatalf("got %q, want where it serves", b[:n])
	}
	p := connect(t, m[1], "/")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	status := func() int {
		res, err := http.Get(m[1] + "/health")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	eventually(t, "health says 503", func() bool { return status() == 503 })
	if got := p.get(); got != "1" {
		t.Errorf("got %q, want a close packet", got)
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
}

func TestDrainCommand(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for _, m := range media[:2] {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			where := m.bus(t)
			with := func(args ...string) []string { return append(args, where...) }
			a := startServer(t, with("serve", "--port", "0", "--name", "anna")...)
			startServer(t, with("serve", "--port", "0", "--name", "bert")...)
			p := connect(t, a, "/")
			polled := make(chan string, 1)
			go func() { polled <- p.get() }()
			if out := run(t, 0, with("drain", "anna", "--lead", "100ms", "--window", "5s")...); !strings.Contains(out, "anna: /health says 503, 1 session there\n") || !strings.HasSuffix(out, "anna: drained\n") {
				t.Errorf("got %q, want how anna is drained", out)
			}
			if got := <-polled; got != "1" {
				t.Errorf("the client got %q, want a close packet", got)
			}
			if out := run(t, 0, with("nodes")...); !regexp.MustCompile(`(?m)^anna .* drained$`).MatchString(out) || !regexp.MustCompile(`(?m)^bert .* serving$`).MatchString(out) {
				t.Errorf("got\n%s\nwant anna drained, and bert serving", out)
			}
			run(t, 1, with("drain", "carl")...)
			if out := run(t, 0, with("drain", "anna", "--undo")...); out != "anna takes sessions again\n" {
				t.Errorf("got %q, want that anna takes sessions", out)
			}
			connect(t, a, "/").post("1")
			if out := run(t, 0, with("drain", "anna", "--lead", "1m", "--no-wait", "--json")...); !strings.Contains(out, `"state":"announced"`) {
				t.Errorf("got %q, want announced", out)
			}
		})
	}
}

// A socket that systemd has opened is used.
func TestSocketActivation(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: t.TempDir() + "/notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no shell")
	}
	atoll := program("serve", "--cluster", fmt.Sprintf("test-socket-%d", os.Getpid()))
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, atoll.Args...)...)
	cmd.Env = append(atoll.Env, "LISTEN_FDS=1", "NOTIFY_SOCKET="+notify.LocalAddr().String())
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	heard := func(want string) {
		t.Helper()
		b := make([]byte, 100)
		_ = notify.SetReadDeadline(time.Now().Add(30 * time.Second))
		if n, err := notify.Read(b); string(b[:n]) != want {
			t.Errorf("got %q, %v, want %s", b[:n], err, want)
		}
	}
	heard("READY=1")
	connect(t, "http://"+l.Addr().String(), "/").post("1")
	_ = cmd.Process.Signal(os.Interrupt)
	heard("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
}
