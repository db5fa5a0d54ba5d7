//go:build unix

// Package doctor tests what atoll check says of real proxies: that it finds and names what was done
// wrong on purpose, and has nothing to say against what is right.
package doctor

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/internal/freeport"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "10"); err != nil { // they wait most of the time
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

var quiet = slog.New(slog.DiscardHandler)

// find returns where a program is, also where an ordinary user does not look, or skips the test.
func find(t *testing.T, program string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + program); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed", program)
	return ""
}

// launch starts a program, which ends with t, and waits until addr takes connections.
func launch(t *testing.T, dir, addr, bin string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(bin, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	said := func() string {
		b, _ := os.ReadFile(log.Name())
		more, _ := os.ReadFile(filepath.Join(dir, "error.log")) // of those that say little elsewhere
		return string(b) + string(more)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		// Not soon: the children of Apache httpd would live on.
		kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		<-ended
		kill.Stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(bin), said())
		}
	})
	err = errors.New("not asked")
	for deadline := time.Now().Add(20 * time.Second); err != nil; time.Sleep(10 * time.Millisecond) {
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", bin, said())
		default:
		}
		var c net.Conn
		if c, err = net.Dial("tcp", addr); err == nil {
			c.Close()
		} else if time.Now().After(deadline) {
			t.Fatalf("%s is not ready: %v: %s", bin, err, said())
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// A farm is the nodes of a test.
type farm struct {
	n      int  // nodes; 0: 2
	one    bool // they are a cluster, and need no stickiness
	node   bool // they are Node.js
	dead   bool // one more is in rotation, which is not there
	engine engine.Options
	cors   any // of Node.js
	cookie any
	ping   time.Duration // zero: 1 s
}

// start starts the nodes and returns their addresses.
func (f farm) start(t *testing.T) (addrs []string) {
	t.Helper()
	if f.n == 0 {
		f.n = 2
	}
	if f.ping == 0 {
		f.ping = time.Second
	}
	if f.dead {
		defer func() { addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", freePort(t))) }()
	}
	if f.node {
		return f.official(t)
	}
	f.engine.PingInterval, f.engine.Logger = f.ping, quiet
	var hub membus.Hub
	for i := range f.n {
		o := &atoll.Options{Engine: f.engine, Logger: quiet}
		if f.one {
			node, err := cluster.Join(t.Context(), membus.New(&hub, nil), &cluster.Options{Name: strconv.Itoa(i), Logger: quiet})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { node.Close() })
			o.Cluster = node
		}
		srv := atoll.NewServer(o)
		mux := http.NewServeMux()
		mux.Handle("/socket.io/", srv)
		mux.Handle("/health", srv.Health())
		web := httptest.NewServer(mux)
		t.Cleanup(func() {
			srv.Close()
			web.Close()
		})
		addrs = append(addrs, web.Listener.Addr().String())
	}
	return addrs
}

// official starts nodes of the official server, as many as one program.
func (f farm) official(t *testing.T) (addrs []string) {
	t.Helper()
	if _, err := os.Stat("../node_modules/socket.io"); err != nil {
		t.Skip("socket.io is not installed: run npm ci in e2e")
	}
	var options []any
	for range f.n {
		options = append(options, map[string]any{"cors": f.cors, "cookie": f.cookie, "pingInterval": f.ping.Milliseconds(), "pingTimeout": 20000})
	}
	o, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(find(t, "node"), "../origins/js/official.js", string(o))
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
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var ports []int
	if err := json.Unmarshal(line, &ports); err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", p))
	}
	return addrs
}
