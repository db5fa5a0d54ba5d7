//go:build unix

package proxies

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// A crowd is a Node.js process with official clients; see js/crowd.js.
type crowd struct {
	in  io.WriteCloser
	out *bufio.Reader

	lenient bool // problems are only noted
}

// A report is what the crowd answers; which fields are set depends on the command.
type report struct {
	Error    string
	Problems []string // what must never be: something lost, there twice, out of order, different

	Connected, Addresses int            // clients; those of which the node knows the address
	Nodes                map[string]int // clients by node
	Late                 map[string]int // clients by mode that did not get there
	Failures             map[string]int // what clients met: how often

	Marked int
	Back   map[string]int // ms until the last client of a mode was served again
	// Slowest says what that client met on the way, and when.
	Slowest map[string]string
	Others  []string // clients of other nodes that lost their connection
	Why     map[string]int
	// How busy the machine was meanwhile: ms that the crowd's process was late itself, and that it took a client to
	// be connected and served, at most, which came to another node without the program in between.
	Lag, Usual int

	Drops, Away []string // who lost its connection, and why; who has none
}

func startCrowd(t testing.TB) *crowd {
	t.Helper()
	cmd := exec.Command("node", "js/crowd.js")
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
		defer kill.Stop()
		_ = cmd.Wait()
	})
	return &crowd{in: in, out: bufio.NewReader(out)}
}

// object is a command.
type object map[string]any

// do has the crowd do something, waits for it, and checks that nothing went wrong that never may.
func (c *crowd) do(t testing.TB, do string, o object) (r report) {
	t.Helper()
	c.ask(t, do, o)
	return c.answer(t, do)
}

func (c *crowd) ask(t testing.TB, do string, o object) {
	t.Helper()
	o["do"] = do
	line, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
}

func (c *crowd) answer(t testing.TB, do string) (r report) {
	t.Helper()
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("%s: the crowd has ended: %v", do, err)
	}
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatalf("%s: %v in %q", do, err, line)
	}
	if r.Error != "" {
		t.Fatalf("%s: %s", do, r.Error)
	}
	for _, p := range r.Problems {
		if c.lenient {
			t.Logf("%s: %s", do, p)
		} else {
			t.Errorf("%s: %s", do, p)
		}
	}
	return r
}
