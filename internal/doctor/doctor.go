// Package doctor looks at a deployment of Socket.IO from outside, as clients do, and says what
// is wrong with it and which line in which file mends it.
//
// It speaks HTTP and WebSocket itself, below any client library, since it wants to see what
// those would hide: which end closed a connection, and when; headers that came twice; an answer that
// is not the server's. It is gentle: it opens a few sessions, one after the other, ends each of
// them, and sends nothing that reaches the handlers of an application but the CONNECT of its
// sessions to the main namespace.
package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options are what [Check] can be told. A nil *Options means the defaults.
type Options struct {
	// Sessions is how many sessions are opened to see whether they stay where they are, 2 to 200.
	// If zero, 12.
	Sessions int

	// Origin, where set, is that of a page that uses the server, such as "https://app.example.com":
	// then what browsers ask for across origins is looked at.
	Origin string

	// Credentials says that those pages connect with withCredentials.
	Credentials bool

	// Quick leaves out what needs to wait for a ping interval.
	Quick bool

	// Proxy, where set, says which proxy is in front, one of [Proxies], instead of finding out.
	Proxy string

	// Health is the path of the health page. If empty, "/health".
	Health string

	// Timeout is how long an answer may take that should come at once. If zero, 10 seconds.
	Timeout time.Duration

	// MaxBody is the largest body that is sent to see whether it passes, in bytes. If zero, 4,000,000.
	MaxBody int

	// TLS, where set, is for connections over TLS. The server name is set for it.
	TLS *tls.Config

	// Progress, where set, is told what is being looked at. It is called from one goroutine.
	Progress func(what string)
}

func (o *Options) withDefaults() (Options, error) {
	var r Options
	if o != nil {
		r = *o
	}
	if r.Sessions == 0 {
		r.Sessions = 12
	}
	if r.Sessions < 2 || r.Sessions > 200 {
		return r, fmt.Errorf("sessions: got %d, want 2 to 200", r.Sessions)
	}
	if r.Health == "" {
		r.Health = "/health"
	}
	if !strings.HasPrefix(r.Health, "/") {
		return r, fmt.Errorf("the health page's path %q does not begin with a slash", r.Health)
	}
	if r.Timeout <= 0 {
		r.Timeout = 10 * time.Second
	}
	if r.MaxBody <= 0 {
		r.MaxBody = 4_000_000
	}
	if r.Progress == nil {
		r.Progress = func(string) {}
	}
	if r.Proxy != "" && !slices.Contains(Proxies, r.Proxy) {
		return r, fmt.Errorf("there is no advice for the proxy %q; choose from %s", r.Proxy, strings.Join(Proxies, ", "))
	}
	if r.Origin != "" {
		u, err := url.Parse(r.Origin)
		if err != nil || u.Scheme == "" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			return r, fmt.Errorf(`%q is not an origin; write it as "https://app.example.com"`, r.Origin)
		}
		r.Origin = u.Scheme + "://" + strings.ToLower(u.Host)
	}
	return r, nil
}

// A Severity says how bad a finding is.
type Severity string

// The severities. Only a note leaves a deployment healthy.
const (
	Error   Severity = "error"   // some or all clients do not work
	Warning Severity = "warning" // some clients will not, or not always
	Note    Severity = "note"    // worth knowing
)

// A Finding is something that is wrong, or worth knowing.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Title    string   `json:"title"`
	Seen     string   `json:"seen"`               // what was seen
	Why      string   `json:"why"`                // why it matters
	Mend     []Mend   `json:"mend"`               // how to mend it, with the likeliest first
	Evidence []string `json:"evidence,omitempty"` // requests and answers, a line each
}

// A Mend is how a finding is mended in one program.
type Mend struct {
	Program string `json:"program"` // nginx, …, or the server
	File    string `json:"file"`    // and where in it
	Line    string `json:"line"`    // to write there; may be several
	Note    string `json:"note,omitempty"`
}

// A Fact is something that was seen and is no fault.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A Report is what was found.
type Report struct {
	URL      string         `json:"url"`              // as it was looked at, behind redirects, without the values of parameters
	Proxy    string         `json:"proxy"`            // one of [Proxies], or "unknown"
	Server   string         `json:"server"`           // "Atoll", or "Socket.IO" for others
	Nodes    map[string]int `json:"nodes,omitempty"`  // sessions by the node that opened them, where nodes tell
	Facts    []Fact         `json:"facts"`            // in the order in which they were seen
	Findings []Finding      `json:"findings"`         // the worst first
	Requests int            `json:"requests"`         // that were sent
	Took     time.Duration  `json:"took_nanoseconds"` // all of it
}

// Healthy reports whether there is nothing but notes.
func (r *Report) Healthy() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity != Note })
}

// Find returns the finding with an ID, or nil.
func (r *Report) Find(id string) *Finding {
	for i := range r.Findings {
		if r.Findings[i].ID == id {
			return &r.Findings[i]
		}
	}
	return nil
}

// A UsageError is one of the URL or of the options.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// An UnreachableError says that nothing answers there.
type UnreachableError struct {
	URL string
	Err error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s cannot be reached: %v", e.URL, e.Err)
}
func (e *UnreachableError) Unwrap() error { return e.Err }

// defaultPath is where Socket.IO servers are unless told otherwise.
const defaultPath = "/socket.io/"

