package pgbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// state is how far a channel is on the connection; 0 is not there.
type state int

const (
	listening state = iota + 1
	leaving         // UNLISTEN was or is being sent
)

const perCommand = 256 // channels in one command

// A listener keeps a connection that LISTENs to what is wanted, tests it, and makes it
// anew when it breaks. One goroutine does it all, so notifications are handled in order.
type listener struct {
	ctx       context.Context
	connect   func(context.Context, func(*pgconn.Notification)) (*pgx.Conn, error)
	notify    func(ctx context.Context, channel string) error // over another connection
	timeout   time.Duration
	keepAlive time.Duration
	log       *slog.Logger
	tasks     *sync.WaitGroup

	// Called by the goroutine, on its connection. An error ends the connection.
	before func(context.Context, *pgx.Conn) error                         // before channels are added
	ready  func(ctx context.Context, c *pgx.Conn, again bool) error       // all that was wanted is there
	handle func(context.Context, *pgx.Conn, []*pgconn.Notification) error // what came
	test   func(context.Context, *pgx.Conn) error                         // nothing came for a while

	mu      sync.Mutex
	started bool
	closed  bool
	wanted  map[string]int   // by how many
	have    map[string]state // what the connection has; changed by the goroutine
	changed chan struct{}    // closed, and made anew, when have or failure has changed
	failure error            // why there is no connection
	dirty   bool             // there is something to do
	rouse   context.CancelFunc
	times   uint64 // connections that worked

	// The goroutine's.
	pending []*pgconn.Notification
	tested  bool // LISTEN was seen to work
}

func newListener() *listener {
	return &listener{wanted: make(map[string]int), have: make(map[string]state), changed: make(chan struct{})}
}

// want adds a channel and waits until it is there.
func (l *listener) want(ctx context.Context, channel string) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.wanted[channel]++
	if !l.started {
		l.started = true
		l.tasks.Go(l.run)
	}
	l.mu.Unlock()
	l.poke()
	err := l.await(ctx, func() bool { return l.have[channel] == listening })
	if err != nil {
		l.unwant(channel)
	}
	return err
}

// close has want start nothing any more.
func (l *listener) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// unwant takes back what want did, without waiting.
func (l *listener) unwant(channel string) {
	l.mu.Lock()
	if l.wanted[channel]--; l.wanted[channel] <= 0 {
		delete(l.wanted, channel)
	}
	l.mu.Unlock()
	l.poke()
}

// poke has the goroutine look for something to do.
func (l *listener) poke() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dirty = true
	if l.rouse != nil {
		l.rouse()
	}
}

// await waits until ok, which is called with l.mu held.
func (l *listener) await(ctx context.Context, ok func() bool) error {
	for {
		l.mu.Lock()
		done, changed, failure := ok(), l.changed, l.failure
		l.mu.Unlock()
		switch {
		case done:
			return nil
		case failure != nil && hopeless(failure):
			return failure
		}
		select {
		case <-changed:
		case <-l.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			if failure == nil {
				failure = errors.New("it has not answered yet")
			}
			return fmt.Errorf("%w: %w: %w", ErrAway, context.Cause(ctx), failure)
		}
	}
}

// connected reports whether there is a connection.
func (l *listener) connected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure == nil && len(l.have) > 0
}

func (l *listener) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

// run keeps the connection until the context ends.
func (l *listener) run() {
	for pause := firstPause; l.ctx.Err() == nil; {
		worked, err := l.connection()
		if l.ctx.Err() != nil {
			return
		}
		l.set(func() { clear(l.have); l.failure = err })
		if worked {
			pause = firstPause
			l.log.Warn("pgbus: the connection that listens broke; it is made again", "err", err)
		} else if pause == firstPause {
			l.log.Warn("pgbus: no connection to listen on", "err", err)
		}
		sleep(l.ctx, pause)
		pause = min(2*pause, longestPause)
	}
}

