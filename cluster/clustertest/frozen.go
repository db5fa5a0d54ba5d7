package clustertest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atollhq/atoll/cluster"
)

// Dial makes a bus for one more node on the medium at an address.
type Dial = func(address string) (cluster.Bus, error)

const (
	envName    = "ATOLL_CLUSTERTEST_NODE"
	envAddress = "ATOLL_CLUSTERTEST_ADDRESS"
	envTalk    = "ATOLL_CLUSTERTEST_TALK"
)

// Main is what TestMain calls. In a process that TestFrozen started it is a node, until
// its standard input ends; in others it runs the tests and then looks for goroutines left over.
func Main(m *testing.M, dial Dial) {
	name := os.Getenv(envName)
	if name == "" {
		goleak.VerifyTestMain(m)
		return
	}
	serve := serve
	if os.Getenv(envTalk) != "" {
		serve = serveTalker
	}
	if err := serve(name, os.Getenv(envAddress), dial); err != nil {
		fmt.Fprintln(os.Stderr, "node", name+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(name, address string, dial Dial) error {
	bus, err := dial(address)
	if err != nil {
		return err
	}
	defer bus.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n, err := cluster.Join(ctx, bus, &cluster.Options{
		Name: name, Heartbeat: heartbeat, DeadAfter: deadAfter, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer n.Close()
	if err := n.Attach(&server{name: name}); err != nil {
		return err
	}
	if err := n.Open(ctx, "/"); err != nil {
		return err
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// A Process is a node in a process of its own. It answers questions in the namespace "/".
type Process struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

// Start starts this test's binary again as a node with the given name, which dials address. It
// returns when the node has joined; t kills it at its end. It needs Main.
func Start(t *testing.T, name, address string) *Process {
	t.Helper()
	return start(t, name, address)
}

func start(t *testing.T, name, address string, env ...string) *Process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{t: t, cmd: exec.Command(exe)}
	p.cmd.Env = append(append(os.Environ(), envName+"="+name, envAddress+"="+address), env...)
	p.cmd.Stderr = writer{t}
	dieWithParent(p.cmd)
	if p.in, err = p.cmd.StdinPipe(); err != nil { // it ends with us
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	p.out = bufio.NewReader(out)
	word, _ := p.out.ReadString('\n')
	if strings.TrimSpace(word) != "ready" {
		t.Fatalf("node %s said %q, want ready: does TestMain call clustertest.Main?", name, word)
	}
	return p
}

// Kill ends the process without giving it a chance to say goodbye, and waits for its end.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// Freeze stops the process (SIGSTOP), Thaw lets it go on. Where a system has no such
// signals Freeze skips the test.
func (p *Process) Freeze() {
	p.t.Helper()
	stop(p.t, p.cmd.Process)
}

// Thaw lets a frozen process go on.
func (p *Process) Thaw() {
	p.t.Helper()
	resume(p.t, p.cmd.Process)
}

// TestFrozen tests that a node whose process is stopped (SIGSTOP) is missed by name, and then
// waited for no more, while the others answer; and that it comes back. It needs Main.
// Nodes b and c are processes of their own, a is in this one.
func TestFrozen(t *testing.T, address string, dial Dial) {
	s := &suite{open: func(t *testing.T) cluster.Bus {
		bus, err := dial(address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { bus.Close() })
		return bus
	}}
	Start(t, "b", address)
	frozen := Start(t, "c", address)
	a := s.join(t, "a")
	peers := func(names ...string) func() bool {
		return func() bool {
			var got []string
			for _, p := range a.Peers() {
				got = append(got, p.Name)
			}
			slices.Sort(got)
			return slices.Equal(got, names)
		}
	}
	s.eventually(t, "three nodes", peers("b", "c"))
	fetch := &cluster.Op{Kind: cluster.Fetch, Namespace: "/"}
	if o := a.askFor(t, 5*time.Second, fetch); o.err != nil || len(o.answers) != 2 {
		t.Fatalf("before the freeze, got %d answers and error %v, want 2 and none", len(o.answers), o.err)
	}

	frozen.Freeze()
	frozenQuestions(t, a)

	frozen.Thaw()
	s.eventually(t, "the node that was frozen", peers("b", "c"))
	s.eventually(t, "answers of all", func() bool {
		o := a.askFor(t, 5*time.Second, fetch)
		return o.err == nil && len(o.answers) == 2
	})

	killed := time.Now()
	frozen.Kill()
	o := a.askFor(t, 20*time.Second, fetch)
	if took := time.Since(killed); took > 3*deadAfter {
		t.Errorf("when a node was killed, got the end of a question after %v, want it within %v", took, deadAfter)
	}
	if len(o.answers) != 1 {
		t.Errorf("when a node was killed, got %d answers, want 1", len(o.answers))
	}
	s.eventually(t, "one node left", peers("b"))
}
