package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// reach sees whether there is something at the address: name, port, certificate.
func (v *visit) reach() error {
	host := v.u.Hostname()
	if net.ParseIP(host) == nil {
		ctx, cancel := context.WithTimeout(v.ctx, v.o.Timeout)
		addrs, err := net.DefaultResolver.LookupHost(ctx, host)
		cancel()
		if err != nil {
			return &UnreachableError{shown(v.u), err}
		}
		v.fact("addresses", "%s", strings.Join(addrs, ", "))
	}
	l, err := v.dial("")
	if err != nil {
		if !v.badCertificate(err) {
			return &UnreachableError{shown(v.u), errors.New(plain(err))}
		}
		if l, err = v.dial(""); err != nil {
			return &UnreachableError{shown(v.u), errors.New(plain(err))}
		}
	}
	defer l.close()
	if t, ok := l.Conn.(interface{ ConnectionState() tlsState }); ok {
		v.expiry(t.ConnectionState())
	}
	return nil
}

// badCertificate finds what is wrong with a certificate, and goes on without looking at it.
func (v *visit) badCertificate(err error) bool {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		seen    string
	)
	switch {
	case errors.As(err, &unknown):
		seen = "The certificate is signed by nobody that this machine trusts: " + unknown.Error() + ". Often the server does not send the intermediate certificate."
	case errors.As(err, &name):
		seen = name.Error()
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		seen = fmt.Sprintf("The certificate was valid until %s.", invalid.Cert.NotAfter.Format(time.DateOnly))
	case errors.As(err, &invalid):
		seen = invalid.Error()
	default:
		return false
	}
	v.found("certificate", Error, "The certificate is not one that browsers take", seen,
		"Browsers refuse the connection, Node.js clients too, unless they are told not to look.", plain(err))
	conf := v.tls()
	conf.InsecureSkipVerify = true
	v.o.TLS = conf
	return true
}

// soon is how long before its end a certificate is talked of.
const soon = 14 * 24 * time.Hour

func (v *visit) expiry(state tlsState) {
	if len(state.PeerCertificates) == 0 {
		return
	}
	end := state.PeerCertificates[0].NotAfter
	if left := time.Until(end); left > 0 && left < soon {
		v.found("certificate-ends", Warning, "The certificate ends soon",
			fmt.Sprintf("It is valid until %s, %.0f days from now.", end.Format(time.DateOnly), left.Hours()/24),
			"From that day on no browser connects.")
	}
}

// openFirst asks for a session where the URL says, follows what redirects, and reports whether
// there is a server of Socket.IO behind it.
func (v *visit) openFirst() (bool, error) {
	for range 4 {
		s, a, err := v.open(nil, false)
		for i := 0; i < 3 && err == nil && a.bad(); i++ { // one of several may be dead: that is another matter
			s, a, err = v.open(nil, false)
		}
		if err != nil && v.ctx.Err() != nil {
			return false, context.Cause(v.ctx)
		}
		if err != nil {
			v.found("no-answer", Error, "A handshake is not answered", outcome("GET "+v.u.Path, a, err),
				"Something takes the connection, and nothing comes back. A server behind a proxy that cuts off the path does so, one that hangs, "+
					"or a proxy that speaks another protocol on this port.")
			return false, nil
		}
		if s != nil {
			v.shake, _ = parseHandshake(a.body)
			s.end()
			v.handshakeFacts(a)
			return true, nil
		}
		if a.status >= 300 && a.status < 400 && a.header.Get("Location") != "" {
			v.fingerprint() // before it is left
			if !v.redirected(a) {
				return false, nil
			}
			continue
		}
		v.noHandshake(a)
		return false, nil
	}
	v.found("redirect-loop", Error, "Redirects lead in a circle", "Four redirects one after the other, and no server yet.", "No client connects.")
	return false, nil
}

// redirected finds a redirect and goes where it leads. It reports false where that is not possible.
func (v *visit) redirected(a *answer) bool {
	to, err := v.u.Parse(a.header.Get("Location"))
	if err != nil || to.Host == "" || to.Scheme != "http" && to.Scheme != "https" {
		v.found("redirect", Error, "Requests are redirected to nowhere", "Location: "+hide(a.header.Get("Location"), v.u.RawQuery), "No client connects.", a.String())
		return false
	}
	why := "A browser does not follow a redirect for a WebSocket, makes a GET of a POST, and across origins often refuses. Clients that begin with WebSocket never connect. Use the new address in the clients, or serve the old one."
	id, title := "redirect", "Requests are redirected"
	switch {
	case v.u.Scheme == "http" && to.Scheme == "https":
		id, title = "redirect-https", "Requests over http are redirected to https"
	case strings.TrimSuffix(to.Path, "/") == strings.TrimSuffix(v.u.Path, "/") && to.Host == v.u.Host:
		id, title = "redirect-slash", "Requests are redirected because of the slash at the end of the path"
	}
	next := *to
	next.RawQuery, next.Fragment, next.User = v.u.RawQuery, "", nil
	v.found(id, Error, title, fmt.Sprintf("%s leads to %s.", shown(v.u), shown(&next)), why, a.String())
	v.u = &url.URL{Scheme: next.Scheme, Host: next.Host, Path: next.Path, RawQuery: next.RawQuery}
	return true
}