// connection serves one connection until it breaks. It reports whether it ever worked.
func (l *listener) connection() (worked bool, err error) {
	l.pending = nil
	ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
	defer cancel()
	c, err := l.connect(ctx, func(n *pgconn.Notification) { l.pending = append(l.pending, n) })
	if err != nil {
		return false, err
	}
	defer closeConn(c)
	if !l.tested {
		if err := l.check(ctx, c); err != nil {
			return false, err
		}
		l.tested = true
	}
	cancel()
	for {
		if err := l.reconcile(c); err != nil {
			return worked, err
		}
		if !worked {
			ctx, cancel := context.WithTimeout(l.ctx, max(l.timeout, patience))
			err := l.ready(ctx, c, l.times > 0)
			cancel()
			if err != nil {
				return false, err
			}
			worked = true
			l.set(func() { l.failure = nil; l.times++ })
			if l.times > 1 {
				l.log.Info("pgbus: listening again")
			}
		}
		for len(l.pending) > 0 {
			ns := l.pending
			l.pending = nil
			ctx, cancel := context.WithTimeout(l.ctx, max(l.timeout, patience))
			err := l.handle(ctx, c, ns)
			cancel()
			if err != nil {
				return worked, err
			}
		}
		if err := l.wait(c); err != nil {
			return worked, err
		}
	}
}

// patience is how long what may bring many or large rows may take.
const patience = 30 * time.Second

// check finds out whether LISTEN works on the connection. What was notified before a
// command begins comes before its end, so no clock decides.
func (l *listener) check(ctx context.Context, c *pgx.Conn) error {
	channel := "atoll-test-" + rand.Text()
	if err := l.command(ctx, c, listen(channel)); err != nil {
		return err
	}
	if err := l.notify(ctx, channel); err != nil {
		return err
	}
	for range 3 {
		if err := l.command(ctx, c, unlisten(rand.Text())); err != nil {
			return err
		}
		for i, n := range l.pending {
			if n.Channel == channel {
				l.pending = append(l.pending[:i], l.pending[i+1:]...)
				return l.command(ctx, c, unlisten(channel))
			}
		}
	}
	return ErrPooler
}

// command performs commands without results.
func (l *listener) command(ctx context.Context, c *pgx.Conn, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	_, err := c.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// reconcile makes what the connection has what is wanted.
func (l *listener) reconcile(c *pgx.Conn) error {
	var missing, gone []string
	l.mu.Lock()
	l.dirty = false
	for name := range l.wanted {
		if l.have[name] == 0 {
			missing = append(missing, name)
		}
	}
	for name := range l.have {
		if l.wanted[name] == 0 {
			l.have[name] = leaving
			gone = append(gone, name)
		}
	}
	l.mu.Unlock()
	if len(missing) == 0 && len(gone) == 0 {
		return nil
	}
	if len(missing) > 0 && l.before != nil {
		ctx, cancel := context.WithTimeout(l.ctx, max(l.timeout, patience))
		err := l.before(ctx, c)
		cancel()
		if err != nil {
			return err
		}
	}
	cmds := make([]string, 0, len(missing)+len(gone))
	for _, name := range missing {
		cmds = append(cmds, listen(name))
	}
	for _, name := range gone {
		cmds = append(cmds, unlisten(name))
	}
	for len(cmds) > 0 {
		n := min(len(cmds), perCommand)
		if err := l.command(l.ctx, c, strings.Join(cmds[:n], ";")); err != nil {
			return err
		}
		cmds = cmds[n:]
	}
	l.set(func() {
		for _, name := range gone {
			delete(l.have, name)
		}
		for _, name := range missing {
			l.have[name] = listening
		}
		l.dirty = l.dirty || len(gone) > 0 // what was given up may be wanted again by now
	})
	return nil
}

// wait waits for notifications, or until there is something to do. Where neither
// comes, it tests the connection.
func (l *listener) wait(c *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(l.ctx, l.keepAlive)
	defer cancel()
	l.mu.Lock()
	if l.dirty {
		l.mu.Unlock()
		return nil
	}
	l.rouse = cancel
	l.mu.Unlock()

	err := c.PgConn().WaitForNotification(ctx)
	l.mu.Lock()
	l.rouse = nil
	l.mu.Unlock()
	switch {
	case err == nil, len(l.pending) > 0:
		return nil
	case l.ctx.Err() != nil:
		return l.ctx.Err()
	case ctx.Err() == nil || c.IsClosed():
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
		defer cancel()
		return l.test(ctx, c)
	}
	return nil
}
