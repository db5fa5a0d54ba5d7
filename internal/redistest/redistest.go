//go:build unix

// Package redistest starts Redis servers for tests: real ones, on a free port of the
// loopback, in a directory that goes with the test.
package redistest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Server is a redis-server process that a test started.
type Server struct {
	port int
	dir  string
	args []string

	mu   sync.Mutex
	proc *process
}

type process struct {
	cmd   *exec.Cmd
	out   bytes.Buffer
	ended chan struct{} // closed when it has ended
}

// Start starts a server, which ends with t. It skips t where redis-server is not installed.
func Start(t testing.TB) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed (Debian: apt-get install redis-server)")
	}
	s, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// New starts a server whose files lie in dir. It ends with Kill.
func New(dir string) (*Server, error) { return start(dir) }

func start(dir string, args ...string) (*Server, error) {
	var err error
	for range 5 { // somebody else may take the port first
		s := &Server{dir: dir, args: args}
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = s.Restart(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// StartCluster starts three servers that are one Redis Cluster, and returns their addresses. They end
// with t. It skips t where redis-server or redis-cli is not installed.
func StartCluster(t testing.TB) []string {
	t.Helper()
	for _, name := range []string{"redis-server", "redis-cli"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(name + " is not installed (Debian: apt-get install redis-server redis-tools)")
		}
	}
	var servers []*Server
	var addrs []string
	for range 3 {
		bus, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		s, err := start(t.TempDir(), "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "2000")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Kill)
		servers = append(servers, s)
		addrs = append(addrs, s.Addr())
	}
	cmd := exec.Command("redis-cli", append(append([]string{"--cluster", "create"}, addrs...), "--cluster-replicas", "0", "--cluster-yes")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("redis-cli: %v: %s", err, out)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		ready := 0
		for _, s := range servers {
			if strings.Contains(s.ask("CLUSTER INFO"), "cluster_state:ok") {
				ready++
			}
		}
		if ready == len(servers) {
			return addrs
		}
		if time.Now().After(deadline) {
			t.Fatalf("redistest: after 10 s, %d of %d servers of the cluster are ready", ready, len(servers))
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
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

// Restart starts the server again, on its port, after Kill, and waits until it answers.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &process{ended: make(chan struct{})}
	p.cmd = exec.Command("redis-server", append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1",
		"--dir", s.dir, "--save", "", "--appendonly", "no", "--daemonize", "no",
	}, s.args...)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = dieWithUs()
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		p.cmd.Wait()
		close(p.ended)
	}()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case <-p.ended:
			return fmt.Errorf("redistest: redis-server ended: %s", p.out.Bytes())
		default:
		}
		if s.answers() {
			s.proc = p
			return nil
		}
	}
	p.cmd.Process.Kill()
	<-p.ended
	return fmt.Errorf("redistest: redis-server does not answer: %s", p.out.Bytes())
}

func (s *Server) answers() bool { return s.ask("PING") == "+PONG\r\n" }

// ask sends one command and returns the beginning of the answer, nothing where there is none.
func (s *Server) ask(command string) string {
	c, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(c, "%s\r\n", command)
	var b [512]byte
	n, _ := c.Read(b[:])
	return string(b[:n])
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