// Check looks at the server at an address: http, https, ws or wss, with the path of the
// Socket.IO server, which is /socket.io/ where there is none. It returns a *UsageError if it cannot
// begin, an *UnreachableError if nothing answers, and the end of ctx. All that it started has ended then.
func Check(ctx context.Context, address string, o *Options) (*Report, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, &UsageError{err}
	}
	u, err := parseAddress(address)
	if err != nil {
		return nil, &UsageError{err}
	}
	v := &visit{
		o: opts, u: u, ctx: ctx, started: time.Now(), conns: make(map[*line]struct{}),
		report: &Report{Server: "Socket.IO", Proxy: "unknown", Nodes: make(map[string]int)},
	}
	defer v.idle.Wait()
	stop := context.AfterFunc(ctx, v.closeAll)
	defer stop()
	if err := v.look(); err != nil {
		v.closeAll()
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	v.closeAll()
	v.finish()
	return v.report, nil
}

func parseAddress(address string) (*url.URL, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	case "http", "https":
	default:
		return nil, fmt.Errorf("%q: the URL begins with http:// or https://", address)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("%q has no host", address)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = defaultPath
	}
	u.Fragment, u.User = "", nil
	return u, nil
}

// A visit is one look at one deployment.
type visit struct {
	o       Options
	u       *url.URL
	ctx     context.Context
	started time.Time
	shake   handshake // of the first session
	jar     bool      // sessions keep cookies, because they have to
	sticky  bool      // sessions stay where they are
	flaky   bool      // requests fail by chance
	held    bool      // answers are held back
	idle    sync.WaitGroup

	mu     sync.Mutex // guards what follows, and what of the report grows
	report *Report
	conns  map[*line]struct{}
	closed bool
	tokens int
	hints  hints
	seen   map[string]seenCookie
}

// look does all of it, in an order in which what fails first explains what fails later.
func (v *visit) look() error {
	v.o.Progress("reaching " + v.u.Host)
	if err := v.reach(); err != nil {
		return err
	}
	ok, err := v.openFirst()
	if err != nil {
		return err
	}
	v.fingerprint()
	if !ok {
		return nil
	}
	var waits []func()
	v.o.Progress(fmt.Sprintf("opening %d sessions, with their requests on fresh connections", v.o.Sessions))
	v.stickiness()
	if v.flaky {
		v.fact("what follows", "was not looked at: requests fail by chance, so it would not say anything")
		v.cookies()
		return nil
	}
	if !v.o.Quick {
		waits = v.startIdle()
	}
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"changing from polling to WebSocket", v.upgrades},
		{"waiting for an event on an open poll", v.buffering},
		{"sending bodies up to the size that the server takes", v.payloads},
		{"asking as pages of browsers do", v.origins},
		{"looking for caches", v.caching},
		{"looking at cookies", v.cookies},
		{"asking over HTTP/2, and other addresses of the name", v.fronts},
		{"asking for the health page", v.health},
	} {
		if v.ctx.Err() != nil {
			return context.Cause(v.ctx)
		}
		v.o.Progress(step.what)
		step.do()
	}
	if len(waits) > 0 {
		if left := v.shake.interval() - time.Since(v.started); left > time.Second {
			v.o.Progress(fmt.Sprintf("waiting for a ping, up to %.0f s more, to see whether idle connections live (--quick leaves it out)", left.Seconds()))
		}
	}
	for _, wait := range waits {
		wait()
	}
	return nil
}

// found adds a finding, once for each ID.
func (v *visit) found(id string, s Severity, title, seen, why string, evidence ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range v.report.Findings {
		if v.report.Findings[i].ID == id {
			return
		}
	}
	if len(evidence) > 6 {
		evidence = append(slices.Clone(evidence[:5]), fmt.Sprintf("… and %d more", len(evidence)-5))
	}
	v.report.Findings = append(v.report.Findings, Finding{ID: id, Severity: s, Title: title, Seen: seen, Why: why, Evidence: evidence})
}

func (v *visit) fact(name, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Facts = append(v.report.Facts, Fact{name, fmt.Sprintf(format, args...)})
}

// isAtoll reports whether the nodes say so.
func (v *visit) isAtoll() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.report.Nodes) > 0
}

// finish fills in what is known only at the end.
func (v *visit) finish() {
	r := v.report
	r.URL = shown(v.u)
	if v.o.Proxy != "" {
		r.Proxy = v.o.Proxy
	} else if p := v.hints.proxy(); p != "" {
		r.Proxy = p
	}
	if len(r.Nodes) > 0 {
		r.Server = "Atoll"
		var spread []string
		for _, n := range slices.Sorted(maps.Keys(r.Nodes)) {
			spread = append(spread, fmt.Sprintf("%s: %d", n, r.Nodes[n]))
		}
		r.Facts = append(r.Facts, Fact{"nodes", fmt.Sprintf("%d seen; sessions by node: %s", len(r.Nodes), strings.Join(spread, ", "))})
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		f.Mend = mends(f.ID, r.Proxy, r.Server, v.o.Origin)
	}
	rank := map[Severity]int{Error: 0, Warning: 1, Note: 2}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return rank[a.Severity] - rank[b.Severity] })
	r.Took = time.Since(v.started)
}
