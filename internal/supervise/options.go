package supervise

import (
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"
)

// A Place is where a process is to run.
type Place struct {
	Node int // its number, from 1 on
	Port int // where it has to listen, on 127.0.0.1
}

// Options are the settings of a [Supervisor]. Nodes and Command have to be set.
type Options struct {
	// Nodes is how many processes there are.
	Nodes int

	// Command returns the program for a place. Its Stdout, Stderr and SysProcAttr are the supervisor's.
	Command func(p Place) *exec.Cmd

	// Health is the path that a process is asked for until it serves: by any answer below 500. If
	// empty, /health. If "-", it is enough that it takes connections.
	Health string

	// Up is called when a process serves, with its address; Leaving before it is told to end; Gone when it is not there
	// any more, whether it was told or not. Each is called once for a process, in this order, and may be nil. What
	// Up takes its time for is waited for before another process is taken away.
	Up, Leaving, Gone func(addr string)

	// Stop returns the signal that ends the processes when the supervisor ends. If nil, SIGTERM.
	Stop func() os.Signal

	// ReadyTimeout is how long a process may take until it serves. If zero, 30 seconds.
	ReadyTimeout time.Duration

	// Grace is how long a process may take to end when it is told to, before it is killed. If zero, 50 seconds.
	Grace time.Duration

	// Stable is how long a process has to have lived to be started again at once. Where it has not, the
	// pause grows from a tenth of a second to half a minute. If zero, 10 seconds.
	Stable time.Duration

	// Output gets what the processes print, line by line, each behind the number of its node. If nil, os.Stdout.
	Output io.Writer

	// Color has the numbers printed in colours.
	Color bool

	// Reap takes care of processes whose parents have ended, as the first process of a container has to. It takes
	// all children of the program that are not the supervisor's: there must be no others. On Linux only.
	Reap bool

	// Logger gets what happens to processes. If nil, slog.Default().
	Logger *slog.Logger
}

func (o Options) fill() Options {
	or := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	or(&o.ReadyTimeout, 30*time.Second)
	or(&o.Grace, 50*time.Second)
	or(&o.Stable, 10*time.Second)
	if o.Health == "" {
		o.Health = "/health"
	}
	for _, f := range []*func(string){&o.Up, &o.Leaving, &o.Gone} {
		if *f == nil {
			*f = func(string) {}
		}
	}
	if o.Stop == nil {
		o.Stop = func() os.Signal { return terminate }
	}
	if o.Output == nil {
		o.Output = os.Stdout
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}
