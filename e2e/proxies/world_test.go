//go:build unix

package proxies

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/atollhq/atoll/internal/redistest"
)

// longPing is a pause between pings that lets a long poll, and a WebSocket, be idle for more than a minute.
const longPing = 68 * time.Second

// A world is what all set-ups share.
type world struct {
	redis   string   // address
	binary  string   // of ../node
	atoll   string   // the command
	browser *browser // nil where there is none
	long    nodes    // which ping rarely
	cookie  nodes    // the same as long, with a cookie

	turns, light chan struct{} // of those who put load on three nodes, and of those who do what costs less
}

// nodes are n1, n2 and so on, which know each other.
type nodes []*node

// A node is a process, and can be started again.
type node struct {
	*process
	id, addr string
	command  []string
}

// need skips the test where something that all set-ups need is not there.
func need(t testing.TB) {
	t.Helper()
	if os.Getenv("ATOLL_E2E") == "" || testing.Short() {
		t.Skip("set ATOLL_E2E=1 for the tests with real proxies")
	}
	if _, err := os.Stat("../node_modules/socket.io"); err != nil {
		t.Skip("the official packages are not installed: run npm ci in e2e")
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not on the PATH")
	}
}

func startWorld(t testing.TB) *world {
	t.Helper()
	need(t)
	bin := t.TempDir()
	w := &world{
		redis: redistest.Start(t).Addr(), binary: filepath.Join(bin, "node"), atoll: filepath.Join(bin, "atoll"),
		turns: make(chan struct{}, atOnce), light: make(chan struct{}, atOnce),
	}
	w.browser = startBrowser(t)
	// Without the race detector: it is not these that are tested here, and others wait for them.
	if out, err := exec.Command("go", "build", "-o", bin, "./node", "../../cmd/atoll").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	dir := t.TempDir()
	w.long = w.start(t, dir, "long", "-ping", longPing.String())
	w.cookie = w.start(t, dir, "cookie", "-ping", longPing.String(), "-cookie")
	return w
}

// take waits for a turn, and returns what gives it back.
func take(turns chan struct{}) (give func()) {
	turns <- struct{}{}
	return func() { <-turns }
}

// origins are those whose pages the nodes let in.
func (w *world) origins() string {
	if w.browser == nil {
		return "http://localhost:1"
	}
	return w.browser.pages.origins()
}

// start starts three Atoll nodes, in a cluster of the given name.
func (w *world) start(t testing.TB, dir, name string, more ...string) nodes {
	t.Helper()
	var all nodes
	for i := range 3 {
		all = append(all, w.node(t, dir, i, name, more...))
	}
	all.await(t)
	return all
}

// startPair starts an Atoll node and a Node.js node, in one cluster.
func (w *world) startPair(t testing.TB, dir, name string) nodes {
	t.Helper()
	port := freePort(t)
	js := &node{id: "n2", addr: "127.0.0.1:" + strconv.Itoa(port)}
	js.command = []string{"node", "js/node.js", js.id, strconv.Itoa(port), w.redis, name, w.origins()}
	js.launch(t, dir)
	all := nodes{w.node(t, dir, 0, name, "-official", "-cookie", "-origins", w.origins()), js}
	all.await(t)
	return all
}

func (w *world) node(t testing.TB, dir string, i int, cluster string, more ...string) *node {
	t.Helper()
	n := &node{id: fmt.Sprintf("n%d", i+1), addr: "127.0.0.1:" + strconv.Itoa(freePort(t))}
	n.command = append([]string{w.binary, "-id", n.id, "-addr", n.addr, "-redis", w.redis, "-prefix", cluster}, more...)
	n.launch(t, dir)
	return n
}

func (n *node) launch(t testing.TB, dir string) {
	t.Helper()
	n.process = launch(t, dir, n.command[0], n.command[1:]...)
}

func (all nodes) await(t testing.TB) {
	t.Helper()
	for _, n := range all {
		n.process.await(t, n.healthy)
	}
}

func (n *node) healthy() error {
	r, err := http.Get("http://" + n.addr + "/health")
	if err != nil {
		return err
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", r.StatusCode)
	}
	return nil
}

func (all nodes) named(id string) *node {
	for _, n := range all {
		if n.id == id {
			return n
		}
	}
	return nil
}

// besides returns a node that is not x.
func (all nodes) besides(x *node) *node {
	if all[0] == x {
		return all[1]
	}
	return all[0]
}
