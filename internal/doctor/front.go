package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

type tlsState = tls.ConnectionState

// caching sees whether answers come from a cache.
func (v *visit) caching() {
	target := v.target("polling", "")
	var ids []string
	for range 2 {
		a, err := v.once(request{method: http.MethodGet, target: target})
		if err != nil {
			return
		}
		if h, ok := parseHandshake(a.body); ok {
			ids = append(ids, h.SID)
			if len(ids) == 1 || ids[0] != ids[1] {
				defer (&session{v: v, id: h.SID, cookies: map[string]string{}}).end()
			}
		}
		hit := a.header.Get("Age") != "" && a.header.Get("Age") != "0" || strings.HasPrefix(strings.ToUpper(a.header.Get("X-Cache")), "HIT")
		if hit || len(ids) == 2 && ids[0] == ids[1] {
			seen := "Two requests for a session got the same one."
			if hit {
				seen = "An answer says itself that it comes from a cache."
			}
			v.found("cached", Error, "Answers come from a cache", seen,
				"Clients get sessions of others, and messages again. Answers of the server are for one request only, and say so (Cache-Control: no-store).",
				a.String(), headers(a, "Cache-Control"), headers(a, "Age"), headers(a, "X-Cache"))
			return
		}
	}
}

// fronts asks over HTTP/2, and at each address of the name.
func (v *visit) fronts() {
	v.http2()
	host := v.u.Hostname()
	if net.ParseIP(host) != nil {
		return
	}
	addrs, err := net.DefaultResolver.LookupHost(v.ctx, host)
	if err != nil || len(addrs) < 2 {
		return
	}
	_, port, _ := net.SplitHostPort(v.address())
	var good, bad []string
	for _, addr := range addrs[:min(len(addrs), 6)] {
		if why := v.answers(net.JoinHostPort(addr, port)); why != "" {
			bad = append(bad, addr+": "+why)
		} else {
			good = append(good, addr)
		}
	}
	if len(bad) == 0 || len(good) == 0 {
		return
	}
	s, why := Error, "Clients choose one of the addresses, and some choose that one."
	if ip := net.ParseIP(host); ip == nil && (host == "localhost" || strings.HasSuffix(host, ".localhost")) {
		s, why = Note, "Programs that try only the first address of this machine's own name may not connect."
	}
	v.found("addresses-differ", s, "Not every address of the name leads to the server", strings.Join(bad, "; "), why, bad...)
}

// answers says why the server is not at an address, or nothing.
func (v *visit) answers(addr string) string {
	l, err := v.dial(addr)
	if err != nil {
		return plain(err)
	}
	defer l.close()
	s, a, err := v.open(l, false)
	if s == nil {
		return outcome("handshake", a, err)
	}
	s.end()
	return ""
}

// http2 asks for a session over HTTP/2, where the front takes that.
func (v *visit) http2() {
	if v.u.Scheme != "https" {
		return
	}
	ctx, cancel := context.WithTimeout(v.ctx, v.o.Timeout)
	defer cancel()
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	t := &http.Transport{TLSClientConfig: v.tls("h2"), Protocols: &protocols, DisableKeepAlives: true}
	defer t.CloseIdleConnections()
	c, err := (&tls.Dialer{Config: v.tls("h2", "http/1.1")}).DialContext(ctx, "tcp", v.address())
	if err != nil {
		return
	}
	speaks := c.(*tls.Conn).ConnectionState().NegotiatedProtocol == "h2"
	c.Close()
	if !speaks {
		v.fact("HTTP/2", "is not spoken in front")
		return
	}
	v.mu.Lock()
	v.report.Requests++
	v.mu.Unlock()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, v.u.Scheme+"://"+v.u.Host+v.target("polling", ""), nil)
	if err != nil {
		return
	}
	res, err := t.RoundTrip(r)
	proof := ""
	if err != nil {
		proof = "GET over HTTP/2: " + plain(err)
	} else {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<16))
		res.Body.Close()
		if h, ok := parseHandshake(b); ok && res.StatusCode == http.StatusOK {
			(&session{v: v, id: h.SID, cookies: map[string]string{}}).end()
			v.fact("HTTP/2", "works for polling")
			return
		}
		proof = fmt.Sprintf("GET over HTTP/2: %d", res.StatusCode)
	}
	v.found("http2", Error, "Over HTTP/2 there is no session", proof, "Browsers use HTTP/2 for polling where the front offers it.", proof)
}

// health asks for the health page, which balancers ask for.
func (v *visit) health() {
	a, err := v.once(request{method: http.MethodHead, target: v.o.Health, wait: min(v.o.Timeout, 2*time.Second)})
	switch {
	case err != nil:
	case a.status == http.StatusOK:
		v.fact("health page", "%s answers 200", v.o.Health)
	case a.status == http.StatusServiceUnavailable && a.header.Get("Atoll-Node") != "":
		v.found("draining", Note, "The node that was asked is being drained", v.o.Health+" answers 503.", "It takes no new sessions.", a.String())
	default:
		v.fact("health page", "%s answers %d from outside", v.o.Health, a.status)
	}
}
