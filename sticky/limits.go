package sticky

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what is new. Who is beyond gets status 503 with Retry-After; sessions that exist are not
// touched. [Front] has those of connections.
type Limits struct {
	// Sessions bounds the live sessions on all nodes. If zero, there is no limit.
	Sessions int
	// SessionsPerNode bounds those on each node whose Backend.MaxSessions says nothing else. If zero, there is no limit.
	SessionsPerNode int
	// Opening bounds the new sessions of all clients.
	Opening Rate
	// OpeningPerAddress bounds the new sessions of one client address, as [ClientAddress] has it; for IPv6 of one /64.
	OpeningPerAddress Rate
}

// A Rate is an average with bursts.
type Rate struct {
	// PerSecond is the average, from 0.001 to a million. If zero, there is no limit.
	PerSecond float64
	// Burst is how many may come at once after a pause, up to a million. If zero, what comes in a second, and at least 1.
	Burst int
}

func (r Rate) fill() Rate {
	if r.Burst == 0 {
		r.Burst = max(1, int(r.PerSecond))
	}
	return r
}

func (m *Limits) fill() error {
	m.Opening, m.OpeningPerAddress = m.Opening.fill(), m.OpeningPerAddress.fill()
	for _, r := range []Rate{m.Opening, m.OpeningPerAddress} {
		if r.PerSecond != 0 && !(r.PerSecond >= 0.001 && r.PerSecond <= 1e6) || r.Burst < 1 || r.Burst > 1e6 {
			return fmt.Errorf("sticky: Limits: %v in a second with bursts of %d is out of range", r.PerSecond, r.Burst)
		}
	}
	if m.Sessions < 0 || m.SessionsPerNode < 0 {
		return errors.New("sticky: Limits: a limit is negative")
	}
	return nil
}

// A reason is why the balancer refused a request.
type reason int

const (
	granted reason = iota
	noNode
	unknownID
	tooManySessions
	tooFast
	tooFastAddress
	noRetry
	reasons
)

// String returns the label of metrics.
func (r reason) String() string {
	return [...]string{"", "no_node", "unknown_session", "max_sessions", "rate", "address_rate", "retry_budget"}[r]
}

var (
	fullHouse = refusal{http.StatusServiceUnavailable, plainText, "there are as many Socket.IO sessions as are allowed; try again later\n"}
	slowDown  = refusal{http.StatusServiceUnavailable, plainText, "too many new Socket.IO sessions; try again in a second\n"}
)

// denial is the answer to a request that a limit refused.
func (l *Balancer) denial(r reason) refusal {
	l.refused[r].Add(1)
	switch r {
	case tooManySessions:
		return fullHouse
	case tooFast, tooFastAddress:
		return slowDown
	}
	return l.none()
}

// admit reports whether the rates allow c to open a session, and notes why not. It is asked once for each call.
func (l *Balancer) admit(c *call) bool {
	if c.kind != handshake || c.head.method == http.MethodOptions || c.trail.admitted {
		return true
	}
	m, now := &l.rules().Limits, time.Now()
	if m.OpeningPerAddress.PerSecond > 0 && !l.perAddress.take(addressBlock(l.clientOf(&c.head)), m.OpeningPerAddress, now) {
		c.trail.denied = tooFastAddress
		return false
	}
	if !l.opening.take(m.Opening, now) {
		c.trail.denied = tooFast
		return false
	}
	c.trail.admitted = true
	return true
}

// A bucket holds tokens: it knows when it will be full again. The zero value is full.
type bucket struct{ full atomic.Int64 }

// take takes a token. It reports false where there is none.
func (t *bucket) take(r Rate, now time.Time) bool {
	if r.PerSecond <= 0 {
		return true
	}
	for {
		old := t.full.Load()
		next, ok := spend(old, r, now)
		if t.full.CompareAndSwap(old, next) {
			return ok
		}
	}
}

// spend takes a token, if there is one, out of a bucket that will be full at the given time, in nanoseconds, and returns when it
// will be full now. None is more than empty, though that time may be far away where the rate was another or the clock was put back.
func spend(full int64, r Rate, now time.Time) (int64, bool) {
	each, t := int64(float64(time.Second)/r.PerSecond), now.UnixNano()
	empty := t + each*int64(r.Burst)
	full = min(max(full, t), empty)
	if full+each > empty {
		return full, false
	}
	return full + each, true
}

// buckets hold tokens for each address. What they remember is bounded; whoever was not seen for long is forgotten.
type buckets struct {
	mu     sync.Mutex
	now    map[netip.Addr]int64
	old    map[netip.Addr]int64
	bounds int
}

func newBuckets(bounds int) *buckets {
	return &buckets{now: make(map[netip.Addr]int64), bounds: bounds}
}

func (t *buckets) take(a netip.Addr, r Rate, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	full, ok := t.now[a]
	if !ok {
		if len(t.now) >= t.bounds {
			t.now, t.old = make(map[netip.Addr]int64), t.now
		}
		full = t.old[a]
	}
	t.now[a], ok = spend(full, r, now)
	return ok
}

// A budget bounds the second attempts by the first ones, so that they cannot double an overload. The zero value allows what
// retryReserve is.
type budget struct {
	mu    sync.Mutex
	saved float64 // may be negative: what of the reserve is used
	at    time.Time
}

const (
	retryReserve = 20.0 // second attempts that are always allowed, if they come after a pause
	retryPace    = 10.0 // how many of the reserve come back in a second
)

// earn counts a first attempt.
func (t *budget) earn(share float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.saved = min(t.saved+share, 100)
}

// take takes a second attempt. It reports false where none is left.
func (t *budget) take(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.at.IsZero() && t.saved < 0 {
		t.saved = min(0, t.saved+now.Sub(t.at).Seconds()*retryPace)
	}
	t.at = now
	if t.saved-1 < -retryReserve {
		return false
	}
	t.saved--
	return true
}

// addressBlock returns what limits for one client are counted by: an address of IPv4, or a /64 of IPv6, which one client can have.
func addressBlock(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); a.Is4() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
