//go:build unix

package rolling

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atollhq/atoll/sticky"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if built.dir != "" {
			_ = os.RemoveAll(built.dir)
		}
		os.Exit(code)
	}))
}

// raced says that the race detector is on.
var raced bool

// built is the command, once it was compiled.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// build compiles the command.
func build(t *testing.T) string {
	t.Helper()
	bin := func() string { return filepath.Join(built.dir, "atoll") }
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "atoll-rolling"); built.err != nil {
			return
		}
		if out, err := exec.Command("go", "build", "-o", bin(), "../../cmd/atoll").CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return bin()
}

// A node is a process of `atoll serve`.
type node struct {
	cmd  *exec.Cmd
	url  string
	done chan error
}

var serving = regexp.MustCompile(`Serving (http://\S+)`)

// start starts a node. It is killed with the test, if it is still there.
func start(t *testing.T, bin string, args ...string) *node {
	t.Helper()
	n := &node{cmd: exec.Command(bin, args...), done: make(chan error, 1)}
	n.cmd.Stderr = os.Stderr
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, _ := lines.ReadString('\n')
	go func() { n.done <- n.cmd.Wait() }()
	t.Cleanup(func() {
		_ = n.cmd.Process.Kill()
		<-n.done
	})
	m := serving.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("got %q, want where the node serves", line)
	}
	n.url = m[1]
	return n
}

// drain has a node drain and end, and waits for that.
func (n *node) drain(t *testing.T) {
	t.Helper()
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-n.done:
		if err != nil {
			t.Errorf("the node ended with %v, want a clean end", err)
		}
		n.done <- nil
	case <-time.After(2 * time.Minute):
		t.Fatal("the node does not end within 2 minutes")
	}
}

// kill ends a node without a word, and waits for that.
func (n *node) kill() {
	_ = n.cmd.Process.Kill()
	n.done <- <-n.done
}

// A front is a balancer that notes when sessions begin.
type front struct {
	*sticky.Balancer
	url string

	mu    sync.Mutex
	begun []time.Time
}

func balance(t *testing.T, nodes ...*node) *front {
	t.Helper()
	b, err := sticky.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{Balancer: b}
	f.to(t, nodes...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.url = "http://" + l.Addr().String()
	hs := &http.Server{Handler: f}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = hs.Serve(l)
	}()
	t.Cleanup(func() {
		b.Close()
		hs.Close()
		<-served
	})
	return f
}

// to sends clients to these nodes.
func (f *front) to(t *testing.T, nodes ...*node) {
	t.Helper()
	var backends []sticky.Backend
	for _, n := range nodes {
		backends = append(backends, sticky.Backend{URL: n.url})
	}
	if err := f.SetBackends(backends...); err != nil {
		t.Fatal(err)
	}
}

// up waits until a node gets sessions.
func (f *front) up(t *testing.T, n *node) {
	t.Helper()
	for range 3000 {
		for _, b := range f.Status().Backends {
			u, err := url.Parse(n.url)
			if err == nil && strings.HasSuffix(b.URL, ":"+u.Port()) && b.State == sticky.Up {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the balancer does not find a node within 30 s")
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !r.URL.Query().Has("sid") {
		f.mu.Lock()
		f.begun = append(f.begun, time.Now())
		f.mu.Unlock()
	}
	f.Balancer.ServeHTTP(w, r)
}

// busiest returns how many sessions began in the second in which most did, and forgets them all.
func (f *front) busiest() (most, all int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.SortFunc(f.begun, time.Time.Compare)
	first := 0
	for i, at := range f.begun {
		for at.Sub(f.begun[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	all = len(f.begun)
	f.begun = nil
	return most, all
}

// official starts official clients, if they are there, and has see called with what happens to them.
func official(t *testing.T, url string, number int, transports string, see func(client int, what, reason string, n int, recovered bool)) {
	t.Helper()
	if _, err := os.Stat("../node_modules/socket.io-client"); err != nil {
		t.Log("without official clients: run npm ci in e2e")
		return
	}
	cmd := exec.Command("node", "clients.js", url, strconv.Itoa(number), transports)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("no node")
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var o struct {
				Client       int
				What, Reason string
				N            int
				Recovered    bool
			}
			if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
				t.Errorf("the clients say %q: %v", lines.Text(), err)
				continue
			}
			see(o.Client, o.What, o.Reason, o.N, o.Recovered)
		}
	}()
	t.Cleanup(func() {
		in.Close()
		<-read
		_ = cmd.Wait()
	})
}
