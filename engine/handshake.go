package engine

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A Handshake is the request that began a session.
type Handshake struct {
	Header     http.Header
	Host       string   // as the request names it
	URL        *url.URL // as the request has it: path and query
	RemoteAddr string   // of the connection, "IP:port"
	Time       time.Time
	Secure     bool // the connection to this process was encrypted
	Protocol   int  // the revision of Engine.IO: 4
}

// A shake is a Handshake as it is kept: in one string, since it is rarely looked at.
// That takes a quarter of the memory, and does not keep the request alive.
type shake struct {
	lines  string // request URI, host, remote address, then a line for each key and each value
	at     int64  // Unix nanoseconds
	secure bool
}

func pack(r *http.Request, now time.Time) shake {
	n := len(r.RequestURI) + len(r.Host) + len(r.RemoteAddr) + 3
	for k, vs := range r.Header {
		for _, v := range vs {
			n += len(k) + len(v) + 2
		}
	}
	uri := r.RequestURI
	if uri == "" && r.URL != nil { // not from net/http's server
		uri = r.URL.RequestURI()
	}
	var b strings.Builder
	b.Grow(n)
	line := func(s string) {
		b.WriteString(strings.ReplaceAll(s, "\n", " ")) // net/http's server lets none pass
		b.WriteByte('\n')
	}
	line(uri)
	line(r.Host)
	line(r.RemoteAddr)
	for k, vs := range r.Header {
		for _, v := range vs {
			line(k)
			line(v)
		}
	}
	return shake{lines: b.String(), at: now.UnixNano(), secure: r.TLS != nil}
}

func (s *shake) unpack() *Handshake {
	h := &Handshake{Header: make(http.Header), Time: time.Unix(0, s.at), Secure: s.secure, Protocol: 4}
	rest := s.lines
	next := func() (line string) {
		line, rest, _ = strings.Cut(rest, "\n")
		return line
	}
	uri := next()
	if u, err := url.ParseRequestURI(uri); err == nil {
		h.URL = u
	} else {
		h.URL = &url.URL{Path: uri}
	}
	h.Host, h.RemoteAddr = next(), next()
	for rest != "" {
		k := next()
		h.Header[k] = append(h.Header[k], next())
	}
	return h
}

// A query is what the server looks at in a request's query.
type query struct{ eio, transport, sid string }

// parseQuery reads the parameters in place. Of repeated ones the last counts, as with the official server.
func parseQuery(raw string) (q query) {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		k, v, _ := strings.Cut(pair, "=")
		if strings.ContainsAny(v, "%+") {
			if u, err := url.QueryUnescape(v); err == nil {
				v = u
			}
		}
		switch k {
		case "EIO":
			q.eio = v
		case "transport":
			q.transport = v
		case "sid":
			q.sid = v
		}
	}
	return q
}

// wantsWebSocket reports whether r asks for a change to WebSocket. Proxies send
// "Connection: upgrade" on ordinary requests too, without an Upgrade header.
func wantsWebSocket(r *http.Request) bool {
	return len(r.Header["Upgrade"]) > 0 && hasToken(r.Header["Upgrade"], "websocket") && hasToken(r.Header["Connection"], "upgrade")
}

// hasToken looks for a token in a comma-separated header, in any case.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for v != "" {
			var one string
			one, v, _ = strings.Cut(v, ",")
			if strings.EqualFold(strings.Trim(one, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// checkKey says what is wrong with a request for a WebSocket; the empty text means nothing.
//
// See https://www.rfc-editor.org/rfc/rfc6455#section-4.2.1
func checkKey(r *http.Request) string {
	key := r.Header.Get("Sec-Websocket-Key")
	if k, err := base64.StdEncoding.DecodeString(key); err != nil || len(k) != 16 {
		return "Sec-WebSocket-Key is missing or not valid"
	}
	if r.Header.Get("Sec-Websocket-Version") != "13" {
		return "Sec-WebSocket-Version must be 13"
	}
	return ""
}
