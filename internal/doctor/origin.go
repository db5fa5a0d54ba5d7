package doctor

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// ownOrigin is the origin of pages that come from where the server is.
func (v *visit) ownOrigin() string { return v.u.Scheme + "://" + v.u.Host }

// sameSite reports whether the page that uses the server is of the server's site: whether browsers
// send cookies of SameSite=Lax. Public suffixes are not known here: hosts that share
// their last two labels count as one site.
func (v *visit) sameSite() bool {
	u, err := url.Parse(v.o.Origin)
	return err == nil && u.Scheme == v.u.Scheme && siteOf(u.Hostname()) == siteOf(v.u.Hostname())
}

func siteOf(host string) string {
	labels := strings.Split(host, ".")
	if len(labels) <= 2 || strings.Trim(host, "0123456789.") == "" || strings.Contains(host, ":") {
		return host
	}
	return strings.Join(labels[len(labels)-2:], ".")
}

// origins asks as pages do: one of the server's own origin, and one of Options.Origin.
func (v *visit) origins() {
	own := v.ownOrigin()
	s, a, err := v.open(nil, v.jar, "Origin: "+own)
	if s != nil {
		s.end()
		v.corsHeaders(a, own, false)
	} else if err == nil && a.status == http.StatusForbidden {
		v.ownOriginRefused(a.String())
		return
	}
	if v.o.Origin == "" || v.o.Origin == own {
		return
	}
	v.foreignOrigin()
}

func (v *visit) ownOriginRefused(proof string) {
	v.found("host-changed", Error, "The server takes its own pages for foreign ones", fmt.Sprintf("A request with Origin: %s, the origin of this very URL, is answered with 403.", v.ownOrigin()),
		"The server compares the page's origin with the Host that it is asked for, and the proxy puts another name there. Pages that come from the same address cannot connect.", proof)
}

// foreignOrigin asks as a page of Options.Origin does.
func (v *visit) foreignOrigin() {
	o := v.o.Origin
	s, a, err := v.open(nil, v.jar, "Origin: "+o)
	if s == nil {
		if err == nil && a.status == http.StatusForbidden {
			v.found("origin-refused", Error, "The server refuses pages of "+o, "A handshake with this Origin is answered with 403.",
				"Browsers cannot connect from there.", a.String())
		}
		return
	}
	defer s.end()
	if !v.corsHeaders(a, o, true) {
		return
	}
	if v.o.Credentials && a.header.Get("Access-Control-Allow-Credentials") != "true" {
		v.found("cors-credentials", Error, "Pages may not connect with credentials", "Access-Control-Allow-Credentials is not among the headers of a handshake from "+o+".",
			"With withCredentials: true the browser hides the answer from the page, and every poll fails.", headers(a, "Access-Control-"))
	}
	v.preflight(o)
	if a, err := v.once(request{method: http.MethodGet, target: v.target("polling", "none"), header: []string{"Origin: " + o}}); err == nil && a.status >= 400 &&
		a.header.Get("Access-Control-Allow-Origin") == "" {
		v.found("cors-errors", Warning, "Errors come without the headers that let a page read them",
			fmt.Sprintf("The answer to an unknown session is %d, without Access-Control-Allow-Origin.", a.status),
			"The page sees a failed request instead of what is wrong, and the console blames CORS.", a.String())
	}
	if slices.Contains(v.shake.Upgrades, "websocket") {
		ws, a, _, err := v.webSocket("", "Origin: "+o)
		if ws != nil {
			ws.end()
		} else if err == nil && a.status == http.StatusForbidden {
			v.found("origin-refused-websocket", Error, "WebSockets of pages of "+o+" are refused", "Polling is allowed from there, and a WebSocket is answered with 403.",
				"Clients stay on long-polling.", a.String())
		}
	}
}

// corsHeaders looks at what lets a page read an answer. It reports false if the page cannot.
func (v *visit) corsHeaders(a *answer, origin string, needed bool) bool {
	allow := a.header.Values("Access-Control-Allow-Origin")
	proof := headers(a, "Access-Control-")
	all := strings.Join(allow, ", ")
	switch {
	case len(allow) > 1 || strings.Contains(all, ","):
		v.found("cors-doubled", Error, "Access-Control-Allow-Origin comes twice", fmt.Sprintf("It is %q.", all),
			"Both the proxy and the server set it. Browsers take none of the two, and every poll of a page of another origin fails.", proof)
		return false
	case all == "*" && a.header.Get("Access-Control-Allow-Credentials") == "true", all == "*" && needed && v.o.Credentials:
		v.found("cors-star-credentials", Error, `Any origin is allowed ("*"), together with credentials`, "Browsers take no \"*\" where a page sends credentials.",
			"Every poll of a page with withCredentials: true fails. The server has to name the page's origin.", proof)
		return false
	case !needed:
		return true
	case all == "":
		v.found("origin-refused", Error, "The server does not allow pages of "+origin, "A handshake from there is answered without Access-Control-Allow-Origin.",
			"The browser hides the answer from the page, and every poll fails.", proof)
		return false
	case all != "*" && all != origin:
		v.found("origin-refused", Error, "The server allows pages of another origin, not of "+origin, fmt.Sprintf("Access-Control-Allow-Origin is %q.", all),
			"The browser hides the answer from the page, and every poll fails. Scheme and port belong to an origin.", proof)
		return false
	}
	return true
}

// preflight asks what a browser asks before a request with headers of its own (extraHeaders).
func (v *visit) preflight(o string) {
	a, err := v.once(request{method: http.MethodOptions, target: v.target("polling", ""), header: []string{
		"Origin: " + o, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization"}})
	if err != nil || a.status > 299 || a.header.Get("Access-Control-Allow-Origin") == "" {
		v.found("preflight", Warning, "A preflight is not answered as browsers need it", outcome("OPTIONS", a, err),
			"Clients with extraHeaders cannot connect from other origins.", outcome("OPTIONS", a, err))
	} else if len(a.header.Values("Access-Control-Allow-Origin")) > 1 {
		v.corsHeaders(a, o, true)
	}
}

// headers are those of an answer that begin so, in a line.
func headers(a *answer, prefix string) string {
	var all []string
	for k, values := range a.header {
		if strings.HasPrefix(k, prefix) {
			for _, value := range values {
				all = append(all, k+": "+value)
			}
		}
	}
	slices.Sort(all)
	return a.asked + ": " + strings.Join(all, "; ")
}
