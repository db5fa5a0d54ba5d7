package engine

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// CORS says which pages of other origins may use the server. The policy is one for
// polling, WebSocket and the upgrade between them. Pages of the server's own origin, and
// requests without an Origin header, are always allowed. An origin is allowed if any of
// Origins, OriginPatterns and OriginFunc says so.
type CORS struct {
	// Origins are the origins that may, such as "https://example.com". "*" means all; a "*" in
	// a host stands for one or more labels, as in "https://*.example.com". "null" is what
	// sandboxed frames and local files send.
	Origins []string

	// OriginPatterns are patterns of origins that may. A pattern has to match the whole origin, as if
	// it stood between \A and \z: `https://.*\.example\.com` does not match "https://a.example.com.evil.com".
	OriginPatterns []*regexp.Regexp

	// OriginFunc, where set, is asked for origins that are neither in Origins nor match a pattern.
	// It may be called at once for several requests. One that always says true allows all
	// pages, with credentials too: what the official server has as "origin: true".
	OriginFunc func(origin string, r *http.Request) bool

	// Credentials lets pages send cookies. It cannot go with the origin "*".
	Credentials bool

	// Methods that a preflight allows. If nil, GET, HEAD, PUT, PATCH, POST and DELETE.
	Methods []string

	// Headers that a preflight allows. If nil, those that it asks for.
	Headers []string

	// ExposedHeaders are those that pages may read.
	ExposedHeaders []string

	// MaxAge is how long a preflight may be remembered, in whole seconds. If zero, browsers
	// decide. If negative, not at all.
	MaxAge time.Duration

	// PreflightStatus is the status of an allowed preflight. If zero, 204. Some old
	// browsers want 200.
	PreflightStatus int
}

func (c *CORS) validate() error {
	if c == nil {
		return nil
	}
	for _, o := range c.Origins {
		if o == "*" {
			if c.Credentials {
				return errors.New(`engine: CORS.Origins "*" and CORS.Credentials exclude each other: ` +
					`any page could act in its visitor's name; list the origins, or use OriginFunc`)
			}
			continue
		}
		if o == "null" {
			continue
		}
		u, err := url.Parse(strings.Replace(o, "*", "x", 1))
		if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || u.RawQuery != "" || strings.Count(o, "*") > 1 {
			return fmt.Errorf(`engine: CORS.Origins: %q is not an origin; write it as "https://example.com" or "https://*.example.com"`, o)
		}
	}
	for i, re := range c.OriginPatterns {
		if re == nil {
			return fmt.Errorf("engine: CORS.OriginPatterns[%d] is nil", i)
		}
		if _, err := wholeOrigin(re); err != nil {
			return fmt.Errorf("engine: CORS.OriginPatterns[%d]: %w", i, err)
		}
	}
	if s := c.PreflightStatus; s != 0 && (s < 200 || s > 299) {
		return fmt.Errorf("engine: CORS.PreflightStatus %d: browsers take 200 to 299", s)
	}
	return nil
}

// wholeOrigin is re, for whole origins only.
func wholeOrigin(re *regexp.Regexp) (*regexp.Regexp, error) {
	return regexp.Compile(`\A(?:` + re.String() + `)\z`)
}

// An originPolicy is CORS, prepared.
type originPolicy struct {
	cors     *CORS
	any      bool
	methods  []string // the header, joined
	headers  []string
	exposed  []string
	maxAge   []string
	status   int
	lastWarn atomic.Int64 // nanoseconds since start
	start    time.Time
}

// warnEvery is how often a refused origin is logged at most.
const warnEvery = 10 * time.Second

func (p *originPolicy) init(o *Options) {
	p.start = time.Now()
	p.lastWarn.Store(-int64(warnEvery))
	c := o.CORS
	if c == nil {
		return
	}
	cc := *c
	cc.Origins = slices.Clone(c.Origins)
	cc.OriginPatterns = nil
	for _, re := range c.OriginPatterns {
		whole, err := wholeOrigin(re)
		if err != nil {
			continue // validate has seen to it
		}
		cc.OriginPatterns = append(cc.OriginPatterns, whole)
	}
	p.cors = &cc
	p.any = slices.Contains(cc.Origins, "*")
	p.methods = []string{"GET,HEAD,PUT,PATCH,POST,DELETE"}
	if cc.Methods != nil {
		p.methods = []string{strings.Join(cc.Methods, ",")}
	}
	if cc.Headers != nil {
		p.headers = []string{strings.Join(cc.Headers, ",")}
	}
	if len(cc.ExposedHeaders) > 0 {
		p.exposed = []string{strings.Join(cc.ExposedHeaders, ",")}
	}
	if cc.MaxAge != 0 {
		p.maxAge = []string{strconv.FormatInt(max(0, int64(cc.MaxAge/time.Second)), 10)}
	}
	p.status = http.StatusNoContent
	if cc.PreflightStatus != 0 {
		p.status = cc.PreflightStatus
	}
}

var (
	anyOrigin         = []string{"*"}
	yes               = []string{"true"}
	zeroLength        = []string{"0"}
	varyOrigin        = []string{"Origin"}
	varyHeaders       = []string{"Access-Control-Request-Headers"}
	varyOriginHeaders = []string{"Origin, Access-Control-Request-Headers"}
)

