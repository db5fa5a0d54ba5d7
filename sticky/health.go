package sticky

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/atollhq/atoll/internal/sid"
)

// tcpOnly is the health path that means: it is enough to connect.
const tcpOnly = "-"

// tagHeader is where an Atoll node says its tag, as 8 hexadecimal digits.
const tagHeader = "Atoll-Node"

// minPause is the least time between two checks of a node that is under suspicion.
const minPause = 20 * time.Millisecond

// watch checks b until ctx ends.
func (b *backend) watch(ctx context.Context) {
	defer close(b.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	first := true
	for {
		start := time.Now()
		pause := b.l.rules().Health.Interval
		b.check(ctx)
		if first && ctx.Err() == nil {
			first = false
			close(b.checked)
		}
		if b.now() == Down {
			pause /= 4
		} else if b.dying() {
			pause = min(pause, 100*time.Millisecond)
		}
		timer.Reset(max(pause-time.Since(start), minPause))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			continue
		case <-b.kick:
		}
		// A crowd of suspicions must not become a crowd of checks.
		timer.Reset(minPause - time.Since(start))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
}

// dying reports whether b broke off the last check, after a good one: a process that ends
// does so while it still takes connections, and refuses them a moment later.
func (b *backend) dying() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bad == 1 && b.broke
}

// check asks b once whether it lives.
func (b *backend) check(parent context.Context) {
	limit := b.l.rules().Health.Timeout
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	start := time.Now()
	status, h, err := b.probe(ctx)
	switch {
	case parent.Err() != nil:
		return
	case err != nil && refused(err):
		b.down(err)
		return
	case err != nil && time.Since(start) > 2*limit:
		return // it was us who had no time
	case err == nil && !b.l.rules().Health.good(status):
		err = fmt.Errorf("health check: status %d", status)
	}
	if err != nil {
		b.mu.Lock()
		b.bad++
		b.broke = lost(err) && !os.IsTimeout(err)
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("health check: no answer within %v", limit)
		}
		// A node that never answered is down at its first failure: nobody is on it.
		fell := b.bad >= b.l.rules().Health.Fall || b.alive != Up
		b.good = 0
		b.lastErr = err.Error()
		b.mu.Unlock()
		if fell {
			b.down(err)
		}
		return
	}
	if t, ok := parseTag(h.Get(tagHeader)); ok {
		b.learnTag(t)
	}
	b.mu.Lock()
	if b.removed {
		b.mu.Unlock()
		return
	}
	b.bad = 0
	b.good++
	was := b.alive
	if was == Starting || was == Down && b.good >= b.l.rules().Health.Rise {
		b.alive = Up
	}
	b.refusing = status == http.StatusServiceUnavailable
	rose := was != Up && b.alive == Up
	if rose && was == Down {
		b.upAt.Store(time.Now().UnixNano())
	}
	b.settle()
	b.mu.Unlock()
	if rose {
		b.l.retag() // a node that moved here has its name back
		b.l.o.Logger.Info("sticky: node is up", "node", b.url.Host)
	}
}

// good reports whether an answer with the given status is one of a node that lives.
func (h *Health) good(status int) bool {
	switch {
	case status == http.StatusServiceUnavailable:
		return true
	case h.Expect != 0:
		return status == h.Expect
	}
	return status < 500
}

// probe makes the check and returns the status and the header of the answer.
func (b *backend) probe(ctx context.Context) (int, http.Header, error) {
	if b.l.rules().Health.Path == tcpOnly {
		c, err := b.l.dial(ctx, "tcp", b.url.Host)
		if err != nil {
			return 0, nil, err
		}
		return http.StatusOK, nil, c.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url.String()+b.l.rules().Health.Path, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("User-Agent", "atoll-balance")
	resp, err := b.checker.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols { // what follows that is no answer, and knows no ctx
		io.CopyN(io.Discard, resp.Body, 4<<10) // so that the node need not see an aborted answer
	}
	return resp.StatusCode, resp.Header, nil
}

// parseTag reads the tag that an Atoll node writes into its answers, in tagHeader.
func parseTag(s string) (sid.Tag, bool) {
	if len(s) != 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 16, 32)
	return sid.Tag(n), err == nil
}

// refused reports whether err says that nobody listens, or nobody can be there.
func refused(err error) bool {
	const wsaRefused = syscall.Errno(10061) // what Windows says
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, wsaRefused)
}

// lost reports whether err says that the connection to a node was not made or broke, as
// opposed to an answer that makes no sense.
func lost(err error) bool {
	var op *net.OpError
	var dial *dialError
	return errors.Is(err, errDown) || errors.As(err, &dial) || errors.As(err, &op) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		err != nil && err.Error() == "http: server closed idle connection"
}
