package doctor

import (
	"fmt"
	"net/http"
)

// A tally counts what became of the requests of many sessions.
type tally struct {
	sessions, requests  int
	unknown, bad, other int
	evidence            []string
}

func (t *tally) add(what string, a *answer, err error) (ok bool) {
	t.requests++
	switch {
	case err == nil && a.unknown():
		t.unknown++
	case err != nil || a.bad():
		t.bad++
	case a.status != http.StatusOK:
		t.other++
	default:
		return true
	}
	t.evidence = append(t.evidence, outcome(what, a, err))
	return false
}

// walk opens n sessions and sends the requests of each over connections of their own.
func (v *visit) walk(n int, keeps bool) (t tally, all []*session) {
	for i := range n {
		if v.ctx.Err() != nil {
			return t, all
		}
		if i%2 == 1 { // so that sessions do not begin in step with a proxy that takes turns
			_, _ = v.once(request{method: http.MethodGet, target: v.target("polling", "none")})
		}
		s, a, err := v.open(nil, keeps)
		if s == nil {
			t.add("handshake", a, err)
			continue
		}
		t.requests++
		t.sessions++
		all = append(all, s)
		a, err = s.post(nil, "40")
		if !t.add("POST", a, err) {
			continue
		}
		a, err = s.poll(nil)
		t.add("poll", a, err)
	}
	return t, all
}

func endAll(all []*session) {
	for _, s := range all {
		s.end()
	}
}

// stickiness sees whether the requests of a session reach the node that has it: over fresh connections,
// with cookies if need be, and over one connection that several sessions share.
func (v *visit) stickiness() {
	t, all := v.walk(v.o.Sessions, false)
	kept, keptAll := t, all
	if t.unknown > 0 {
		endAll(all)
		kept, keptAll = v.walk(v.o.Sessions, true)
		v.jar = kept.unknown == 0 && kept.sessions > 0
	}
	defer func() { endAll(keptAll) }()
	v.sticky = kept.unknown == 0
	seen := fmt.Sprintf("%d of %d requests of %d sessions were answered with 400 \"Session ID unknown\"", t.unknown, t.requests, t.sessions)
	switch {
	case t.unknown > 0 && v.jar:
		s := Note
		if v.o.Origin != "" && !v.sameSite() && !v.o.Credentials {
			s = Error
		} else if v.o.Origin != "" && !v.o.Credentials {
			s = Warning
		}
		v.found("sticky-needs-cookie", s, "Sessions stay on their node only for clients that send cookies back",
			seen+" without cookies, and none with them.",
			"Browsers send cookies to the origin of the page. Node.js clients and pages of other origins do so only with withCredentials: true, "+
				"and for other sites the cookie needs SameSite=None and Secure as well. The others get errors until they use WebSocket alone.", t.evidence...)
	case t.unknown > 0:
		v.found("no-stickiness", Error, "The requests of a session reach nodes that do not have it",
			seen+", with cookies and without.",
			"Long-polling is many requests, and each has to reach the node that has the session. Clients connect and are thrown out again, as chance has it. "+
				"A shared Redis does not help: it carries events, not sessions.", t.evidence...)
	}
	if all := t.bad + kept.bad; all > 0 && v.ctx.Err() == nil {
		v.flaky = true
		v.found("backend-dead", Error, "Some requests reach nobody",
			fmt.Sprintf("%d of %d requests got an error of the proxy, or no answer at all, while others were served.", t.bad+t.other, t.requests),
			"A server that does not run is still in rotation: clients that are sent to it wait or fail, some of them again and again.", append(t.evidence, kept.evidence...)...)
	} else if t.other > 0 && v.ctx.Err() == nil {
		v.found("odd-answers", Warning, "Some requests are answered in a way that no server of Socket.IO does",
			fmt.Sprintf("%d of %d.", t.other, t.requests), "Something in between answers for the server: a limit on the rate, or a firewall.", t.evidence...)
	}
	if v.sticky && kept.sessions > 1 {
		v.shared(keptAll[:min(len(keptAll), 8)])
	}
}

// alive reports whether sessions can still be reached over connections of their own.
func (v *visit) alive(all []*session) bool {
	for _, s := range all {
		if a, err := s.post(nil, "3"); err != nil || a.status != http.StatusOK {
			return false
		}
	}
	return true
}

// shared sends requests of several sessions over one connection, as browsers do for the tabs of one page, and
// proxies in front of proxies for everybody.
func (v *visit) shared(all []*session) {
	var t tally
	var l *line
	defer func() {
		if l != nil {
			l.close()
		}
	}()
	lines := 0
	for range 2 {
		for _, s := range all {
			if l == nil {
				var err error
				if l, err = v.dial(""); err != nil {
					return
				}
				lines++
			}
			a, err := s.post(l, "3") // a pong that nobody waits for
			t.add("POST over a shared connection", a, err)
			if err != nil || a.header.Get("Connection") == "close" {
				l.close()
				l = nil
			}
		}
	}
	if t.unknown > 0 && v.alive(all) {
		v.found("sticky-by-connection", Error, "The proxy decides once for each connection, not for each request",
			fmt.Sprintf("The same sessions got 400 \"Session ID unknown\" for %d of %d requests when they took turns on one connection, and none on connections of their own.", t.unknown, t.requests),
			"A browser, or another proxy in front, sends the requests of several sessions over one connection.", t.evidence...)
	}
	if lines == 2*len(all) {
		v.fact("keep-alive", "connections are closed after each request")
	}
}
