package main

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/atollhq/atoll"
)

// What a program tells the nodes that it starts; flags say otherwise.
const (
	portEnv = "ATOLL_PORT"
	hostEnv = "ATOLL_HOST"
	nameEnv = "ATOLL_NAME"
	leadEnv = "ATOLL_DRAIN_LEAD" // a duration
)

// drainFlags say how a program that is told to end empties itself.
type drainFlags struct {
	lead, window time.Duration
	rate         float64
}

func (d *drainFlags) register(f *pflag.FlagSet) {
	f.DurationVar(&d.lead, "drain-lead", envDuration(leadEnv, 5*time.Second), "at SIGTERM: how long /health says 503 before clients are asked to go; longer than the balancer in front takes to notice")
	f.DurationVar(&d.window, "drain-window", 30*time.Second, "then: within which time they are asked, a few at a time; those left at its end are cut off")
	f.Float64Var(&d.rate, "drain-rate", 0, "how many are asked in a second (default: what the window needs, and 50 at least)")
}

// options returns what the flags say. Who says 0 means 0.
func (d *drainFlags) options() *atoll.DrainOptions {
	return &atoll.DrainOptions{Lead: exact(d.lead), Window: exact(d.window), Rate: d.rate}
}

func exact(d time.Duration) time.Duration {
	if d <= 0 {
		return -1
	}
	return d
}

// check says what is wrong.
func (d *drainFlags) check() error {
	switch {
	case d.lead < 0 || d.window < 0:
		return usagef("--drain-lead and --drain-window cannot be negative; 0 is none")
	case d.rate < 0:
		return usagef("--drain-rate cannot be negative")
	}
	return nil
}

// drainAtTERM returns what is done first when the command of ctx has to end. Ctrl-C does not wait.
func drainAtTERM(ctx context.Context, srv *atoll.Server) func(context.Context) error {
	return func(end context.Context) error {
		if interrupted(ctx) {
			return nil
		}
		return srv.Drain(end, nil)
	}
}

func envDuration(name string, def time.Duration) time.Duration {
	if d, err := time.ParseDuration(os.Getenv(name)); err == nil && d >= 0 {
		return d
	}
	return def
}

func envPort(def int) int {
	if p, err := strconv.ParseUint(os.Getenv(portEnv), 10, 16); err == nil {
		return int(p)
	}
	return def
}

func envOr(name, def string) string {
	if s := os.Getenv(name); s != "" {
		return s
	}
	return def
}