// check lets a request pass, or answers it: with an error where its origin may not use
// the server, and with what is allowed where it is a preflight. It sets the headers that the page
// needs, and that caches need also where no page asks.
func (p *originPolicy) check(s *Server, w http.ResponseWriter, r *http.Request) bool {
	origins := r.Header["Origin"]
	if len(origins) > 0 {
		origin := origins[0]
		one := len(origins) == 1 && !strings.ContainsAny(origin, ", ") // no browser names several
		if !one || !sameOrigin(origin, r) && !p.allows(origin, r) {
			s.refusedOrigin.Add(1)
			p.warn(s, origin, r)
			if p.cors != nil && !p.any {
				w.Header()["Vary"] = varyOrigin
			}
			s.refuse(w, ErrForbidden, "Origin not allowed")
			return false
		}
	}
	if p.cors == nil {
		return true
	}
	h := w.Header()
	if p.any {
		h["Access-Control-Allow-Origin"] = anyOrigin
	} else {
		h["Vary"] = varyOrigin
		if len(origins) > 0 {
			h["Access-Control-Allow-Origin"] = origins[:1:1]
		}
	}
	if p.cors.Credentials {
		h["Access-Control-Allow-Credentials"] = yes
	}
	if p.exposed != nil {
		h["Access-Control-Expose-Headers"] = p.exposed
	}
	if r.Method != http.MethodOptions {
		return true
	}
	h["Access-Control-Allow-Methods"] = p.methods
	if p.headers != nil {
		h["Access-Control-Allow-Headers"] = p.headers
	} else {
		h["Vary"] = varyOriginHeaders
		if p.any {
			h["Vary"] = varyHeaders
		}
		if want := r.Header["Access-Control-Request-Headers"]; len(want) > 0 {
			h["Access-Control-Allow-Headers"] = want[:1:1]
		}
	}
	if p.maxAge != nil {
		h["Access-Control-Max-Age"] = p.maxAge
	}
	h["Content-Length"] = zeroLength
	w.WriteHeader(p.status)
	return false
}

func (p *originPolicy) allows(origin string, r *http.Request) bool {
	if p.cors == nil {
		return false
	}
	if p.any {
		return true
	}
	for _, o := range p.cors.Origins {
		if matchOrigin(o, origin) {
			return true
		}
	}
	for _, re := range p.cors.OriginPatterns {
		if re.MatchString(origin) {
			return true
		}
	}
	return p.cors.OriginFunc != nil && p.cors.OriginFunc(origin, r)
}

// matchOrigin compares an origin with one of the list, in which a "*" stands for labels of the host.
func matchOrigin(pattern, origin string) bool {
	before, after, star := strings.Cut(pattern, "*")
	if !star {
		return strings.EqualFold(pattern, origin)
	}
	if len(origin) <= len(before)+len(after) {
		return false
	}
	middle := origin[len(before) : len(origin)-len(after)]
	return strings.EqualFold(origin[:len(before)], before) &&
		strings.EqualFold(origin[len(origin)-len(after):], after) &&
		!strings.ContainsAny(middle, "/:@?#")
}

// sameOrigin reports whether origin is that of the server, as far as this can be seen from behind a
// proxy: some drop the port from Host, some put their own address there and the client's
// into X-Forwarded-Host. A page cannot set either header.
func sameOrigin(origin string, r *http.Request) bool {
	if v := r.Header["Sec-Fetch-Site"]; len(v) == 1 && v[0] == "same-origin" {
		return true
	}
	scheme, host, ok := strings.Cut(origin, "://")
	if !ok {
		return false
	}
	if sameHost(scheme, host, r.Host) {
		return true
	}
	for _, v := range r.Header["X-Forwarded-Host"] {
		for one := range strings.SplitSeq(v, ",") {
			if sameHost(scheme, host, strings.TrimSpace(one)) {
				return true
			}
		}
	}
	return false
}

// sameHost compares the host of an origin with one that may lack its port.
func sameHost(scheme, origin, host string) bool {
	if host == "" {
		return false
	}
	if strings.EqualFold(origin, host) {
		return true
	}
	name, port := splitPort(origin)
	hostName, hostPort := splitPort(host)
	if !strings.EqualFold(name, hostName) {
		return false
	}
	if hostPort == "" {
		return true
	}
	if port == "" {
		port = "80"
		if scheme == "https" {
			port = "443"
		}
	}
	return port == hostPort
}

func splitPort(host string) (name, port string) {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		return host[:i], host[i+1:]
	}
	return host, ""
}

// warn tells the operator which option lets the origin pass. Not for each request: pages are many.
func (p *originPolicy) warn(s *Server, origin string, r *http.Request) {
	now, last := int64(time.Since(p.start)), p.lastWarn.Load()
	if now-last < int64(warnEvery) || !p.lastWarn.CompareAndSwap(last, now) {
		return
	}
	if len(origin) > 200 {
		origin = origin[:200]
	}
	s.o.Logger.Warn("refused a page of another origin; to allow it, add it to Options.CORS.Origins (atoll serve: --cors-origin)",
		"origin", origin, "host", r.Host, "option", fmt.Sprintf("CORS: &CORS{Origins: []string{%q}}", origin))
}
