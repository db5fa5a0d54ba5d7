package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// A stopSignal is the cause of the context of a command that was told to end.
type stopSignal struct{ os.Signal }

func (s stopSignal) Error() string { return s.String() }

// A stopper ends the context of a command at the first signal. A second one ends the program at once, unless the
// command wants to know of it.
type stopper struct {
	patient atomic.Bool
	hurry   chan struct{} // closed by the second signal
	done    chan struct{}
	signals chan os.Signal
}

type stopperKey struct{}

// notify returns a context that ends at the first SIGINT or SIGTERM. Call stop when the command has ended.
func notify(ctx context.Context) (_ context.Context, stop func()) {
	s := &stopper{hurry: make(chan struct{}), done: make(chan struct{}), signals: make(chan os.Signal, 4)}
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, stopperKey{}, s))
	signal.Notify(s.signals, os.Interrupt, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer signal.Stop(s.signals) // what comes then ends the program
		select {
		case sig := <-s.signals:
			cancel(stopSignal{sig})
		case <-s.done:
			return
		}
		if !s.patient.Load() {
			return
		}
		select {
		case <-s.signals:
			close(s.hurry)
		case <-s.done:
		}
	}()
	return ctx, func() {
		close(s.done)
		<-ended
		cancel(nil)
	}
}

// hurry returns a channel that is closed by the second signal, which then does not end the program; the third does. It has to
// be called before ctx ends. The channel is nil where ctx is not that of a program.
func hurry(ctx context.Context) <-chan struct{} {
	s, ok := ctx.Value(stopperKey{}).(*stopper)
	if !ok {
		return nil
	}
	s.patient.Store(true)
	return s.hurry
}

// interrupted reports whether ctx ended by Ctrl-C: somebody sits in front of the program, and does not want to wait.
func interrupted(ctx context.Context) bool {
	s, ok := context.Cause(ctx).(stopSignal)
	return ok && s.Signal == os.Interrupt
}
