package forward

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

var errNoURL = errors.New("forward: the other node cannot be reached directly, or does not know where yet")

// A place is how this node is reached.
type place struct {
	never bool
	fixed string // Options.Advertise

	known atomic.Bool   // there is a URL for other machines, or a fixed one
	asked atomic.Uint32 // counts calls of Learn

	mu     sync.Mutex
	remote string // for all
	local  string // for this machine
}

func (l *place) init(advertise string) error {
	switch advertise {
	case "":
		return nil
	case "-":
		l.never = true
	default:
		u, err := url.Parse(advertise)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || isUnspecified(u.Hostname()) {
			return fmt.Errorf("forward: Options.Advertise is %q: it must be the URL where other nodes reach this one, "+
				"as http://10.0.0.7:3000/socket.io/, or -", advertise)
		}
		l.fixed = advertise
	}
	l.known.Store(true)
	return nil
}

func (l *place) urls() (us []string) {
	if l.never {
		return nil
	}
	if l.fixed != "" {
		return []string{l.fixed}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, u := range []string{l.remote, l.local} {
		if u != "" {
			us = append(us, u)
		}
	}
	return us
}

// learnEvery is of how many requests one is looked at while only a loopback address is known.
const learnEvery = 64

// Learn notes how this node is reached, from a request that came to it over the network: the scheme, the local
// address of the connection, and the path as it was asked for. It is cheap once an address is known
// that other machines can use. Addresses of loopback are told to nodes on the same machine only; a connection
// of another kind than TCP teaches nothing.
func (p *Peers) Learn(r *http.Request) {
	l := &p.place
	if l.known.Load() {
		return
	}
	if n := l.asked.Add(1); n > 4 && n%learnEvery != 0 {
		return
	}
	a, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || wasForwarded(r) {
		return
	}
	ip, ok := netip.AddrFromSlice(a.IP)
	ip = ip.Unmap()
	if !ok || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || a.Port == 0 {
		return
	}
	u := url.URL{Scheme: "http", Host: netip.AddrPortFrom(ip, uint16(a.Port)).String(), Path: "/"}
	if r.TLS != nil {
		u.Scheme = "https"
	}
	if path, _, _ := strings.Cut(r.RequestURI, "?"); strings.HasPrefix(path, "/") && len(path) <= maxURL/2 {
		if v, err := url.ParseRequestURI(path); err == nil {
			u.Path, u.RawPath = v.Path, v.RawPath
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if ip.IsLoopback() {
		if l.local == "" {
			l.local = u.String()
		}
		return
	}
	l.remote = u.String()
	l.known.Store(true)
}

// wasForwarded reports whether r was forwarded.
func wasForwarded(r *http.Request) bool {
	_, ok := From(r.Context())
	return ok
}

// pick returns the URLs of c that this machine may use, in the order in which to try them.
func (p *Peers) pick(c *card) (us []*url.URL) {
	for _, s := range c.urls {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || isUnspecified(u.Hostname()) {
			continue
		}
		if isLoopback(u.Hostname()) && (c.machine == "" || c.machine != p.machine) {
			continue
		}
		us = append(us, u)
	}
	return us
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") || strings.HasSuffix(strings.ToLower(host), ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func isUnspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsUnspecified()
}

// machine names what has one loopback: a machine, or a container's network on it. It is empty where that cannot be told.
func machine() string {
	host, _ := os.Hostname()
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	ns, _ := os.Readlink("/proc/self/ns/net")
	if host == "" && (len(boot) == 0 || ns == "") {
		return ""
	}
	if len(boot) > 0 && ns != "" {
		return strings.TrimSpace(string(boot)) + " " + ns
	}
	return host
}
