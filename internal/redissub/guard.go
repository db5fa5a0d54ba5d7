package redissub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// A Guard has what is sent to Redis fail at once while Redis is known to be silent: who waited for each
// message in vain would stand still. Its fields are set before it is used.
type Guard struct {
	Tasks   *Tasks
	Timeout time.Duration // how long to wait for Redis, once, and a second more for each MiB
	ErrAway error         // wrapped by what Do returns while Redis is silent
	Package string        // begins what is logged
	Log     *slog.Logger

	// Ping asks Redis something harmless. It returns nil when Redis has answered.
	Ping func(ctx context.Context) error

	// Back, unless it is nil, is called when Redis answers again.
	Back func()

	away atomic.Bool // something was not answered in time, and a probe runs
}

// Away reports whether Redis is known to be silent.
func (g *Guard) Away() bool { return g.away.Load() }

// Do calls send, which sends size bytes to Redis and waits for the answer until ctx ends. While Redis is silent it
// returns ErrAway at once.
func (g *Guard) Do(ctx context.Context, size int, send func(ctx context.Context) error) error {
	if g.Away() {
		return g.ErrAway
	}
	timeout := g.Timeout + time.Duration(size>>10)*time.Millisecond
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	err := send(limited)
	// The client may notice the deadline before the context does; a shorter one of the caller's says nothing about Redis.
	if err != nil && ctx.Err() == nil && time.Since(start) > timeout*9/10 &&
		(errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)) {
		g.probe()
		return fmt.Errorf("%w for %v", g.ErrAway, timeout)
	}
	return err
}

// probe has Do fail at once until Redis answers.
func (g *Guard) probe() {
	if !g.away.CompareAndSwap(false, true) {
		return
	}
	g.Tasks.Go(func() {
		g.Log.Warn(g.Package+": Redis does not answer; messages are not sent until it does", "waited", g.Timeout)
		for pause := FirstPause; !g.Tasks.Closed(); pause = min(2*pause, LongestPause) {
			ctx, cancel := context.WithTimeout(g.Tasks.Context(), g.Timeout)
			err := g.Ping(ctx)
			cancel()
			if err == nil {
				g.away.Store(false)
				g.Log.Info(g.Package + ": Redis answers again")
				if g.Back != nil {
					g.Back()
				}
				return
			}
			g.Tasks.Sleep(pause)
		}
	})
}
