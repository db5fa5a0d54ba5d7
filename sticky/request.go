package sticky

import (
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

// A head is what the balancer looks at in a request, from whichever front that came. It is
// valid as long as its call.
type head struct {
	method string
	path   string         // without escapes, as the path of a url.URL
	query  string         // as it came, without the question mark
	host   string         // as the client named it
	remote netip.AddrPort // of the client, after the PROXY protocol; the zero value where it has none
	secure bool           // came over TLS
	// header returns the values of a header with the given canonical name, in order. They must not be changed.
	header func(name string) []string
}

// headOf returns the head of r.
func headOf(r *http.Request) head {
	remote, _ := netip.ParseAddrPort(r.RemoteAddr)
	return head{
		method: r.Method, path: r.URL.Path, query: r.URL.RawQuery, host: r.Host,
		remote: netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()), secure: r.TLS != nil,
		header: func(name string) []string { return r.Header[name] },
	}
}

// classify returns what h is, and the session id it carries. It reports false
// where h has more than one id, even if some are empty: servers differ in which they take.
func (l *Balancer) classify(h *head) (k kind, id string, ok bool) {
	p, path := h.path, l.o.Path
	if !strings.HasPrefix(p, path) && p != path[:len(path)-1] {
		return plain, "", true
	}
	transport, named := false, false
	for q := h.query; q != ""; {
		var pair string
		pair, q, _ = strings.Cut(q, "&")
		key, val, _ := strings.Cut(pair, "=")
		switch unescape(key) {
		case "sid":
			if named {
				return session, "", false
			}
			named = true
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

// forwarded returns what the headers X-Forwarded-For, -Host and -Proto say to a node.
func (l *Balancer) forwarded(h *head) (chain, host, proto string) {
	from := h.remote.Addr()
	chain, host, proto = "unknown", h.host, "http"
	if from.IsValid() {
		chain = from.String()
	}
	if h.secure {
		proto = "https"
	}
	if l.trusts(from) {
		if prior := h.header("X-Forwarded-For"); len(prior) > 0 {
			chain = strings.Join(prior, ", ") + ", " + chain
		}
		if v := h.header("X-Forwarded-Host"); len(v) > 0 {
			host = orElse(v[0], host)
		}
		if v := h.header("X-Forwarded-Proto"); len(v) > 0 {
			proto = orElse(v[0], proto)
		}
	}
	return chain, host, proto
}

// forward sets the X-Forwarded headers of out, the header of a request that
// the balancer makes of h.
func (l *Balancer) forward(h *head, out http.Header) {
	chain, host, proto := l.forwarded(h)
	out.Del("Forwarded")
	out.Set("X-Forwarded-For", chain)
	out.Set("X-Forwarded-Host", host)
	out.Set("X-Forwarded-Proto", proto)
	if _, ok := out["User-Agent"]; !ok {
		out.Set("User-Agent", "") // none, rather than that of net/http
	}
}

// trusts reports whether addr is one of the TrustedProxies.
func (l *Balancer) trusts(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, p := range l.rules().TrustedProxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
