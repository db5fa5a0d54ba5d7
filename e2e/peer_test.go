//go:build unix

package e2e

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		panic(err)
	}
	built.dir = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// A peer is a Node.js process that does what it is told; see js/peer.js.
type peer struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu      sync.Mutex
	calls   map[int]chan reply
	next    int
	reports []report
	gone    error
}

type reply struct {
	ID     *int            `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`
	Report *report         `json:"report"`
}

// A report is something that happened at a peer by itself.
type report struct {
	Client     string            `json:"client"` // what a client received
	Server     string            `json:"server"` // what the server was told by others: the namespace
	Event      string            `json:"event"`
	Args       []json.RawMessage `json:"args"`
	Disconnect string            `json:"disconnect"`
}

func (r report) String() string {
	if r.Disconnect != "" {
		return "disconnect: " + r.Disconnect
	}
	args := make([]string, len(r.Args))
	for i, a := range r.Args {
		args[i] = string(a)
	}
	return r.Event + "(" + strings.Join(args, ", ") + ")"
}

// need skips the test where something that it needs is not installed.
func need(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("node_modules/socket.io"); err != nil {
		t.Skip("the official packages are not installed: run npm ci in e2e")
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not on the PATH")
	}
}

// startPeer starts a Node.js process, which ends with t.
func startPeer(t testing.TB) *peer {
	t.Helper()
	need(t)
	cmd := exec.Command("node", "js/peer.js")
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
	p := &peer{cmd: cmd, in: in, calls: make(map[int]chan reply)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.read(out)
	}()
	t.Cleanup(func() {
		in.Close()
		kill := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		<-read
		cmd.Wait()
		kill.Stop()
	})
	return p
}

func (p *peer) read(out io.Reader) {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var r reply
		if err := json.Unmarshal(line, &r); err != nil {
			fmt.Fprintf(os.Stderr, "peer: %s", line)
			continue
		}
		p.mu.Lock()
		if r.Report != nil {
			p.reports = append(p.reports, *r.Report)
		} else if r.ID != nil {
			p.calls[*r.ID] <- r
			delete(p.calls, *r.ID)
		}
		p.mu.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = errors.New("the Node.js process has ended")
	for _, c := range p.calls {
		c <- reply{Error: p.gone.Error()}
	}
	clear(p.calls)
}

// object is a command, or a part of it. Byte slices in it arrive as Buffers.
type object map[string]any

// try has the process do something.
func (p *peer) try(do string, o object) (json.RawMessage, error) {
	c := make(chan reply, 1)
	p.mu.Lock()
	if p.gone != nil {
		p.mu.Unlock()
		return nil, p.gone
	}
	p.next++
	id := p.next
	p.calls[id] = c
	p.mu.Unlock()

	cmd := map[string]any{}
	for k, v := range o {
		cmd[k] = pack(v)
	}
	cmd["id"], cmd["do"] = id, do
	line, err := json.Marshal(cmd)
	if err != nil {
		return nil, err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	select {
	case r := <-c:
		if r.Error != "" {
			return r.Result, errors.New(r.Error)
		}
		return r.Result, nil
	case <-time.After(time.Minute):
		return nil, fmt.Errorf("no answer to %s", line)
	}
}

// do is try for what must succeed.
func (p *peer) do(t testing.TB, do string, o object) json.RawMessage {
	t.Helper()
	r, err := p.try(do, o)
	if err != nil {
		t.Fatalf("%s: %v", do, err)
	}
	return r
}

// freeze stops the process as it is; thaw has it go on.
func (p *peer) freeze() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *peer) thaw() error   { return p.cmd.Process.Signal(syscall.SIGCONT) }

// of returns what was reported of a client, or of the server's namespace, so far.
func (p *peer) of(who string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var s []string
	for _, r := range p.reports {
		if r.Client == who || r.Server == who {
			s = append(s, r.String())
		}
	}
	return s
}

// forget forgets what was reported.
func (p *peer) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reports = nil
}

// pack writes the byte slices in v as the processes do.
func pack(v any) any {
	switch x := v.(type) {
	case []byte:
		return object{"$b": base64.StdEncoding.EncodeToString(x)}
	case []any:
		y := make([]any, len(x))
		for i := range x {
			y[i] = pack(x[i])
		}
		return y
	case object:
		return pack(map[string]any(x))
	case map[string]any:
		y := make(map[string]any, len(x))
		for k := range x {
			y[k] = pack(x[k])
		}
		return y
	}
	return v
}

// text writes values as reports do, to be compared with them.
func text(values ...any) string {
	s := make([]string, len(values))
	for i, v := range values {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false) // as JSON.stringify
		if err := e.Encode(pack(v)); err != nil {
			panic(err)
		}
		s[i] = strings.TrimSuffix(b.String(), "\n")
	}
	return strings.Join(s, ", ")
}

// eventually waits until ok, for half a minute at most.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s, got no: %s", what)
		}
	}
}
