package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	readyLook    = 30 * time.Millisecond // between two looks whether a process serves
	readyTimeout = 2 * time.Second       // of one
	pipeDelay    = 2 * time.Second       // for what a process that has ended has left in its pipes
)

// A process is one that was started.
type process struct {
	s     *Supervisor
	node  int
	port  int
	cmd   *exec.Cmd
	began time.Time
	up    bool // Up was called; the slot's goroutine sets it before others see the process
	left  sync.Once
	done  chan struct{} // closed when it has ended
	err   error         // before done is closed
}

func (p *process) pid() int     { return p.cmd.Process.Pid }
func (p *process) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// how says how the process has ended.
func (p *process) how() string {
	if p.err == nil {
		return "exit status 0"
	}
	return p.err.Error()
}

// gone tells that it is, once.
func (p *process) gone() {
	p.left.Do(func() {
		if p.up {
			p.s.o.Gone(p.addr())
		}
	})
}

// start starts a process.
func (s *Supervisor) start(node int) (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	port, err := s.freePort()
	if err != nil {
		return nil, err
	}
	p := &process{s: s, node: node, port: port, began: time.Now(), done: make(chan struct{})}
	p.cmd = s.o.Command(Place{Node: node, Port: port})
	prefix := prefixOf(node, s.o.Color)
	stdout, stderr := s.out.lines(prefix), s.out.lines(prefix)
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	p.cmd.SysProcAttr = attributes()
	p.cmd.WaitDelay = pipeDelay
	if err := p.cmd.Start(); err != nil { // with the lock: who reaps has to know it
		return nil, err
	}
	s.all[p] = struct{}{}
	s.work.Go(func() {
		p.err = p.cmd.Wait()
		if errors.Is(p.err, exec.ErrWaitDelay) {
			p.err = nil // somebody that it had started still holds its output
		}
		killGroup(p.cmd.Process)
		stdout.flush()
		stderr.flush()
		s.mu.Lock()
		delete(s.all, p)
		s.mu.Unlock()
		close(p.done)
	})
	return p, nil
}

// freePort returns a port that nobody listens on. s.mu is held.
func (s *Supervisor) freePort() (int, error) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		used := false
		for p := range s.all {
			used = used || p.port == port
		}
		if !used {
			return port, nil
		}
	}
	return 0, errors.New("no free port on 127.0.0.1")
}

// launch starts a process and waits until it serves.
func (s *Supervisor) launch(ctx context.Context, x *slot) (*process, error) {
	p, err := s.start(x.node)
	if err != nil {
		return nil, err
	}
	if err := s.ready(ctx, p); err != nil {
		select {
		case <-p.done:
		default:
			var sig os.Signal = terminate
			if ctx.Err() != nil {
				sig = s.o.Stop()
			}
			s.end(p, sig)
		}
		return nil, err
	}
	s.mu.Lock()
	s.served = true
	s.mu.Unlock()
	p.up = true
	s.o.Up(p.addr())
	s.o.Logger.Info("a node is up", "node", x.node, "pid", p.pid(), "port", p.port, "after", time.Since(p.began).Round(time.Millisecond))
	return p, nil
}

// ready waits until a process serves.
func (s *Supervisor) ready(ctx context.Context, p *process) error {
	late := time.NewTimer(s.o.ReadyTimeout)
	defer late.Stop()
	look := time.NewTicker(readyLook)
	defer look.Stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: readyTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var why error
	for {
		select {
		case <-p.done:
			return fmt.Errorf("it has ended before it served: %s", p.how())
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			return p.lateError(why)
		case <-look.C:
		}
		if why = s.asks(ctx, client, p.addr()); why == nil {
			return nil
		}
	}
}

// errRefuses is why a process that listens does not serve.
var errRefuses = errors.New("status")

// asks reports why a process does not serve yet.
func (s *Supervisor) asks(ctx context.Context, client *http.Client, addr string) error {
	if s.o.Health == "-" {
		c, err := net.DialTimeout("tcp", addr, readyTimeout)
		if err == nil {
			c.Close()
		}
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+s.o.Health, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	res.Body.Close()
	if res.StatusCode >= 500 {
		return fmt.Errorf("%s answers with %w %d", s.o.Health, errRefuses, res.StatusCode)
	}
	return nil
}

// lateError says why a process does not serve in time, and what to do.
func (p *process) lateError(why error) error {
	limit := p.s.o.ReadyTimeout
	if errors.Is(why, errRefuses) {
		return fmt.Errorf("it does not serve within %v: %w", limit, why)
	}
	text := "does it listen on the port that the environment variable PORT names?"
	if ports := listens(p.pid()); len(ports) > 0 && !slices.Contains(ports, p.port) {
		text = fmt.Sprintf("it listens on %v instead: have it listen on the port that the environment variable PORT names", ports)
	}
	return fmt.Errorf("nothing serves on port %d within %v: %s (%w)", p.port, limit, text, why)
}

// end tells a process to end, and returns when it has. One that does not is killed.
func (s *Supervisor) end(p *process, sig os.Signal) {
	select {
	case <-p.done: // by itself
		p.gone()
		return
	default:
	}
	if p.up {
		s.o.Leaving(p.addr())
	}
	signalGroup(p.cmd.Process, sig)
	grace := time.NewTimer(s.o.Grace)
	defer grace.Stop()
	select {
	case <-p.done:
	case <-s.hurry:
		killGroup(p.cmd.Process)
		<-p.done
	case <-grace.C:
		s.o.Logger.Warn("a node does not end, and is killed", "node", p.node, "pid", p.pid(), "after", s.o.Grace)
		s.mu.Lock()
		s.killed = append(s.killed, p.node)
		s.mu.Unlock()
		killGroup(p.cmd.Process)
		<-p.done
	}
	p.gone()
}
