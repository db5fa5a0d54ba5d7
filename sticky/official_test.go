package sticky

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// script runs testdata/name with Node.js and the official packages until the test ends. Its
// lines come one by one.
func script(t *testing.T, name string, args ...string) (*exec.Cmd, <-chan string) {
	t.Helper()
	modules, _ := filepath.Abs("../e2e/node_modules")
	if _, err := os.Stat(filepath.Join(modules, "socket.io")); err != nil {
		t.Skip("needs the official packages: npm ci in e2e")
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("needs Node.js: ", err)
	}
	cmd := exec.Command("node", append([]string{filepath.Join("testdata", name)}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case lines <- s.Text():
			default:
			}
		}
	}()
	t.Cleanup(func() {
		in.Close()
		kill := time.AfterFunc(2*time.Second, func() { cmd.Process.Kill() })
		<-done
		cmd.Wait()
		kill.Stop()
	})
	return cmd, lines
}

func next(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case s, ok := <-lines:
		if !ok {
			t.Fatal("the script ended: ", io.ErrUnexpectedEOF)
		}
		return s
	case <-time.After(2 * time.Minute):
		t.Fatal("the script says nothing")
	}
	return ""
}

// The official clients, in all three ways to connect, through the balancer to three official
// servers, of which one is killed. Nobody is told; all of its clients are back on the others
// soon, and the others lose nothing.
func TestOfficial(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	var servers []*exec.Cmd
	var urls []string
	for range 3 {
		cmd, lines := script(t, "node.js")
		servers = append(servers, cmd)
		urls = append(urls, "127.0.0.1:"+next(t, lines))
	}
	// A bare Node.js server never answers what nobody handles.
	l, srv := balance(t, &Options{Health: Health{Path: "-"}}, urls...)
	l.settled(t.Context())
	const each, limit = 10, 20 * time.Second // the servers' pings would find out after 45 s
	_, lines := script(t, "clients.js", srv.URL, strconv.Itoa(each))
	if got := next(t, lines); got != "ready" {
		t.Fatal(got)
	}
	waitFor(t, "the sessions are counted", func() bool { return l.Status().Sessions == 3*each })
	s := l.Status()
	for _, b := range s.Backends {
		// One that is just being opened may count twice for a moment.
		if b.Sessions < each-2 || b.Sessions > each+2 || b.Tag != "" {
			t.Errorf("%s: %d sessions, tag %q; want about %d, none", b.Name, b.Sessions, b.Tag, each)
		}
		if b.Errors != 0 {
			t.Errorf("%s: %d errors, the last: %s", b.Name, b.Errors, b.LastError)
		}
	}
	if s.Unknown+s.Unavailable > 0 {
		t.Errorf("refused: %d unknown, %d unavailable", s.Unknown, s.Unavailable)
	}

	dead := int(s.Backends[1].Sessions)
	servers[1].Process.Kill()
	var got struct{ Back, Slowest int }
	for got.Back < dead {
		line := next(t, lines)
		if strings.HasPrefix(line, "error") || json.Unmarshal([]byte(line), &got) != nil {
			t.Fatal(line)
		}
	}
	t.Logf("%d clients back, the slowest after %d ms", got.Back, got.Slowest)
	if got.Back != dead || got.Slowest > int(limit.Milliseconds()) {
		t.Errorf("got %d clients back, the slowest after %d ms; want %d within %v", got.Back, got.Slowest, dead, limit)
	}
	waitFor(t, "the sessions are counted where they are", func() bool {
		s := l.Status().Backends
		return s[0].Sessions+s[2].Sessions == 3*each && s[1].Sessions == 0
	})
}
