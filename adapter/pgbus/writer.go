package pgbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A letter is what waits to be written.
type letter struct {
	channel string
	payload string // of the notification; with data, what stands before the number of the row
	tail    string // with data, what stands behind it
	topic   string // of a Log
	data    []byte // of the row; nil for none
	id      int64  // of the row, once it is written

	done chan error // holds one error, or nil
}

func (l *letter) size() int { return len(l.payload) + len(l.data) + 64 }

const (
	maxBatch      = 256     // letters in one transaction
	maxBatchBytes = 1 << 20 // of a transaction with more than one letter
	firstPause    = 20 * time.Millisecond
	longestPause  = 500 * time.Millisecond
	restful       = 20 * time.Millisecond // after that, a connection is looked at before it is used
)

// A writer sends letters over one connection, in order: all that wait in one transaction.
type writer struct {
	ctx     context.Context
	connect func(context.Context) (*pgx.Conn, error)
	write   func(context.Context, *pgx.Conn, []*letter) error
	timeout time.Duration
	log     *slog.Logger
	tasks   *sync.WaitGroup

	wake chan struct{}

	mu      sync.Mutex
	queue   []*letter
	started bool
	closed  bool
	away    error // why letters are refused; nil while PostgreSQL answers

	conn *pgx.Conn // run's alone
	used time.Time
}

// send sends letters and waits until PostgreSQL has them. After an error some may have been sent.
func (w *writer) send(ctx context.Context, ls ...*letter) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := w.post(ls...); err != nil {
		return err
	}
	var errs error
	for i, l := range ls {
		select {
		case err := <-l.done:
			errs = errors.Join(errs, err)
		case <-ctx.Done():
			w.takeBack(ls[i:])
			return errors.Join(errs, context.Cause(ctx))
		}
	}
	return errs
}

// post queues letters, all together or none.
func (w *writer) post(ls ...*letter) error {
	for _, l := range ls {
		l.done = make(chan error, 1)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return ErrClosed
	case w.away != nil:
		return w.away
	}
	w.queue = append(w.queue, ls...)
	if !w.started {
		w.started = true
		w.tasks.Go(w.run)
	}
	token(w.wake)
	return nil
}

// takeBack removes letters that are not being sent yet.
func (w *writer) takeBack(ls []*letter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gone := make(map[*letter]bool, len(ls))
	for _, l := range ls {
		gone[l] = true
	}
	rest := w.queue[:0]
	for _, l := range w.queue {
		if !gone[l] {
			rest = append(rest, l)
		}
	}
	clear(w.queue[len(rest):])
	w.queue = rest
}

// close refuses further letters, and ends run.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	token(w.wake)
}

func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run sends what is posted until the writer is closed.
func (w *writer) run() {
	defer func() {
		w.fail(ErrClosed)
		if w.conn != nil {
			closeConn(w.conn)
		}
	}()
	for {
		ls := w.take()
		if len(ls) == 0 {
			if w.ctx.Err() != nil {
				return
			}
			select {
			case <-w.wake:
			case <-w.ctx.Done():
				return
			}
			continue
		}
		err := w.deliver(ls)
		if err == nil || w.conn != nil || w.ctx.Err() != nil {
			continue
		}
		if w.again(err) {
			continue // the connection was ended, and PostgreSQL is there
		}
		w.mu.Lock()
		w.away = err
		w.mu.Unlock()
		w.fail(w.away) // only run changes it
		w.log.Warn("pgbus: PostgreSQL does not answer; messages are not sent until it does", "err", err)
		w.probe()
	}
}

// take returns the letters for the next transaction. PostgreSQL sends equal notifications of one
// transaction once, so no two are equal.
func (w *writer) take() []*letter {
	w.mu.Lock()
	defer w.mu.Unlock()
	size := 0
	type key struct{ channel, payload string }
	var seen map[key]bool
	n := 0
	for ; n < len(w.queue) && n < maxBatch; n++ {
		l := w.queue[n]
		size += l.size()
		if n > 0 && size > maxBatchBytes {
			break
		}
		if l.data != nil {
			continue
		}
		k := key{l.channel, l.payload}
		if seen[k] {
			break
		}
		if seen == nil {
			seen = make(map[key]bool)
		}
		seen[k] = true
	}
	ls := w.queue[:n:n]
	w.queue = w.queue[n:]
	if len(w.queue) == 0 {
		w.queue = nil
	}
	return ls
}

// deliver sends letters in one transaction and tells those who wait. w.conn is nil after an
// error of the connection.
func (w *writer) deliver(ls []*letter) error {
	err := w.try(ls)
	if err != nil && w.conn != nil && len(ls) > 1 {
		// PostgreSQL refused one, and with it all. Each alone, so that only that one fails.
		for i := range ls {
			if err = w.deliver(ls[i : i+1]); err != nil && w.conn == nil {
				finish(ls[i+1:], err)
				return err
			}
		}
		return nil
	}
	finish(ls, err)
	return err
}

func finish(ls []*letter, err error) {
	for _, l := range ls {
		l.done <- err
	}
}

func (w *writer) try(ls []*letter) error {
	ctx, cancel := context.WithTimeout(w.ctx, w.timeout)
	defer cancel()
	//lint:ignore SA1019 a look at the socket is no round trip; what it does not see, the write finds out
	if w.conn != nil && time.Since(w.used) > restful && w.conn.PgConn().CheckConn() != nil {
		w.drop() // it broke while it was idle: nothing is lost with it
	}
	if w.conn == nil {
		c, err := w.connect(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrAway, err)
		}
		w.conn = c
	}
	err := w.write(ctx, w.conn, ls)
	w.used = time.Now()
	if w.conn.IsClosed() {
		w.drop()
		err = fmt.Errorf("%w: %w", ErrAway, err)
	}
	return err
}

func (w *writer) drop() {
	closeConn(w.conn)
	w.conn = nil
}

// fail tells all who wait.
func (w *writer) fail(err error) {
	w.mu.Lock()
	ls := w.queue
	w.queue = nil
	w.mu.Unlock()
	finish(ls, err)
}

// again connects again where that does not take long.
func (w *writer) again(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || hopeless(err) {
		return false
	}
	ctx, cancel := context.WithTimeout(w.ctx, min(w.timeout, time.Second))
	defer cancel()
	w.conn, err = w.connect(ctx)
	if err != nil {
		w.conn = nil
	}
	w.used = time.Now()
	return err == nil
}

// probe connects again, for as long as it takes.
func (w *writer) probe() {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		if !sleep(w.ctx, pause) {
			return
		}
		ctx, cancel := context.WithTimeout(w.ctx, w.timeout)
		c, err := w.connect(ctx)
		cancel()
		if err != nil {
			continue
		}
		w.conn, w.used = c, time.Now()
		w.mu.Lock()
		w.away = nil
		w.mu.Unlock()
		w.log.Info("pgbus: PostgreSQL answers again")
		return
	}
}

// sleep waits for d, and reports false where ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
