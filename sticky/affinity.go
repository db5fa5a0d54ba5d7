package sticky

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/atollhq/atoll/internal/sid"
)

// An Affinity brings the new sessions of a client to the node where its earlier ones were. It is a [Cookie], a
// [NodeCookie], a [ClientAddress], a [Header] or a [Query].
//
// Where a session is opened, the affinities of [Options.Affinity] are asked in order; the first that
// knows something of the client decides. A cookie names a node. All others give a key, and keys are spread over the
// nodes by rendezvous hashing: each balancer with the same nodes (by URL and weight) comes to the same
// result; where one of n nodes goes away, the 1/n of the keys that were there go to the others, no
// other key moves, and where it returns, exactly those return. A node that is not up, or full, counts as away.
//
// Sessions that exist are not moved by any of it: the session id decides. Only where nobody
// knows the id (the balancer was restarted, and the nodes are no Atoll nodes), an affinity says where it may be.
type Affinity interface {
	// lead returns what is known of the client that sent h: its node, or a key that leads to one.
	lead(l *Balancer, v *view, h *head) (b *backend, key string)
	// check puts defaults in place.
	check() (Affinity, error)
}

// A Cookie is set by the balancer when it has chosen the node of a new session, and names that. Browsers
// send it; other clients of Socket.IO mostly do not.
type Cookie struct {
	// Name is the name. If empty, atoll-node.
	Name string
	// Path is what it is sent for. If empty, Options.Path.
	Path string
	// Domain is who gets it. If empty, the host that the client asked.
	Domain string
	// SameSite says whether pages of other sites cause it to be sent. If zero, Lax. None needs Secure.
	SameSite http.SameSite
	// Secure keeps it to https. Set it where clients use nothing else.
	Secure bool
	// Script lets scripts of the page read it. By default it is HttpOnly.
	Script bool
	// MaxAge is how long a browser keeps it, in seconds. If zero, until it is closed.
	MaxAge int
	// Secret goes into the value, which is a hash of the node's URL: without one, whoever guesses the URL can
	// tell that the guess is right. Balancers beside each other need the same.
	Secret string
}

// A NodeCookie is set by the nodes and kept by clients, such as the cookie `io` of engine.io. Its value is
// learned where a node sets it, or is read as a session id that names its node.
type NodeCookie string

// A ClientAddress is the address of the client: the peer's, or where that is one of Options.TrustedProxies,
// the right-most of X-Forwarded-For that is none. Clients whose addresses begin alike go together.
type ClientAddress struct {
	// IPv4Bits is how many bits of an address of IPv4 count. If zero, 32.
	IPv4Bits int
	// IPv6Bits is how many bits of an address of IPv6 count. If zero, 64.
	IPv6Bits int
}

// A Header is a header of the request that opens a session.
type Header string

// A Query is a parameter in the query of the request that opens a session.
type Query string

func (c Cookie) check() (Affinity, error) {
	c.Name = orElse(c.Name, "atoll-node")
	c.SameSite = orElse(c.SameSite, http.SameSiteLaxMode)
	if c.SameSite == http.SameSiteNoneMode && !c.Secure {
		return nil, errors.New("sticky: Cookie: browsers refuse SameSite=None without Secure")
	}
	if err := (&http.Cookie{Name: c.Name, Value: "0", Path: c.Path, Domain: c.Domain}).Valid(); err != nil {
		return nil, fmt.Errorf("sticky: Cookie: %w", err)
	}
	return c, nil
}

func (c Cookie) lead(_ *Balancer, v *view, h *head) (*backend, string) {
	value := cookieIn(h, c.Name)
	if len(value) != cookieLen {
		return nil, ""
	}
	for _, b := range v.list {
		if c.value(b) == value {
			return b, ""
		}
	}
	return nil, ""
}

// cookieLen is the length of a cookie's value: 64 bits in hexadecimal.
const cookieLen = 16

// value returns what names b.
func (c Cookie) value(b *backend) string {
	if v, ok := b.cookies.Load(c.Secret); ok {
		return v.(string)
	}
	m := hmac.New(sha256.New, []byte(c.Secret))
	m.Write([]byte(b.url.String()))
	v := hex.EncodeToString(m.Sum(nil)[:cookieLen/2])
	b.cookies.Store(c.Secret, v)
	return v
}

// set returns the Set-Cookie header that names b.
func (c Cookie) set(b *backend, path string) string {
	return (&http.Cookie{
		Name: c.Name, Value: c.value(b), Path: orElse(c.Path, path), Domain: c.Domain,
		SameSite: c.SameSite, Secure: c.Secure, HttpOnly: !c.Script, MaxAge: c.MaxAge,
	}).String()
}

func (c NodeCookie) check() (Affinity, error) {
	if err := (&http.Cookie{Name: string(c), Value: "0"}).Valid(); err != nil {
		return nil, fmt.Errorf("sticky: NodeCookie: %w", err)
	}
	return c, nil
}

func (c NodeCookie) lead(l *Balancer, v *view, h *head) (*backend, string) {
	value := cookieIn(h, string(c))
	if value == "" || len(value) > maxSID {
		return nil, ""
	}
	if b := l.cookies.get(value); b != nil && slices.Contains(v.list, b) {
		return b, ""
	}
	if b := l.table.look(value); b != nil {
		return b, ""
	}
	if t, ok := sid.TagIn(value); ok {
		return v.tags[t], ""
	}
	return nil, ""
}

