//go:build unix

// Package redistest starts Redis servers for tests: real ones, on free ports of the
// loopback, in directories that go with the test. One alone ([Start]), one with TLS ([StartTLS]), Valkey
// ([StartValkey]), a master with Sentinels ([StartSentinel]), a Redis Cluster ([StartCluster],
// [StartReplicated]).
//
// They keep nothing on disk: one that is killed and started again is empty.
package redistest

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atollhq/atoll/internal/freeport"
)

// A Server is a process that a test started. Its methods may be called by any number of goroutines at once.
type Server struct {
	settings
	port int

	mu   sync.Mutex
	proc *process
}

type settings struct {
	binary string
	dir    string
	args   []string
	conf   string      // of a sentinel: its file
	tls    *tls.Config // what clients use; nil without TLS
}

type process struct {
	cmd   *exec.Cmd
	out   output
	ended chan struct{} // closed when it has ended
}

// startTimeout is how long a server, or a cluster of them, may take to be ready.
const startTimeout = 30 * time.Second

// Start starts a server with further arguments, if any, which ends with t. It skips t where redis-server is
// not installed.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	need(t, "redis-server")
	return run(t, settings{binary: "redis-server", args: args})
}

// StartValkey starts a Valkey server, which ends with t. It skips t where valkey-server is not installed.
func StartValkey(t testing.TB, args ...string) *Server {
	t.Helper()
	need(t, "valkey-server")
	return run(t, settings{binary: "valkey-server", args: args})
}

// New starts a server whose files lie in dir. It ends with Kill.
func New(dir string, args ...string) (*Server, error) {
	return start(settings{binary: "redis-server", dir: dir, args: args})
}

var packages = map[string]string{
	"redis-server": "redis-server", "redis-cli": "redis-tools",
	"valkey-server": "valkey-server, from Debian 13 on; the tests with Redis test the same protocol",
}

// need skips t where a program is missing.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed (Debian: package %s)", name, packages[name])
		}
	}
}

// run starts a server, which ends with t.
func run(t testing.TB, o settings) *Server {
	t.Helper()
	o.dir = t.TempDir()
	s, err := start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// start starts a server on a free port.
func start(o settings) (*Server, error) {
	var err error
	for range 5 { // somebody else may take the port first
		s := &Server{settings: o}
		if s.port, err = freeport.Get(); err != nil {
			return nil, err
		}
		if err = s.Restart(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// Addr returns the host and port of the server.
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// Kill ends the server at once (SIGKILL), and waits until it is gone.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		s.proc.cmd.Process.Kill()
		<-s.proc.ended
		s.proc = nil
	}
}

// Running reports whether the server was started and not killed.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc != nil
}

// Restart starts the server again, on its port, after Kill, and waits until it answers.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		return fmt.Errorf("redistest: the server on %s runs: Kill it before Restart", s.Addr())
	}
	p := &process{ended: make(chan struct{})}
	p.cmd = exec.Command(s.binary, s.commandLine()...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = dieWithUs()
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		p.cmd.Wait()
		close(p.ended)
	}()
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case <-p.ended:
			return fmt.Errorf("redistest: %s ended: %s", s.binary, p.out.String())
		default:
		}
		if _, err := s.Do("PING"); err == nil && s.is(p) {
			s.proc = p
			return nil
		}
	}
	p.cmd.Process.Kill()
	<-p.ended
	return fmt.Errorf("redistest: %s does not answer within %v: %s", s.binary, startTimeout, p.out.String())
}

// is reports whether it is p that answers, and not another server that has taken the port. Who may not ask gets the benefit of the doubt.
func (s *Server) is(p *process) bool {
	info, err := s.Do("INFO", "server")
	text, ok := info.(string)
	return err != nil || !ok || strings.Contains(text, "process_id:"+strconv.Itoa(p.cmd.Process.Pid)+"\r\n")
}

// commandLine returns the arguments. What the caller gives comes last, so that it wins.
func (s *Server) commandLine() []string {
	port := []string{"--port", strconv.Itoa(s.port)}
	if s.conf != "" {
		return append(append([]string{s.conf, "--sentinel"}, port...), "--bind", "127.0.0.1")
	}
	if s.tls != nil {
		port = []string{"--port", "0", "--tls-port", strconv.Itoa(s.port)}
	}
	return append(append(port, "--bind", "127.0.0.1", "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no"), s.args...)
}

// Stop freezes the server (SIGSTOP); Continue thaws it.
func (s *Server) Stop() error { return s.signal(syscall.SIGSTOP) }

// Continue ends what Stop began.
func (s *Server) Continue() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return os.ErrProcessDone
	}
	return s.proc.cmd.Process.Signal(sig)
}

// output keeps the beginning of what a process says.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const maxOutput = 64 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.Write(p[:min(len(p), maxOutput-min(maxOutput, o.b.Len()))])
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
