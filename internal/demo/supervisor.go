package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// A State is where a node is in its life.
type State string

// The states of a node.
const (
	Down     State = "down"
	Starting State = "starting"
	Up       State = "up"
)

// A Status describes a node's process.
type Status struct {
	Name    string
	State   State
	PID     int    // 0 where the node is down
	URL     string // where it serves, once it is up
	Exit    string // how the last process ended, for people; empty where none has
	Started time.Time
}

// Ready is what a node writes, as one line of JSON, to its standard output when it serves.
type Ready struct {
	URL string `json:"url"`
}

// SupervisorOptions are the settings of a [Supervisor].
type SupervisorOptions struct {
	// Names are the nodes there are. All are down at first.
	Names []string

	// Command returns the program that is the node with the given name. Its standard input
	// and output are the Supervisor's; it has to end when its input does.
	Command func(name string) *exec.Cmd

	// Config is written, as one line of JSON, to the input of each process.
	Config func(name string) any

	// Changed is called, without locks held, after each change of any node. It may be nil.
	Changed func()

	// ReadyTimeout is how long a process may take until it serves. If zero, 15 seconds.
	ReadyTimeout time.Duration

	// Grace is how long Close waits for the nodes before it kills them. If zero, 3 seconds.
	Grace time.Duration

	// Logger gets what happens to processes. If nil, slog.Default().
	Logger *slog.Logger
}

// A Supervisor starts and ends the processes of the nodes. Any number of goroutines may
// use it at once. Its processes do not outlive it: each holds one end of a pipe whose
// other end is gone with the supervisor, however that ends.
type Supervisor struct {
	o    SupervisorOptions
	work sync.WaitGroup // one goroutine for each process

	mu     sync.Mutex
	nodes  []*process
	closed bool
}

// A process is one node, running or not. Its fields are the supervisor's, under its lock.
type process struct {
	Status
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{} // closed when the process is gone
}

var (
	errUnknownNode = errors.New("there is no node of that name")
	errIsDown      = errors.New("the node is down already")
	errIsUp        = errors.New("the node runs already")
	errClosing     = errors.New("the demo is ending")
)

// NewSupervisor returns a Supervisor of nodes that are all down.
func NewSupervisor(o SupervisorOptions) *Supervisor {
	if o.ReadyTimeout == 0 {
		o.ReadyTimeout = 15 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = 3 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	s := &Supervisor{o: o}
	for _, name := range o.Names {
		s.nodes = append(s.nodes, &process{Status: Status{Name: name, State: Down}})
	}
	return s
}

// Nodes returns the status of all nodes, in the order of their names' list.
func (s *Supervisor) Nodes() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, len(s.nodes))
	for i, p := range s.nodes {
		list[i] = p.Status
	}
	return list
}

// runs reports whether the process with the given id is the node of that name.
func (s *Supervisor) runs(name string, pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.find(name)
	return err == nil && p.State != Down && p.PID == pid
}

// Start starts a node that is down. It returns as soon as the process runs; the node is
// Up when it serves.
func (s *Supervisor) Start(name string) error {
	if err := s.start(name); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	s.o.Changed()
	return nil
}

func (s *Supervisor) start(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.find(name)
	switch {
	case err != nil:
		return err
	case s.closed:
		return errClosing
	case p.State != Down:
		return errIsUp
	}
	config, err := json.Marshal(s.o.Config(name))
	if err != nil {
		return err
	}
	cmd := s.o.Command(name)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.stdin, p.done = cmd, stdin, make(chan struct{})
	p.State, p.PID, p.URL, p.Exit, p.Started = Starting, cmd.Process.Pid, "", "", time.Now()
	s.work.Go(func() {
		// A pipe takes this much at once, or the process is gone.
		_, _ = stdin.Write(append(config, '\n'))
		s.watch(p, cmd, stdout)
	})
	return nil
}

// watch follows a process to its end.
func (s *Supervisor) watch(p *process, cmd *exec.Cmd, stdout io.Reader) {
	late := time.AfterFunc(s.o.ReadyTimeout, func() {
		s.o.Logger.Error("the node did not become ready in time", "node", p.Name, "timeout", s.o.ReadyTimeout)
		_ = cmd.Process.Kill()
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var r Ready
		if json.Unmarshal(lines.Bytes(), &r) != nil || r.URL == "" || !late.Stop() {
			continue
		}
		s.mu.Lock()
		p.State, p.URL = Up, r.URL
		s.mu.Unlock()
		s.o.Changed()
	}
	_, _ = io.Copy(io.Discard, stdout) // after a line too long for the scanner
	err := cmd.Wait()
	late.Stop()

	s.mu.Lock()
	how := exitText(err)
	p.State, p.PID, p.URL, p.Exit = Down, 0, "", how
	closing, done := s.closed, p.done
	p.cmd = nil
	s.mu.Unlock()
	close(done)
	if !closing {
		s.o.Logger.Info("a node has ended", "node", p.Name, "how", how)
	}
	s.o.Changed()
}

// exitText says in words how a process ended.
func exitText(err error) string {
	if err == nil {
		return "ended"
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok && !e.Exited() {
		return "ended by " + strings.Replace(e.String(), "signal: killed", "kill -9", 1)
	}
	return "ended with " + err.Error()
}

// Kill ends a node as kill -9 does: at once, and without a word to anybody.
func (s *Supervisor) Kill(name string) error {
	s.mu.Lock()
	p, err := s.find(name)
	if err == nil && p.cmd == nil {
		err = errIsDown
	}
	if err == nil {
		err = p.cmd.Process.Kill()
		if errors.Is(err, os.ErrProcessDone) {
			err = errIsDown
		}
	}
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	return nil
}

// find returns the node with the given name. s.mu is held.
func (s *Supervisor) find(name string) (*process, error) {
	i := slices.IndexFunc(s.nodes, func(p *process) bool { return p.Name == name })
	if i < 0 {
		return nil, errUnknownNode
	}
	return s.nodes[i], nil
}

// Close asks all nodes to end, kills those that have not within Options.Grace or when
// ctx ends, and returns when all are gone. It may be called twice.
func (s *Supervisor) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Grace)
	defer cancel()
	var gone []chan struct{}
	var running []*exec.Cmd
	s.mu.Lock()
	s.closed = true
	for _, p := range s.nodes {
		if p.cmd == nil {
			continue
		}
		_ = p.stdin.Close() // the end of its input tells the process
		gone, running = append(gone, p.done), append(running, p.cmd)
	}
	s.mu.Unlock()
	for i, done := range gone {
		select {
		case <-done:
		case <-ctx.Done():
			_ = running[i].Process.Kill()
		}
	}
	s.work.Wait()
}
