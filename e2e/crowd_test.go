//go:build unix

package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// built are the commands that were compiled, which the tests share.
var built struct {
	sync.Mutex
	dir string // is made by TestMain
	at  map[string]string
}

// build compiles a command of this module, once.
func build(t testing.TB, pkg string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if bin := built.at[pkg]; bin != "" {
		return bin
	}
	bin := filepath.Join(built.dir, filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-o", bin, "../"+pkg)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	if built.at == nil {
		built.at = make(map[string]string)
	}
	built.at[pkg] = bin
	return bin
}

// launch starts a program that ends with its standard input, and returns the first line
// that it prints.
func launch(t testing.TB, bin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(bin, args...)
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
		_ = cmd.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s said nothing: %v", bin, err)
	}
	return strings.TrimSpace(line)
}

// A crowd of official clients, of all transports, goes through atoll balance to three nodes.
func TestCrowdThroughBalancer(t *testing.T) {
	need(t)
	node, atoll := build(t, "internal/crowdnode"), build(t, "cmd/atoll")
	group := "crowd-" + strconv.Itoa(os.Getpid())
	args := []string{"balance", "--port", "0"}
	for _, name := range []string{"a", "b", "c"} {
		args = append(args, "--backend", launch(t, node, "-name", name, "-cluster", group))
	}
	url := address(t, launch(t, atoll, args...))

	clients := 100
	if testing.Short() {
		clients = 20
	}
	cmd := exec.Command("node", "js/crowd.js", url, strconv.Itoa(clients))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Clients, Echoes, Received int
		Nodes                     map[string]int
		Seconds                   float64
		Problems                  []string
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	for _, p := range got.Problems {
		t.Error(p)
	}
	if got.Clients != 3*clients {
		t.Errorf("got %d clients, want %d", got.Clients, 3*clients)
	}
	for _, name := range []string{"a", "b", "c"} {
		if n := got.Nodes[name]; n < got.Clients/6 {
			t.Errorf("node %s: got %d of %d clients, want about a third", name, n, got.Clients)
		}
	}
	t.Logf("%d clients on %v: %d echoes, %d events received in %.1f s", got.Clients, got.Nodes, got.Echoes, got.Received, got.Seconds)
}

// address finds the URL in what a command says when it is ready.
func address(t testing.TB, line string) string {
	t.Helper()
	for _, word := range strings.Fields(line) {
		if strings.HasPrefix(word, "http://") {
			return strings.TrimRight(word, ".,:")
		}
	}
	t.Fatalf("no URL in %q", line)
	return ""
}
