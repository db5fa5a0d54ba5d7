package doctor

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Proxies are those that there is advice for.
var Proxies = []string{"nginx", "ingress-nginx", "haproxy", "httpd", "traefik", "caddy", "atoll balance"}

// hints count what speaks for each proxy.
type hints map[string]int

func (h *hints) add(proxy string, n int) {
	if *h == nil {
		*h = make(hints)
	}
	(*h)[proxy] += n
}

// note looks at an answer for what gives a proxy away.
func (h *hints) note(a *answer) {
	server, via := strings.ToLower(a.header.Get("Server")), strings.ToLower(a.header.Get("Via"))
	for name, marks := range map[string][]string{"nginx": {"nginx", "openresty"}, "httpd": {"apache"}, "caddy": {"caddy"}, "haproxy": {"haproxy"}} {
		for _, m := range marks {
			if strings.Contains(server, m) || strings.Contains(via, m) {
				h.add(name, 10)
			}
		}
	}
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		switch {
		case c.Name == "INGRESSCOOKIE":
			h.add("ingress-nginx", 50)
		case strings.EqualFold(c.Name, "SERVERID"):
			h.add("haproxy", 2)
		case c.Name == "lb" || c.Name == "lb_id":
			h.add("caddy", 1)
		case c.Name == "BALANCEID" || c.Name == "ROUTEID":
			h.add("httpd", 2)
		}
	}
	if a.status >= 400 {
		if p := proxyOfPage(a); p != "" {
			h.add(p, 20)
		}
	}
}

// proxyOfPage recognises the page of an error.
func proxyOfPage(a *answer) string {
	b := string(a.body[:min(len(a.body), 4096)])
	switch {
	case strings.Contains(b, "default backend - "):
		return "ingress-nginx"
	case strings.Contains(b, "<center>nginx") || strings.Contains(b, "<center>openresty"):
		return "nginx"
	case strings.Contains(b, "No server is available to handle this request"),
		strings.Contains(b, "Your browser sent an invalid request."),
		strings.Contains(b, "The server didn't respond in time."),
		strings.Contains(b, "The server returned an invalid or incomplete response."):
		return "haproxy"
	case strings.Contains(b, "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">"),
		strings.Contains(b, "//DTD HTML 4.01//EN\"") && strings.HasPrefix(a.header.Get("Server"), "Apache"): // older ones, newer ones
		return "httpd"
	}
	return ""
}

// proxyOf404 is the proxy whose own 404 an answer is, if it is one.
func proxyOf404(a *answer) string {
	if p := proxyOfPage(a); p != "" {
		return p
	}
	if strings.Contains(strings.ToLower(a.header.Get("Server")), "caddy") && len(a.body) == 0 {
		return "caddy"
	}
	return ""
}

// proxy is the likeliest one, or empty.
func (h hints) proxy() (best string) {
	for _, p := range Proxies {
		if h[p] > h[best] {
			best = p
		}
	}
	return best
}

// fingerprint sends, where nothing has given the proxy away, a request that is none: each proxy has a page
// of its own for that.
func (v *visit) fingerprint() {
	v.mu.Lock()
	known := v.hints.proxy() != ""
	v.mu.Unlock()
	if known || v.o.Proxy != "" {
		return
	}
	l, err := v.dial("")
	if err != nil {
		return
	}
	defer l.close()
	l.SetDeadline(time.Now().Add(min(v.o.Timeout, 2*time.Second)))
	if _, err := fmt.Fprintf(l, "GET / HTTP/1.1\r\nHost: %s\r\nBad Header\r\n\r\n", v.u.Host); err != nil {
		return
	}
	_, _ = l.receive(request{method: http.MethodGet, target: "/", wait: min(v.o.Timeout, 2*time.Second)}, time.Now())
}
