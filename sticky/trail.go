package sticky

import (
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// A trail is what is counted and logged of a call. The zero value is that of one that has not begun.
type trail struct {
	start    time.Time
	status   int // of the answer; 0 where the client got none
	sent     int64
	admitted bool
	denied   reason
	access   *Access // what was kept of the head for the log; nil where there is none
}

// An operation is what latencies are counted by.
type operation int

const (
	opOther operation = iota
	opOpen
	opPoll
	opPost
	opSocket
	operations
)

// String returns the label of metrics.
func (o operation) String() string {
	return [...]string{"other", "open", "poll", "post", "websocket"}[o]
}

func (c *call) operation() operation {
	switch {
	case c.trail.status == http.StatusSwitchingProtocols:
		return opSocket
	case c.kind == handshake:
		return opOpen
	case c.kind == session && c.head.method == http.MethodGet:
		return opPoll
	case c.kind == session && c.head.method == http.MethodPost:
		return opPost
	}
	return opOther
}

// An Access is one request, for the access log.
type Access struct {
	Time     time.Time      // when it came
	Duration time.Duration  // until its answer was sent, or its WebSocket had begun
	Client   netip.AddrPort // the peer, after the PROXY protocol; the port is 0 where a trusted proxy has told the address
	Method   string
	Host     string
	Path     string
	Query    string // without the question mark; the value of sid is a secret, and is not taken out here
	Referer  string
	Agent    string // the User-Agent
	Status   int    // of the answer; 0 where the client got none
	Sent     int64  // bytes of the body of the answer
	Backend  string // the name of the node; empty where it was none
	Session  string // the session id, a secret; empty where there is none yet
	Retries  int    // how many nodes were tried before
}

// enters notes that c has begun. It is called when its head is complete.
func (l *Balancer) enters(c *call) {
	c.trail = trail{start: time.Now()}
	if l.o.AccessLog == nil {
		return
	}
	h := &c.head
	first := func(name string) string {
		if v := h.header(name); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	client := h.remote
	if a := l.clientOf(h); a != client.Addr() {
		client = netip.AddrPortFrom(a, 0)
	}
	c.trail.access = &Access{
		Time: c.trail.start, Client: client, Method: h.method, Host: h.host, Path: h.path, Query: h.query,
		Referer: first("Referer"), Agent: first("User-Agent"),
	}
}

// note counts and logs c, which is over or has become a tunnel.
func (l *Balancer) note(c *call) {
	if c.trail.start.IsZero() {
		return
	}
	took := time.Since(c.trail.start)
	if c.trail.status != 0 {
		l.latency[c.operation()].observe(took)
	}
	if a := c.trail.access; a != nil {
		a.Duration, a.Status, a.Sent, a.Session, a.Retries = took, c.trail.status, c.trail.sent, c.id, len(c.tried)
		if c.b != nil {
			a.Backend = c.b.label()
		}
		l.o.AccessLog(a)
	}
	c.trail.start = time.Time{}
}

// answers notes the status of a node's answer.
func (c *call) answers(status int) {
	c.trail.status = status
	b := c.b
	b.statuses[min(max(status/100, 0), 5)].Add(1)
	if c.kind == plain {
		return
	}
	switch status {
	case http.StatusServiceUnavailable:
		b.suspect() // it may be draining
		fallthrough
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		b.misses(time.Now())
	}
}

// label returns the name of b.
func (b *backend) label() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.name
}

// bounds are the upper ends of the buckets of a histogram.
var bounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second, 30 * time.Second, time.Minute,
}

// A histogram counts durations.
type histogram struct {
	counts [len(bounds) + 1]atomic.Uint64
	sum    atomic.Int64 // in nanoseconds
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}