// noHandshake finds why a request for a session was answered otherwise.
func (v *visit) noHandshake(a *answer) {
	code, own := a.code()
	switch {
	case own && code == 0:
		v.found("no-polling", Warning, "The server does not take long-polling", "It answers that it does not know the transport.",
			"Clients begin with polling unless they are told transports: [\"websocket\"]. What is looked at here begins with polling too, so not more is known.", a.String())
	case own && code == 5:
		v.found("version", Error, "The server does not speak version 4 of the protocol", "It refuses EIO=4.",
			"Clients of Socket.IO 3 and 4 cannot connect to a server of version 2.", a.String())
	case own && a.status == http.StatusForbidden:
		v.found("refused", Error, "The server refuses sessions", "A plain handshake, without a cookie or token, is answered with 403.",
			"Whoever is let in needs more than this program sends. If a query parameter is enough, add it to the URL.", a.String())
	case a.bad():
		v.found("backend-down", Error, "The proxy has no server to ask", fmt.Sprintf("It answers %d itself.", a.status),
			"The servers behind it do not run, listen elsewhere, or do not answer its health checks.", a.String())
	case a.status == http.StatusNotFound:
		v.notFound(a)
	case a.status == http.StatusOK && a.html():
		v.found("page", Error, "A web page comes instead of the server's answer", "A handshake is answered with HTML.",
			"The path is served by something else: a single-page application that answers every path, a login page, or a firewall.", a.String())
	case strings.Contains(string(a.body), `"sid":"`):
		v.found("changed", Error, "The server's answer arrives changed", "The open packet is not at the beginning of the body.",
			"Something on the way adds to answers.", a.String())
	default:
		v.found("not-socketio", Error, "This is no server of Socket.IO, or something answers in its place", fmt.Sprintf("A handshake is answered with %d.", a.status),
			"No client connects.", a.String())
	}
}

// notFound looks for the server at the paths where it is found by mistake.
func (v *visit) notFound(a *answer) {
	asked := *v.u
	for _, p := range []string{defaultPath, strings.TrimSuffix(asked.Path, "/") + defaultPath, strings.TrimSuffix(asked.Path, "/"), "/engine.io/", "/"} {
		if p == asked.Path || p == "" {
			continue
		}
		v.u = &url.URL{Scheme: asked.Scheme, Host: asked.Host, Path: p, RawQuery: asked.RawQuery}
		s, _, err := v.open(nil, false)
		if err == nil && s != nil {
			s.end()
			if doubled := strings.TrimSuffix(asked.Path, "/") + defaultPath; p == doubled {
				v.found("path-rewritten", Error, "The path is changed on its way to the server",
					fmt.Sprintf("%s answers 404, and %s leads to the server: the beginning is cut off.", asked.Path, p), "The server does not see that the request is for it.", a.String())
				v.u = &asked
				return
			}
			v.found("path-elsewhere", Error, "The server is at another path", fmt.Sprintf("%s answers 404, and at %s there is a server of Socket.IO.", asked.Path, p),
				"Clients ask for /socket.io/ unless they are told another path.", a.String())
			v.u = &asked
			return
		}
	}
	v.u = &asked
	text := string(a.body)
	if _, after, ok := strings.Cut(text, "Cannot GET "); ok { // Express says what it was asked for
		path, _, _ := strings.Cut(after, "<")
		if path = strings.TrimSpace(path); !strings.HasPrefix(path, asked.Path) {
			v.found("path-rewritten", Error, "The path is changed on its way to the server",
				fmt.Sprintf("%s was asked for, and %s arrived.", asked.Path, path), "The server does not see that the request is for it.", a.String())
			return
		}
	}
	if text == "404 page not found\n" && (v.o.Proxy == "traefik" || v.o.Proxy == "") {
		v.found("path-rewritten", Error, "The path does not arrive at the server as it was asked for, or is not passed on",
			fmt.Sprintf("The 404 for %s is one that servers in Go give, and Traefik: it has no router for this path, or whoever got the request does not know the path.", asked.Path),
			"The server does not see that the request is for it.", a.String())
		return
	}
	if proxyOf404(a) == "" {
		v.found("path-rewritten", Error, "The path does not arrive at the server as it was asked for, or the server is mounted elsewhere",
			fmt.Sprintf("The 404 for %s is not one of a proxy's own: the request was passed on, and whoever got it does not know the path.", asked.Path),
			"The server does not see that the request is for it.", a.String())
		return
	}
	v.found("path-not-routed", Error, "The proxy does not pass this path on", fmt.Sprintf("It answers 404 for %s itself.", asked.Path),
		"No client connects. Clients ask for /socket.io/ unless they are told another path.", a.String())
}

// handshakeFacts notes what the server says of itself, and finds what is odd in it.
func (v *visit) handshakeFacts(a *answer) {
	h := v.shake
	v.fact("handshake", "ping every %s, answer within %s, bodies up to %s, upgrades %v",
		h.interval(), h.timeout(), size(h.MaxPayload), h.Upgrades)
	if h.interval()+h.timeout() > 3*time.Minute && h.PingInterval < 1<<30 {
		v.found("ping-slow", Note, "Pings are far apart", fmt.Sprintf("pingInterval is %s, pingTimeout %s.", h.interval(), h.timeout()),
			"Proxies and firewalls forget idle connections after a minute or some; and a client that went without a word is noticed after the two together.", a.String())
	}
	if a.header.Get("Content-Encoding") != "" {
		v.found("compressed", Warning, "Answers are compressed for a client that cannot read that", "Content-Encoding: "+a.header.Get("Content-Encoding")+", without an Accept-Encoding.",
			"Such a client sees noise.", a.String())
	}
}

// size writes a number of bytes.
func size(n int) string {
	switch {
	case n == 0:
		return "an unknown size"
	case n%1_000_000 == 0:
		return fmt.Sprintf("%d MB", n/1_000_000)
	case n%1000 == 0:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d bytes", n)
}
