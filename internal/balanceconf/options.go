package balanceconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atollhq/atoll/sticky"
)

// In returns path as seen from the directory of f.
func (f *File) In(path string) string {
	if path == "" || path == "-" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(f.dir, path)
}

// Options returns what f says in the words of package sticky, without the log and what else is made of files but
// the certificates for nodes.
func (f *File) Options() (*sticky.Options, error) {
	o := &sticky.Options{
		Path: f.Path, HashLoad: f.HashLoad, SlowStart: time.Duration(f.SlowStart), RemoveAfter: time.Duration(f.RemoveAfter),
		DialTimeout: time.Duration(f.Timeouts.Dial), UpgradeTimeout: time.Duration(f.Timeouts.Upgrade), BodyTimeout: time.Duration(f.Timeouts.Body),
		StallTimeout: time.Duration(f.Timeouts.Stall), IdleTimeout: time.Duration(f.Timeouts.BackendIdle),
		MaxSessions: f.Remember.Max, SessionIdle: time.Duration(f.Remember.Idle),
		Limits: sticky.Limits{
			Sessions: f.Limits.Sessions, SessionsPerNode: f.Limits.SessionsPerNode,
			Opening: f.Limits.Opening.rate(), OpeningPerAddress: f.Limits.OpeningPerAddress.rate(),
		},
		Health: sticky.Health{
			Path: f.Health.Path, Expect: f.Health.Expect, Interval: time.Duration(f.Health.Interval), Timeout: time.Duration(f.Health.Timeout),
			Rise: f.Health.Rise, Fall: f.Health.Fall,
		},
		Passive: sticky.Passive{
			Errors: offOr(f.Passive.Errors), Share: f.Passive.Share, Window: time.Duration(f.Passive.Window), Pause: time.Duration(f.Passive.Pause),
		},
		RetryShare: offOr(f.Retries),
		Front: sticky.Front{
			ProxyProtocol: f.ProxyProtocol, HeaderTimeout: time.Duration(f.Timeouts.Header), IdleTimeout: time.Duration(f.Timeouts.Idle),
			MaxRequestLine: f.Listen.RequestLine, MaxHeaderBytes: f.Listen.HeaderBytes, MaxHeaders: f.Listen.Headers, MaxBody: f.Listen.Body,
			WebSocketIdle: time.Duration(f.Listen.WebSocket), MaxConns: f.Limits.Connections, MaxConnsPerAddress: f.Limits.ConnectionsAddress, H2C: f.Listen.H2C,
		},
	}
	var err error
	if f.Policy != "" {
		if o.Policy, err = sticky.ParsePolicy(f.Policy); err != nil {
			return nil, err
		}
	}
	for _, b := range f.Backends {
		o.Backends = append(o.Backends, b.sticky())
	}
	for _, a := range f.Affinity {
		s, err := a.sticky()
		if err != nil {
			return nil, err
		}
		o.Affinity = append(o.Affinity, s)
	}
	for _, d := range f.Discover {
		s, err := f.discovery(d)
		if err != nil {
			return nil, err
		}
		o.Discover = append(o.Discover, s)
	}
	for _, s := range f.Trusted {
		p, err := prefix(s)
		if err != nil {
			return nil, fmt.Errorf("trusted_proxies: %q is neither an address nor a prefix such as 10.0.0.0/8", s)
		}
		o.TrustedProxies = append(o.TrustedProxies, p)
	}
	o.TLS, err = f.backendTLS()
	return o, err
}

// offOr returns the number at p, -1 where that is 0, and 0 where p is nil.
func offOr[T int | float64](p *T) T {
	switch {
	case p == nil:
		return 0
	case *p == 0:
		return -1
	}
	return *p
}

func (r *Rate) rate() sticky.Rate {
	if r == nil {
		return sticky.Rate{}
	}
	return sticky.Rate{PerSecond: r.PerSecond, Burst: r.Burst}
}

func (b Backend) sticky() sticky.Backend {
	return sticky.Backend{URL: b.URL, Name: b.Name, Weight: b.Weight, MaxSessions: b.MaxSessions, Drain: b.Drain}
}

func (a Affinity) sticky() (sticky.Affinity, error) {
	var all []sticky.Affinity
	if a.word != "" {
		s, err := sticky.ParseAffinity(a.word)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if c := a.Cookie; c != nil {
		same, ok := map[string]http.SameSite{"": 0, "lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode}[strings.ToLower(c.SameSite)]
		if !ok {
			return nil, fmt.Errorf("affinity: same_site is lax, strict or none, not %q", c.SameSite)
		}
		all = append(all, sticky.Cookie{
			Name: c.Name, Path: c.Path, Domain: c.Domain, SameSite: same, Secure: c.Secure, Script: c.HTTPOnly != nil && !*c.HTTPOnly,
			MaxAge: int(time.Duration(c.MaxAge).Seconds()), Secret: c.Secret,
		})
	}
	if a.NodeCookie != "" {
		all = append(all, sticky.NodeCookie(a.NodeCookie))
	}
	if a.Address != nil {
		all = append(all, sticky.ClientAddress{IPv4Bits: a.Address.IPv4, IPv6Bits: a.Address.IPv6})
	}
	if a.Header != "" {
		all = append(all, sticky.Header(a.Header))
	}
	if a.Query != "" {
		all = append(all, sticky.Query(a.Query))
	}
	if len(all) != 1 {
		return nil, errors.New("affinity: each element is one of cookie, node_cookie, address, header and query")
	}
	return all[0], nil
}

func (f *File) discovery(d Discovery) (sticky.Discovery, error) {
	switch {
	case (d.File == "") == (d.DNS == ""):
		return nil, errors.New("discover: each element has either file or dns")
	case d.File != "" && (d.Port != 0 || d.Scheme != ""):
		return nil, errors.New("discover: port and scheme go with dns; in a file they are in the URLs")
	case d.File != "":
		s := sticky.File{Path: f.In(d.File), Interval: time.Duration(d.Interval)}
		if ext := filepath.Ext(d.File); ext == ".yaml" || ext == ".yml" {
			s.Parse = ParseBackends
		}
		return s, nil
	}
	return sticky.DNS{Name: d.DNS, Port: d.Port, Scheme: d.Scheme, Interval: time.Duration(d.Interval)}, nil
}

// ParseBackends reads a list of nodes in YAML, as under backends.
func ParseBackends(text []byte) ([]sticky.Backend, error) {
	var list []Backend
	if err := decode("", text, &list); err != nil {
		return nil, err
	}
	var all []sticky.Backend
	for _, b := range list {
		all = append(all, b.sticky())
	}
	return all, nil
}

func prefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

func (f *File) backendTLS() (*tls.Config, error) {
	t := f.BackendTLS
	if t == (BackendTLS{}) {
		return nil, nil
	}
	c := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.Insecure}
	if t.CA != "" {
		pem, err := os.ReadFile(f.In(t.CA))
		if err != nil {
			return nil, fmt.Errorf("backend_tls: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("backend_tls: there is no certificate in %s", t.CA)
		}
	}
	if t.Cert != "" {
		key := t.Key
		if key == "" {
			key = t.Cert
		}
		pair, err := tls.LoadX509KeyPair(f.In(t.Cert), f.In(key))
		if err != nil {
			return nil, fmt.Errorf("backend_tls: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
