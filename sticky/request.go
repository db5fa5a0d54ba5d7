package sticky

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// A kind says what a request is to the balancer.
type kind int

const (
	plain     kind = iota // not for Socket.IO
	handshake             // opens a session
	session               // belongs to one
)

// classify returns what r is, and the session id it carries. It reports false
// where r names two sessions.
func (l *Balancer) classify(r *http.Request) (k kind, id string, ok bool) {
	p, path := r.URL.Path, l.o.Path
	if !strings.HasPrefix(p, path) && p != path[:len(path)-1] {
		return plain, "", true
	}
	transport := false
	for q := r.URL.RawQuery; q != ""; {
		var pair string
		pair, q, _ = strings.Cut(q, "&")
		key, val, _ := strings.Cut(pair, "=")
		switch unescape(key) {
		case "sid":
			if id != "" {
				return session, "", false
			}
			id = unescape(val)
		case "transport":
			transport = true
		}
	}
	switch {
	case id != "":
		return session, id, true
	case transport:
		return handshake, "", true
	}
	return plain, "", true // the client script, which the official server serves below Path
}

// unescape undoes the escaping of a query; what is not well formed stays as it is.
func unescape(s string) string {
	if strings.ContainsAny(s, "%+") {
		if u, err := url.QueryUnescape(s); err == nil {
			return u
		}
	}
	return s
}

// isWebSocket reports whether r asks for a WebSocket. "Connection: upgrade" without an
// Upgrade header, which some proxies send on each request, is no such wish.
func isWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 &&
		hasToken(r.Header["Upgrade"], "websocket") && hasToken(r.Header["Connection"], "upgrade")
}

// hasToken reports whether one of the comma-separated values is token, in any case.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// hopByHop are the headers that are about one connection, not about the message.
// See https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// dropHopByHop takes out the headers about the connection, those that Connection names too.
func dropHopByHop(h http.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
}

// forward sets the X-Forwarded headers of out, the header of a request that
// the balancer makes of in.
func (l *Balancer) forward(in *http.Request, out http.Header) {
	host, _, err := net.SplitHostPort(in.RemoteAddr)
	if err != nil {
		host = in.RemoteAddr
	}
	chain, fwdHost, proto := host, in.Host, "http"
	if in.TLS != nil {
		proto = "https"
	}
	if l.trusts(host) {
		if prior := in.Header["X-Forwarded-For"]; len(prior) > 0 {
			chain = strings.Join(prior, ", ") + ", " + host
		}
		fwdHost = orElse(in.Header.Get("X-Forwarded-Host"), fwdHost)
		proto = orElse(in.Header.Get("X-Forwarded-Proto"), proto)
	}
	out.Del("Forwarded")
	out.Set("X-Forwarded-For", chain)
	out.Set("X-Forwarded-Host", fwdHost)
	out.Set("X-Forwarded-Proto", proto)
	if _, ok := out["User-Agent"]; !ok {
		out.Set("User-Agent", "") // none, rather than that of net/http
	}
}

func (l *Balancer) trusts(host string) bool {
	if len(l.o.TrustedProxies) == 0 {
		return false
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addr = addr.Unmap().WithZone("")
	for _, p := range l.o.TrustedProxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
