package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"
)

const (
	firstPause = 100 * time.Millisecond // before a process that has died young is started again
	mostPause  = 30 * time.Second
	hopeless   = 5 // failures of each, before any has ever served, after which the supervisor gives up
)

// ErrRestarting is returned by Restart where another one goes on.
var ErrRestarting = errors.New("a restart is under way already")

// ErrEnding is returned by Restart where the supervisor ends.
var ErrEnding = errors.New("the processes are being ended")

// A Supervisor runs processes. Make one with [New]; its methods may be called by any number of goroutines at once.
type Supervisor struct {
	o     Options
	out   *output
	slots []*slot
	hurry chan struct{} // closed by Hurry
	once  sync.Once
	ended chan struct{} // closed when Run returns
	work  sync.WaitGroup
	roll  sync.Mutex // one Restart at a time

	mu     sync.Mutex
	all    map[*process]struct{} // that run
	served bool                  // one has served
	killed []int                 // nodes that did not end by themselves
	cancel context.CancelCauseFunc
}

// A slot is where one process is kept alive.
type slot struct {
	node     int
	replace  chan chan error // wishes for a new process
	failures int             // in a row; under the supervisor's mu
}

// New returns a supervisor whose Run is to be called, once.
func New(o Options) *Supervisor {
	s := &Supervisor{
		o: o.fill(), hurry: make(chan struct{}), ended: make(chan struct{}),
		all: make(map[*process]struct{}),
	}
	s.out = &output{w: s.o.Output}
	for i := range s.o.Nodes {
		s.slots = append(s.slots, &slot{node: i + 1, replace: make(chan chan error)})
	}
	return s
}

// Run starts the processes and keeps them alive until ctx ends; then it ends them, and returns when all are gone: nil, or an
// error that names those that had to be killed. It returns an error earlier where the program cannot be
// started, or no process has ever served after several attempts.
func (s *Supervisor) Run(ctx context.Context) error {
	defer close(s.ended)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	s.cancel = cancel
	s.mu.Unlock()
	if s.o.Reap {
		stop := s.reap()
		defer stop()
	}
	var keepers sync.WaitGroup
	for _, x := range s.slots {
		keepers.Go(func() { s.keep(ctx, x) })
	}
	keepers.Wait()
	s.work.Wait()
	if e, ok := errors.AsType[*startError](context.Cause(ctx)); ok {
		return e.error
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.killed) > 0 {
		return fmt.Errorf("nodes %v did not end within %v and were killed", s.killed, s.o.Grace)
	}
	return nil
}

// A startError ends Run.
type startError struct{ error }

// Hurry kills the processes that are ending, and those that will be told to.
func (s *Supervisor) Hurry() { s.once.Do(func() { close(s.hurry) }) }

// Signal sends a signal to each process.
func (s *Supervisor) Signal(sig os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.all {
		_ = p.cmd.Process.Signal(sig) // it may be gone
	}
}

// Restart replaces the processes, one after the other: a new one is started, and when it serves, the old one is told to end.
// It returns when all are replaced, or with an error when a new one does not serve: that one's predecessor and those
// behind it go on.
func (s *Supervisor) Restart(ctx context.Context) error {
	if !s.roll.TryLock() {
		return ErrRestarting
	}
	defer s.roll.Unlock()
	for _, x := range s.slots {
		reply := make(chan error, 1)
		select {
		case x.replace <- reply:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ended:
			return ErrEnding
		}
		select {
		case err := <-reply:
			if err != nil {
				return fmt.Errorf("node %d is not replaced: %w", x.node, err)
			}
		case <-s.ended:
			return ErrEnding
		}
	}
	return nil
}

// keep keeps one process alive until ctx ends.
func (s *Supervisor) keep(ctx context.Context, x *slot) {
	for ctx.Err() == nil {
		p, err := s.launch(ctx, x)
		if err != nil {
			s.rest(ctx, x, err)
			continue
		}
		s.serve(ctx, x, p)
	}
}

// serve follows a process that serves, and those that replace it, until there is none.
func (s *Supervisor) serve(ctx context.Context, x *slot, p *process) {
	for {
		select {
		case <-p.done:
			p.gone()
			lived := time.Since(p.began)
			if lived >= s.o.Stable {
				s.o.Logger.Warn("a node has ended; it is started again", "node", x.node, "pid", p.pid(), "how", p.how(), "lived", lived.Round(time.Millisecond))
				s.note(x, 0)
				return
			}
			s.rest(ctx, x, fmt.Errorf("it served for %v and ended: %s", lived.Round(time.Millisecond), p.how()))
			return
		case reply := <-x.replace:
			next, err := s.launch(ctx, x)
			if err != nil {
				reply <- err
				continue
			}
			old := p
			p = next
			s.work.Go(func() {
				s.end(old, terminate)
				reply <- nil
			})
		case <-ctx.Done():
			s.end(p, s.o.Stop())
			return
		}
	}
}

// rest waits before a process that has failed is started again.
func (s *Supervisor) rest(ctx context.Context, x *slot, err error) {
	if ctx.Err() != nil {
		return
	}
	n := s.note(x, 1)
	if !s.hasServed() && (errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission)) {
		s.giveUp(fmt.Errorf("cannot start the program: %w", err))
		return
	}
	if s.isHopeless() {
		s.giveUp(fmt.Errorf("no node has ever served, after %d attempts of each. The last of node %d: %w", hopeless, x.node, err))
		return
	}
	pause := mostPause
	if n < 10 {
		pause = min(firstPause<<(n-1), mostPause)
	}
	s.o.Logger.Warn("a node has failed; it is started again after a pause", "node", x.node, "why", err, "failures", n, "pause", pause)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case reply := <-x.replace:
			reply <- fmt.Errorf("it does not serve: %w", err)
		}
	}
}

// note counts a failure, or forgets them all, and returns how many there were in a row.
func (s *Supervisor) note(x *slot, failed int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.failures += failed; failed == 0 {
		x.failures = 0
	}
	return x.failures
}

// isHopeless reports whether it makes no sense to go on.
func (s *Supervisor) isHopeless() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.slots {
		if s.served || x.failures < hopeless {
			return false
		}
	}
	return true
}

func (s *Supervisor) hasServed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served
}

func (s *Supervisor) giveUp(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel(&startError{err})
}
