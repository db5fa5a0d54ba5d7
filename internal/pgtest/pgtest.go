//go:build unix

// Package pgtest starts PostgreSQL servers for tests: real ones, on a free port of the
// loopback, in a directory that goes with the test.
package pgtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atollhq/atoll/internal/freeport"
)

// A Server is a PostgreSQL server that a test started. Its superuser is postgres, without a
// password.
type Server struct {
	port     int
	dir      string // of everything
	bin      string // of the programs
	user     *syscall.Credential
	settings []string

	databases atomic.Int32

	mu   sync.Mutex
	proc *process
}

type process struct {
	cmd   *exec.Cmd
	out   bytes.Buffer
	ended chan struct{} // closed when it has ended
}

// patience is how long a server may take to answer.
const patience = 60 * time.Second

// Start starts a server, which ends with t. It skips t where PostgreSQL is not installed.
// Settings are as in postgresql.conf ("max_connections=20"). What the server has committed
// survives Kill, but not the end of the machine, for which it would take fsync=on.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	bin := programs()
	if bin == "" {
		t.Skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
	}
	s, err := start(bin, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		os.RemoveAll(s.dir)
	})
	return s
}

// programs returns the directory of initdb and postgres, the newest there is.
func programs() string {
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			if _, err := os.Stat(filepath.Join(filepath.Dir(p), "postgres")); err == nil {
				return filepath.Dir(p)
			}
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return ""
	}
	version := func(p string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(p))))
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(found[len(found)-1])
}

func start(bin string, settings []string) (*Server, error) {
	s := &Server{bin: bin, settings: settings}
	var err error
	// A directory of its own, with a short name: sockets lie in it, and the user of the server must reach it.
	if s.dir, err = os.MkdirTemp("", "pg"); err != nil {
		return nil, err
	}
	if s.user, err = owner(s.dir); err == nil {
		err = s.initialize()
	}
	for range 5 { // somebody else may take the port first
		if err != nil {
			break
		}
		if s.port, err = freeport.Get(); err != nil {
			break
		}
		if err = s.Restart(); err == nil {
			return s, nil
		}
	}
	os.RemoveAll(s.dir)
	return nil, err
}

func (s *Server) initialize() error {
	cmd := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pgtest: initdb: %w: %s", err, out)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = dieWithUs()
	cmd.SysProcAttr.Credential = s.user
	return cmd
}

// Addr returns the host and port of the server.
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// URL returns what to connect to for a database of the server.
func (s *Server) URL(database string) string { return URL(s.Addr(), database) }

// URL returns what to connect to for a database of the server that is reached at addr.
func URL(addr, database string) string {
	return "postgres://postgres@" + addr + "/" + database + "?sslmode=disable"
}

// Database makes an empty database and returns its name. A database has notifications of its own.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "test" + strconv.Itoa(int(s.databases.Add(1)))
	s.Exec(t, "CREATE DATABASE "+name)
	return name
}

// Exec performs a statement in the database postgres.
func (s *Server) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL("postgres"))
	if err == nil {
		_, err = c.Exec(ctx, sql, args...)
		c.Close(ctx)
	}
	if err != nil {
		t.Fatalf("pgtest: %s: %v", sql, err)
	}
}

// Terminate ends all connections of clients (pg_terminate_backend).
func (s *Server) Terminate(t testing.TB) {
	t.Helper()
	s.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
}

// Kill ends the server at once (SIGKILL), all its processes, and waits until they are gone.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return
	}
	pids := s.proc.tree()
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	<-s.proc.ended
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if !slices.ContainsFunc(pids, func(pid int) bool { return alive(pid) }) {
			break
		}
	}
	s.proc = nil
}

// tree returns the ids of the process and of its children.
func (p *process) tree() []int {
	return append([]int{p.cmd.Process.Pid}, children(p.cmd.Process.Pid)...)
}

// Restart starts the server again, on its port, after Kill, and waits until it answers.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		return nil
	}
	os.Remove(filepath.Join(s.data(), "postmaster.pid")) // the number of the process may be another's by now
	args := []string{
		"-D", s.data(), "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=" + s.dir, "-c", "fsync=off", "-c", "shared_buffers=16MB",
	}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	p := &process{ended: make(chan struct{})}
	p.cmd = s.command("postgres", args...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		p.cmd.Wait()
		close(p.ended)
	}()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case <-p.ended:
			return fmt.Errorf("pgtest: postgres ended: %s", p.out.Bytes())
		default:
		}
		if s.answers() {
			s.proc = p
			return nil
		}
	}
	s.proc = p
	s.mu.Unlock()
	s.Kill()
	s.mu.Lock()
	return fmt.Errorf("pgtest: postgres does not answer: %s", p.out.Bytes())
}

func (s *Server) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return false
	}
	c.Close(ctx)
	return true
}

// Stop freezes the server (SIGSTOP), all its processes; Continue thaws it.
func (s *Server) Stop() error { return s.signal(syscall.SIGSTOP) }

// Continue ends what Stop began.
func (s *Server) Continue() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return os.ErrProcessDone
	}
	// The postmaster first, so that no process is born meanwhile.
	if err := syscall.Kill(s.proc.cmd.Process.Pid, sig); err != nil {
		return err
	}
	for _, pid := range children(s.proc.cmd.Process.Pid) {
		syscall.Kill(pid, sig)
	}
	return nil
}
