//go:build unix

package proxies

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A setUp is a program with a configuration.
type setUp struct {
	name    string // unique, a row of the table
	program string // which must be installed

	// file is the configuration below deploy. If empty, it is that of the documentation of the official server.
	file string
	// needs is what clients need, for the table. If empty, nothing.
	needs string
	// cookies says that clients keep cookies; nodeCookie that the nodes set the cookie io.
	cookies, nodeCookie bool
	// foreign says that Node.js nodes can be behind it.
	foreign bool
	// loose says that requests may come to any node. Then a request that the killed node was passing on
	// is lost with it, so a client of another node may lose its connection.
	loose bool
	// once says that it does not send a GET again whose node died. Then, where it is loose, clients of other
	// nodes whose polls waited with the killed one lose their connection too.
	once bool
	// moves says that a client of a node that returns is sent back to it, so a Node.js node does not know its session.
	moves bool
	// avoids is how long a node that has failed gets nothing, if for long.
	avoids time.Duration
	// h2 says that it serves HTTP/2 on front.tls.
	h2 bool

	// start starts the program as f says, and returns when it serves.
	start func(t testing.TB, f *front)
}

func (s *setUp) ours() bool { return s.file != "" }

// setUps are all that are tested. Each program adds its own.
var setUps []setUp

// A front is where a program is to serve, and for whom.
type front struct {
	dir       string
	port, tls int    // of 127.0.0.1
	cert, key string // files for TLS, PEM; both also holds both
	both      string
	atoll     string // the command
	nodes     nodes
}

func (w *world) front(t testing.TB, dir string, all nodes) *front {
	t.Helper()
	f := &front{dir: dir, atoll: w.atoll, port: freePort(t), tls: freePort(t), nodes: all}
	f.certify(t)
	return f
}

func (f *front) addr() string { return "127.0.0.1:" + strconv.Itoa(f.port) }
func (f *front) url() string  { return "http://" + f.addr() }

// write writes a file, and returns where it is.
func (f *front) write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// deployed returns a file below deploy with the nodes of f in the place of 10.0.0.1:3000 to 10.0.0.3:3000, and of what else
// pairs has: old, new. Each must be in the file. Where f has two nodes, what the file says of a third is left out.
func (f *front) deployed(t testing.TB, file string, pairs ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../deploy", file))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if len(f.nodes) == 2 {
		text = third.ReplaceAllString(strings.ReplaceAll(text, "10.0.0.2:3000 10.0.0.3:3000", "10.0.0.2:3000"), "")
	}
	for i, n := range f.nodes {
		pairs = append(pairs, fmt.Sprintf("10.0.0.%d:3000", i+1), n.addr)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("deploy/%s has no %q to be replaced", file, pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// third is what a file says of a third node: an upstream of nginx, and lines.
var third = regexp.MustCompile(`(?m)^upstream atoll_n3 \{\n(?:.*\n)*?\}\n|^.*(?:\b10\.0\.0\.3:3000|\bn3\b|atoll_n3).*\n`)

// each writes format once for each node, with its address and number in the place of ADDR and N.
func (f *front) each(format string) string {
	var b strings.Builder
	for i, n := range f.nodes {
		b.WriteString(strings.NewReplacer("ADDR", n.addr, "N", strconv.Itoa(i+1)).Replace(format))
	}
	return b.String()
}
