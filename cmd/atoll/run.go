package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/atollhq/atoll/internal/supervise"
	"github.com/atollhq/atoll/sticky"
)

// maxProcesses is more than a machine has use for.
const maxProcesses = 512

// A runner is the command `atoll run`.
type runner struct {
	l        listenFlags
	nodes    int
	cluster  string
	path     string
	health   string
	lead     time.Duration
	grace    time.Duration
	ready    time.Duration
	out      io.Writer
	program  []string
	balancer *sticky.Balancer
	sup      *supervise.Supervisor

	mu       sync.Mutex
	addrs    []string // of the processes that serve
	going    []string // of these, those that were told to end
	turn     int      // of the pages
	draining bool
	first    chan struct{} // closed when one serves
}

func runCommand() *cobra.Command {
	var r runner
	cmd := &cobra.Command{
		Use:   "run [--nodes N] [--port PORT] -- PROGRAM [ARGUMENT...]",
		Short: "Several processes of a server behind one port",
		Long: `run starts a program several times, each process with a port of its own, and serves them all on one port, with
a balancer in between that keeps each client on its process. One that dies is started again.

A process is told in its environment: PORT and HOST (also as ATOLL_PORT, ATOLL_HOST), where it has to listen; ATOLL_CLUSTER,
the cluster that all are in; ATOLL_NAME, its name in that, and ATOLL_NODE, its number; GOMAXPROCS, unless it is set, its
share of the processors. ` + "`atoll serve`" + ` does as told; how
programs in Go and Node.js do is in docs/deploy.md. With a bus in ATOLL_BUS, ATOLL_CLUSTER is left alone.

SIGTERM drains and ends them all, as Ctrl-C does without waiting, and a second signal cuts. SIGHUP replaces them one by one, each when its
successor serves. SIGUSR1 and SIGUSR2 are passed on. Status 0: ended because it was told to; 1: no process
ever served, or some had to be killed.`,
		Example: `  atoll run --nodes 4 -- ./your-server --verbose
  atoll run --nodes 0 --port 80 --host 0.0.0.0 -- node server.js     one for each CPU
  atoll run --nodes 3 -- atoll serve --rooms --relay
  kill -HUP PID                                                      a new version, without an interruption; PID is of atoll run`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which program? Name it behind two dashes: atoll run --nodes 3 -- ./your-server")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r.program, r.out = args, cmd.OutOrStdout()
			return r.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // the program's flags are its own
	r.l.register(f, 3000)
	f.IntVarP(&r.nodes, "nodes", "n", 0, "how many processes; 0: one for each CPU")
	f.StringVar(&r.cluster, "cluster", os.Getenv(clusterEnv), `name of the cluster between them. Default: $`+clusterEnv+`, else "run-" and the port`)
	f.StringVar(&r.path, "path", "/socket.io/", "path of the Socket.IO server in the program")
	f.StringVar(&r.health, "health", "/health", `path that a process is asked for; it serves when the answer is below 500. "-": it is enough to connect`)
	f.DurationVar(&r.ready, "ready-timeout", 30*time.Second, "how long a process may take until it serves")
	f.DurationVar(&r.grace, "grace", 50*time.Second, "how long a process may take to end before it is killed")
	f.DurationVar(&r.lead, "drain-lead", 5*time.Second, "at SIGTERM: how long /health says 503 before the processes are told to end")
	return cmd
}

func (r *runner) run(ctx context.Context) error {
	switch {
	case r.nodes < 0 || r.nodes > maxProcesses:
		return usagef("--nodes is 0 to %d, got %d", maxProcesses, r.nodes)
	case r.lead < 0 || r.grace <= 0 || r.ready <= 0:
		return usagef("--grace and --ready-timeout have to be more than 0, and --drain-lead not less")
	case r.health != "-" && !strings.HasPrefix(r.health, "/"):
		return usagef("--health is a path and begins with a slash, or is -, got %q", r.health)
	case r.nodes == 0:
		r.nodes = runtime.GOMAXPROCS(0)
	}
	if name, err := exec.LookPath(r.program[0]); err != nil {
		return fmt.Errorf("cannot run %s: %w", r.program[0], err)
	} else if name, err = filepath.Abs(name); err == nil {
		r.program[0] = name
	}
	if r.cluster == "" {
		r.cluster = "run-" + strconv.Itoa(r.l.port)
		if r.l.port == 0 {
			r.cluster = "run-p" + strconv.Itoa(os.Getpid())
		}
	}
	if err := validCluster(r.cluster); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var err error
	if r.balancer, err = sticky.New(&sticky.Options{Path: r.path, Fallback: r.pages(), Health: sticky.Health{Path: r.health}, Logger: slog.Default()}); err != nil {
		return usageError{err}
	}
	defer r.balancer.Close()
	r.first = make(chan struct{})
	r.sup = supervise.New(supervise.Options{
		Nodes: r.nodes, Command: r.command, Health: r.health, Up: r.up, Leaving: r.leaving, Gone: r.gone,
		Stop: func() os.Signal {
			if interrupted(ctx) {
				return os.Interrupt
			}
			return terminateSignal
		},
		ReadyTimeout: r.ready, Grace: r.grace, Reap: true,
		Output: r.out, Color: screen(r.out) > 0 && os.Getenv("NO_COLOR") == "", Logger: slog.Default(),
	})

	// The processes go on while the port is still served, after the command was told to end.
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	started := make(chan struct{})
	stop := r.signals(life)
	defer stop()
	err = r.l.serveUntil(ctx, r.balancer, func(url string) {
		go func() {
			err := r.sup.Run(life)
			ended <- err
			cancel(errors.New("there are no processes any more"))
		}()
		close(started)
		select {
		case <-r.first:
			fmt.Fprintf(r.out, "Serving %s with %s of %s, in the cluster %s. Ctrl-C ends it.\n", url, number(r.nodes, "node"), filepath.Base(r.program[0]), r.cluster)
		case <-ctx.Done():
		}
	}, func(hasty context.Context) error {
		r.mu.Lock()
		r.draining = true
		r.mu.Unlock()
		release := context.AfterFunc(hasty, r.sup.Hurry)
		defer release()
		if !interrupted(ctx) && len(ended) == 0 && r.lead > 0 && r.hasServed() { // else there is nobody to tell
			slog.Info("/health says 503 now; the processes are told to end after a moment", "lead", r.lead)
			select {
			case <-time.After(r.lead):
			case <-hasty.Done():
			}
		}
		end(context.Cause(ctx))
		err := <-ended
		ended <- err
		return nil
	}, func(context.Context) error { return r.balancer.Close() })
	end(context.Canceled)
	select {
	case <-started: // else there was no port to serve on
		return errors.Join(err, <-ended)
	default:
		return err
	}
}

// command returns the program for a process.
func (r *runner) command(p supervise.Place) *exec.Cmd {
	cmd := exec.Command(r.program[0], r.program[1:]...)
	port, node := strconv.Itoa(p.Port), strconv.Itoa(p.Node)
	cmd.Env = append(os.Environ(), "PORT="+port, "HOST=127.0.0.1", portEnv+"="+port, hostEnv+"=127.0.0.1",
		nameEnv+"="+r.cluster+"-"+node, "ATOLL_NODE="+node, leadEnv+"=0s", "NOTIFY_SOCKET=")
	if os.Getenv(busEnv) == "" {
		cmd.Env = append(cmd.Env, clusterEnv+"="+r.cluster)
	}
	if os.Getenv(procsEnv) == "" {
		cmd.Env = append(cmd.Env, procsEnv+"="+strconv.Itoa(share(runtime.GOMAXPROCS(0), r.nodes)))
	}
	return cmd
}

const procsEnv = "GOMAXPROCS"

// share is how many of the processors each of some processes in Go is to use. All of them for each would have them wake more
// threads than there are processors to run these.
func share(processors, processes int) int { return max(1, (processors+processes-1)/processes) }

// upLimit is how long a process that serves may be out of the balancer's reach. Meanwhile no other is taken away.
const upLimit = 15 * time.Second

// up lets clients go to a process, and returns when they do.
func (r *runner) up(addr string) {
	r.mu.Lock()
	r.addrs = append(r.addrs, addr)
	r.setBackends()
	r.mu.Unlock()
	for begun := time.Now(); time.Since(begun) < upLimit; time.Sleep(10 * time.Millisecond) {
		for _, b := range r.balancer.Status().Backends {
			if strings.HasSuffix(b.URL, "//"+addr) && b.State == sticky.Up {
				r.mu.Lock()
				defer r.mu.Unlock()
				select {
				case <-r.first:
				default:
					close(r.first)
				}
				return
			}
		}
	}
	slog.Warn("the balancer does not reach a process", "address", addr)
}

// hasServed reports whether a process has served yet.
func (r *runner) hasServed() bool {
	select {
	case <-r.first:
		return true
	default:
		return false
	}
}

// leaving lets no new session go to a process.
func (r *runner) leaving(addr string) {
	r.mu.Lock()
	r.going = append(r.going, addr)
	r.mu.Unlock()
	r.balancer.Drain(addr, true)
}

// gone takes a process away.
func (r *runner) gone(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	is := func(a string) bool { return a == addr }
	r.addrs, r.going = slices.DeleteFunc(r.addrs, is), slices.DeleteFunc(r.going, is)
	r.setBackends()
}

// setBackends tells the balancer where to go. r.mu is held.
func (r *runner) setBackends() {
	backends := make([]sticky.Backend, len(r.addrs))
	for i, a := range r.addrs {
		backends[i].URL = a
	}
	if err := r.balancer.SetBackends(backends...); err != nil {
		slog.Error("the balancer does not take the processes", "err", err)
	}
}

// signals does what signals say, other than those that end the command, until stop is called.
func (r *runner) signals(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	c := make(chan os.Signal, 8)
	signal.Notify(c, append([]os.Signal{restartSignal}, passedOn...)...)
	var wg sync.WaitGroup
	wg.Go(func() {
		restarts := restarts{do: func() { r.restart(ctx) }}
		defer restarts.wait()
		for {
			select {
			case sig := <-c:
				if sig == restartSignal {
					restarts.ask()
				} else {
					r.sup.Signal(sig)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		signal.Stop(c)
		cancel()
		wg.Wait()
	}
}

func (r *runner) restart(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	slog.Info("the processes are replaced, one by one")
	begun := time.Now()
	switch err := r.sup.Restart(ctx); {
	case err == nil:
		slog.Info("all processes were replaced", "took", time.Since(begun).Round(time.Millisecond))
	case ctx.Err() == nil:
		slog.Error("not all processes were replaced", "err", err)
	}
}
