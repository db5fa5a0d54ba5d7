//go:build unix

package proxies

import (
	"path/filepath"
	"strconv"
	"testing"
)

func init() {
	setUps = append(setUps,
		setUp{
			name: "HAProxy documented io cookie", program: "haproxy",
			needs: "cookies; nodes that set io", cookies: true, nodeCookie: true, foreign: true,
			start: func(t testing.TB, f *front) { f.haproxy(t, f.documentedHAProxy()) },
		},
		setUp{
			name: "HAProxy example serverid cookie", program: "haproxy", needs: "cookies", cookies: true, foreign: true,
			start: func(t testing.TB, f *front) { f.haproxy(t, f.exampleHAProxy()) },
		},
		setUp{
			name: "HAProxy without stickiness", program: "haproxy", file: "haproxy/atoll.cfg", loose: true, h2: true,
			start: startHAProxy("haproxy/atoll.cfg"),
		},
		setUp{
			name: "HAProxy round robin", program: "haproxy", file: "haproxy/atoll.cfg", loose: true, h2: true,
			start: startHAProxy("haproxy/atoll.cfg", "balance leastconn", "balance roundrobin"),
		},
		setUp{
			name: "HAProxy by session id", program: "haproxy", file: "haproxy/atoll-by-sid.cfg", h2: true,
			start: startHAProxy("haproxy/atoll-by-sid.cfg"),
		},
		setUp{
			name: "HAProxy learns session ids", program: "haproxy", file: "haproxy/atoll-learn.cfg", h2: true,
			needs: "nothing; nodes that set io", nodeCookie: true, foreign: true,
			start: startHAProxy("haproxy/atoll-learn.cfg"),
		},
		setUp{
			name: "HAProxy cookie", program: "haproxy", file: "haproxy/atoll-cookie.cfg", h2: true,
			needs: "cookies", cookies: true, foreign: true,
			start: startHAProxy("haproxy/atoll-cookie.cfg"),
		},
	)
}

// documentedHAProxy is the configuration of the documentation of the official server. Added are "mode http", without which
// HAProxy ignores the cookie, and time-outs, without which it warns and never ends a connection: those of its example.
func (f *front) documentedHAProxy() string {
	return `defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout tunnel 1h
listen chat
  bind ` + f.addr() + `
  default_backend nodes
backend nodes
  option httpchk HEAD /health
  http-check expect status 200
  cookie io prefix indirect nocache
` + f.each("  server app0N ADDR check cookie app0N\n")
}

// exampleHAProxy is the configuration of the example in the repository of the official server, without "daemon", since the
// test wants it in the foreground, and without "nbproc", which HAProxy does not know any more since 2.5.
func (f *front) exampleHAProxy() string {
	return `global
  maxconn 4096
defaults
  mode http
  balance roundrobin
  option http-server-close
  timeout connect 5s
  timeout client 30s
  timeout client-fin 30s
  timeout server 30s
  timeout tunnel 1h
  default-server inter 1s rise 2 fall 1 on-marked-down shutdown-sessions
  option forwardfor
listen chat
  bind ` + f.addr() + `
  default_backend nodes
backend nodes
  option httpchk HEAD /health
  http-check expect status 200
  cookie serverid insert
` + f.each("  server app0N ADDR cookie app0N check\n")
}

// startHAProxy starts HAProxy with a file of deploy.
func startHAProxy(file string, pairs ...string) func(t testing.TB, f *front) {
	return func(t testing.TB, f *front) {
		t.Helper()
		f.haproxy(t, f.deployed(t, file, append(pairs,
			"bind :80", "bind "+f.addr(),
			"bind :443", "bind 127.0.0.1:"+strconv.Itoa(f.tls),
			"/etc/haproxy/certs/chat.pem", f.both,
			"/run/haproxy/admin.sock", filepath.Join(f.dir, "admin.sock"),
		)...))
	}
}

// haproxy starts HAProxy with a configuration.
func (f *front) haproxy(t testing.TB, conf string) {
	t.Helper()
	bin, _ := find("haproxy")
	p := launch(t, f.dir, bin, "-db", "-f", f.write(t, "haproxy.cfg", conf))
	p.await(t, accepts(f.addr()))
}
