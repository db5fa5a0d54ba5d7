package main

import (
	"errors"
	"time"

	"github.com/spf13/pflag"
)

// A wait is a flag's duration that must be more than nothing.
type wait time.Duration

func waitVar(f *pflag.FlagSet, p *time.Duration, name string, def time.Duration, usage string) {
	*p = def
	f.Var((*wait)(p), name, usage)
}

func (w *wait) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return errors.New("write it with its unit, for instance 500ms or 5s")
	}
	if d <= 0 {
		return errors.New("it must be more than 0")
	}
	*w = wait(d)
	return nil
}

func (w *wait) String() string { return time.Duration(*w).String() }

func (*wait) Type() string { return "duration" }