// learn remembers the cookies that the node b sets.
func (l *Balancer) learn(b *backend, setCookies []string) {
	for _, a := range l.rules().Affinity {
		name, ok := a.(NodeCookie)
		if !ok {
			continue
		}
		for _, line := range setCookies {
			pair, _, _ := strings.Cut(line, ";")
			n, v, _ := strings.Cut(pair, "=")
			if v = unquote(v); strings.TrimSpace(n) == string(name) && v != "" && len(v) <= maxSID {
				l.cookies.put(v, b)
			}
		}
	}
}

func (a ClientAddress) check() (Affinity, error) {
	a.IPv4Bits, a.IPv6Bits = orElse(a.IPv4Bits, 32), orElse(a.IPv6Bits, 64)
	if a.IPv4Bits < 1 || a.IPv4Bits > 32 || a.IPv6Bits < 1 || a.IPv6Bits > 128 {
		return nil, fmt.Errorf("sticky: ClientAddress: there are no prefixes of %d bits in IPv4 or %d in IPv6", a.IPv4Bits, a.IPv6Bits)
	}
	return a, nil
}

func (a ClientAddress) lead(l *Balancer, _ *view, h *head) (*backend, string) {
	addr := l.clientOf(h)
	bits := a.IPv6Bits
	if addr.Is4() {
		bits = a.IPv4Bits
	}
	p, _ := addr.Prefix(bits)
	if !p.IsValid() {
		return nil, "" // a client without an address, such as one of a Unix socket
	}
	return nil, p.String()
}

// clientOf returns the address of the client that sent h, as ClientAddress says.
func (l *Balancer) clientOf(h *head) netip.Addr {
	addr := h.remote.Addr().Unmap().WithZone("")
	if !l.trusts(addr) {
		return addr
	}
	lines := h.header("X-Forwarded-For")
	for _, line := range slices.Backward(lines) {
		parts := strings.Split(line, ",")
		for _, part := range slices.Backward(parts) {
			a, ok := forwardedAddr(part)
			if !ok {
				return addr // what stands before cannot be trusted either
			}
			addr = a
			if !l.trusts(addr) {
				return addr
			}
		}
	}
	return addr
}

// forwardedAddr reads an element of X-Forwarded-For; some proxies write a port behind it.
func forwardedAddr(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		p, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		a = p.Addr()
	}
	return a.Unmap().WithZone(""), true
}

func (n Header) check() (Affinity, error) {
	if n == "" || strings.ContainsAny(string(n), " \t\r\n:") {
		return nil, fmt.Errorf("sticky: no header has the name %q", string(n))
	}
	return Header(textproto.CanonicalMIMEHeaderKey(string(n))), nil
}

func (n Header) lead(_ *Balancer, _ *view, h *head) (*backend, string) {
	if v := h.header(string(n)); len(v) > 0 {
		return nil, v[0]
	}
	return nil, ""
}

func (n Query) check() (Affinity, error) {
	if n == "" {
		return nil, errors.New("sticky: Query: no name")
	}
	return n, nil
}

func (n Query) lead(_ *Balancer, _ *view, h *head) (*backend, string) {
	for q := h.query; q != ""; {
		var pair string
		pair, q, _ = strings.Cut(q, "&")
		key, val, _ := strings.Cut(pair, "=")
		if unescape(key) == string(n) && val != "" {
			return nil, unescape(val)
		}
	}
	return nil, ""
}

// cookieIn returns the value of the first cookie with the given name in h, or an empty string.
func cookieIn(h *head, name string) string {
	for _, line := range h.header("Cookie") {
		for part := range strings.SplitSeq(line, ";") {
			n, v, ok := strings.Cut(strings.TrimSpace(part), "=")
			if ok && n == name {
				return unquote(v)
			}
		}
	}
	return ""
}

// unquote takes off the quotes that a cookie's value may have, and the escapes that those of the official server have.
func unquote(v string) string {
	v = strings.TrimSpace(v)
	if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
		v = v[1 : len(v)-1]
	}
	if strings.Contains(v, "%") {
		if u, err := url.PathUnescape(v); err == nil {
			return u
		}
	}
	return v
}

// ParseAffinity reads an affinity as it is written on a command line: cookie, cookie=NAME, node-cookie=NAME,
// address, address=BITS4/BITS6, header=NAME or query=NAME.
func ParseAffinity(s string) (Affinity, error) {
	kind, arg, _ := strings.Cut(s, "=")
	var a Affinity
	switch kind {
	case "cookie":
		a = Cookie{Name: arg}
	case "node-cookie":
		a = NodeCookie(orElse(arg, "io"))
	case "header":
		a = Header(arg)
	case "query":
		a = Query(arg)
	case "address":
		var c ClientAddress
		if arg != "" {
			four, six, ok := strings.Cut(arg, "/")
			var err4, err6 error
			c.IPv4Bits, err4 = strconv.Atoi(four)
			c.IPv6Bits, err6 = strconv.Atoi(six)
			if !ok || err4 != nil || err6 != nil {
				return nil, fmt.Errorf("sticky: affinity %q: write the bits of IPv4 and IPv6 that count as address=24/56", s)
			}
		}
		a = c
	default:
		return nil, fmt.Errorf("sticky: no affinity %q: use cookie, node-cookie=NAME, address, header=NAME or query=NAME", s)
	}
	return a.check()
}
