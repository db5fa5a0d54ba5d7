package sticky

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A Policy says which node a new session goes to.
type Policy int

// The policies.
const (
	// LeastConnections chooses the node with the fewest live sessions. Sessions that are
	// just being opened count, so that a crowd that arrives together spreads evenly.
	LeastConnections Policy = iota
	// RoundRobin chooses the nodes in turn.
	RoundRobin
	// Random chooses any node.
	Random
	// Hash chooses by the address of the client, as [ClientAddress] does, where [Options.Affinity] says nothing.
	Hash
)

// ParsePolicy reads the name of a policy, as [Policy.String] writes it.
func ParsePolicy(name string) (Policy, error) {
	for p := LeastConnections; p <= Hash; p++ {
		if name == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("sticky: no policy %q: use least-connections, round-robin, random or hash", name)
}

// String returns the name: least-connections, round-robin, random or hash.
func (p Policy) String() string {
	switch p {
	case LeastConnections:
		return "least-connections"
	case RoundRobin:
		return "round-robin"
	case Random:
		return "random"
	case Hash:
		return "hash"
	}
	return fmt.Sprintf("Policy(%d)", int(p))
}

// A Backend is a node to balance to.
type Backend struct {
	// URL is where the node listens: http://host:port or https://host:port, or host:port
	// alone for http. It identifies the backend, and has no path.
	URL string
	// Name is for people. If empty, the host and port.
	Name string
	// Weight is the share of the new sessions that the node gets, from 1 to 1000. If zero, 1.
	Weight int
	// MaxSessions bounds the live sessions on the node. If zero, what Limits.SessionsPerNode says. If negative, there is no limit.
	MaxSessions int
	// Drain keeps new sessions away, as [Balancer.Drain] does, as long as it is set.
	Drain bool
}

// Options configure a [Balancer]. A nil *Options has all the defaults. Fields that say so can be changed by [Balancer.Reconfigure].
type Options struct {
	// Backends are the first nodes. There may be none: [Balancer.SetBackends] brings them later. It can be changed.
	Backends []Backend

	// Discover finds more nodes, and keeps them up to date. The nodes are those of Backends and of all
	// that is found; the first with a URL counts.
	Discover []Discovery

	// RemoveAfter is how long a node that is taken away gently is drained before it is cut off; it is taken away
	// earlier when nothing goes to it any more. If zero, 30 seconds. If negative, it is cut off at once. It can be changed.
	RemoveAfter time.Duration

	// Path is where the Socket.IO server is mounted on the nodes. If empty, /socket.io/.
	Path string

	// Affinity says where a client comes back to with its next session, the most certain first. If empty, each session
	// is for itself. It can be changed.
	Affinity []Affinity

	// HashLoad bounds how uneven hashing may be: a key whose node has more than HashLoad times its share
	// of the sessions goes to the next one by the hash. It is at least 1, and 1.25 is a good value where many
	// clients share an address. If zero, there is no bound. It can be changed.
	HashLoad float64

	// Policy is how the node of a new session is chosen where no affinity has done so. The zero value is
	// LeastConnections. It can be changed.
	Policy Policy

	// SlowStart is how long a node that came up has less than its share under LeastConnections, which otherwise sends it all new
	// sessions until it has as many as the others. If zero, there is none. It can be changed.
	SlowStart time.Duration

	// Limits bound what is new. It can be changed.
	Limits Limits

	// RetryShare bounds the requests that are sent a second time, to another node, as a share of all that may be; some are always
	// allowed. If zero, 0.2. If negative, nothing is sent twice. It can be changed.
	RetryShare float64

	// Fallback gets the requests outside Path. If nil, they are proxied to the nodes in turn.
	Fallback http.Handler

	// Health says how nodes are checked. It can be changed.
	Health Health

	// Passive says what is concluded from requests that fail. It can be changed.
	Passive Passive

	// TLS is for backends whose URL is https. If nil, the defaults of crypto/tls.
	TLS *tls.Config

	// TrustedProxies are the peers whose X-Forwarded-For, -Host and -Proto are kept (the
	// address of the peer is added to the first). From all others these headers are
	// replaced. If empty, nobody is trusted. It can be changed.
	TrustedProxies []netip.Prefix

	// DialTimeout bounds the making of a connection to a node. If zero, 2 seconds.
	DialTimeout time.Duration

	// UpgradeTimeout bounds the answer of a node to a WebSocket handshake. If zero, 10 seconds.
	UpgradeTimeout time.Duration

	// BodyTimeout bounds how long a client of Path takes to send the body of a request and
	// to receive that of an answer. If zero, 60 seconds. If negative, there is no limit.
	BodyTimeout time.Duration

	// StallTimeout bounds how long the bytes for one end of a WebSocket are held back by
	// that end before the connection is cut, up to two seconds late. It bounds each step of other
	// bodies than BodyTimeout does, too. If zero, 60 seconds. If negative, there is no limit.
	StallTimeout time.Duration

	// IdleTimeout is how long an unused connection to a node is kept. If zero, 4 seconds,
	// because Node.js closes its end after 5, and a request that meets the closing is lost.
	IdleTimeout time.Duration

	// MaxSessions bounds how many sessions opened by long-polling are remembered, for
	// counting and, where the ids do not name their node, for finding it. The one that was
	// silent for longest is forgotten first. One takes about 250 bytes. If zero, 1,000,000.
	MaxSessions int

	// SessionIdle is how long a session without any open request is remembered. It must be more
	// than pingInterval + pingTimeout of the nodes. If zero, 60 seconds.
	SessionIdle time.Duration

	// StatusPath is where [Balancer.Serve] and ServeHTTP answer with the [Status] as JSON, for everybody who comes, such as /balancer. If
	// empty, nowhere; [Balancer.Admin] is for that.
	StatusPath string

	// Front says what [Balancer.Serve] allows clients to do.
	Front Front

	// AccessLog is called after each request, and when a WebSocket has begun. Any number of goroutines
	// call it at once, and wait for it. [LogFile.Log] is one. If nil, there is no such log.
	AccessLog func(*Access)

	// Logger gets what happens to nodes. If nil, slog.Default().
	Logger *slog.Logger
}

// Health says how nodes are checked.
type Health struct {
	// Path is what is asked for by GET. An answer below 500 is healthy, so that a server
	// without such a page is too. 503 says that the node takes no new sessions; those it has go on.
	// If empty, /health. If "-", it is enough that the node takes connections.
	Path string

	// Expect is the status of a healthy answer, besides 503. If zero, any below 500.
	Expect int

	// Interval is the pause between the starts of two checks; a node that is down is asked
	// four times as often. If zero, 1 second.
	Interval time.Duration

	// Timeout bounds a check. If zero, 1 second.
	Timeout time.Duration

	// Rise is how many good checks in a row bring a node that was down up. If zero, 1.
	Rise int

	// Fall is how many failed checks in a row (no answer in time, status 500 and above) bring a
	// node down. A refused connection does so at once. If zero, 3.
	Fall int
}

// fill returns o with the defaults in place.
func (o *Options) fill() (Options, error) {
	var f Options
	if o != nil {
		f = *o
	}
	f.Path = "/" + strings.Trim(orElse(f.Path, "/socket.io/"), "/") + "/"
	if f.Path == "//" {
		f.Path = "/"
	}
	if f.Policy < LeastConnections || f.Policy > Hash {
		return f, fmt.Errorf("sticky: no policy %v", f.Policy)
	}
	f.Affinity = slices.Clone(f.Affinity)
	for i, a := range f.Affinity {
		if a == nil {
			return f, errors.New("sticky: an affinity is nil")
		}
		var err error
		if f.Affinity[i], err = a.check(); err != nil {
			return f, err
		}
	}
	if f.HashLoad != 0 && !(f.HashLoad >= 1) {
		return f, fmt.Errorf("sticky: HashLoad is %v: it is at least 1", f.HashLoad)
	}
	if err := f.Limits.fill(); err != nil {
		return f, err
	}
	if err := f.Passive.fill(); err != nil {
		return f, err
	}
	f.RetryShare = orElse(f.RetryShare, 0.2)
	f.RemoveAfter = orElse(f.RemoveAfter, 30*time.Second)
	if f.StatusPath != "" && (f.StatusPath[0] != '/' || strings.HasPrefix(f.StatusPath, f.Path)) {
		return f, fmt.Errorf("sticky: the status path %q does not begin with a slash, or is below %s", f.StatusPath, f.Path)
	}
	h := &f.Health
	h.Path = orElse(h.Path, "/health")
	if h.Path != tcpOnly && !strings.HasPrefix(h.Path, "/") {
		return f, fmt.Errorf("sticky: health path %q does not begin with a slash", h.Path)
	}
	f.DialTimeout = orElse(f.DialTimeout, 2*time.Second)
	f.UpgradeTimeout = orElse(f.UpgradeTimeout, 10*time.Second)
	f.BodyTimeout = orElse(f.BodyTimeout, time.Minute)
	f.StallTimeout = orElse(f.StallTimeout, time.Minute)
	f.IdleTimeout = orElse(f.IdleTimeout, 4*time.Second)
	f.SessionIdle = orElse(f.SessionIdle, time.Minute)
	h.Interval = orElse(h.Interval, time.Second)
	h.Timeout = orElse(h.Timeout, time.Second)
	h.Rise = orElse(h.Rise, 1)
	h.Fall = orElse(h.Fall, 3)
	f.MaxSessions = orElse(f.MaxSessions, 1_000_000)
	if err := f.Front.fill(); err != nil {
		return f, err
	}
	for _, c := range []struct {
		name string
		bad  bool
	}{
		{"DialTimeout", f.DialTimeout < 0}, {"UpgradeTimeout", f.UpgradeTimeout < 0},
		{"IdleTimeout", f.IdleTimeout < 0}, {"SessionIdle", f.SessionIdle < 0},
		{"MaxSessions", f.MaxSessions < 0}, {"SlowStart", f.SlowStart < 0}, {"Health.Interval", h.Interval < 0},
		{"Health.Timeout", h.Timeout < 0}, {"Health.Expect", h.Expect < 0}, {"Health.Rise", h.Rise < 0}, {"Health.Fall", h.Fall < 0},
	} {
		if c.bad {
			return f, fmt.Errorf("sticky: %s is negative", c.name)
		}
	}
	if f.Logger == nil {
		f.Logger = slog.Default()
	}
	return f, nil
}

// Validate says what is wrong with o, if anything. [New] and [Balancer.Reconfigure] do so too.
func (o *Options) Validate() error {
	f, err := o.fill()
	if err != nil {
		return err
	}
	for _, d := range f.Discover {
		if _, _, err := d.start(); err != nil {
			return err
		}
	}
	_, _, err = distinct(f.Backends, false)
	return err
}

// orElse returns v, or def where v is the zero value.
func orElse[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// parse returns the URL of b with nothing but scheme and host, the port always written.
func (b Backend) parse() (*url.URL, error) {
	s := b.URL
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	if b.Weight < 0 || b.Weight > 1000 {
		return nil, fmt.Errorf("sticky: backend %q: the weight %d is not from 1 to 1000", b.URL, b.Weight)
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("sticky: backend %q: %w", b.URL, err)
	}
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	switch {
	case port == "":
		return nil, fmt.Errorf("sticky: backend %q: the scheme must be http or https", b.URL)
	case u.Hostname() == "":
		return nil, fmt.Errorf("sticky: backend %q: no host", b.URL)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, fmt.Errorf("sticky: backend %q: only scheme, host and port are allowed", b.URL)
	}
	if u.Port() == "" {
		u.Host += ":" + port
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}
