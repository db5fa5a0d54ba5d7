//go:build unix

package doctor

import (
	"net/http"
	"time"

	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/internal/doctor"
)

const (
	front1  = "  default_backend nodes"
	haAllow = "http-response add-header Access-Control-Allow-Origin " + page
	byItsIO = "balance roundrobin\n  cookie serverid insert indirect nocache httponly"
)

// inFrontend plants a rule, and takes it out again.
func inFrontend(rule string) []string    { return []string{front1, "  " + rule + "\n" + front1} }
func outOfFrontend(rule string) []string { return []string{rule + "\n", "\n"} }

var haproxyFaults = []fault{
	{name: "HAProxy: no stickiness", front: haproxy, plant: []string{"balance source", "balance roundrobin"}, o: quick, want: []string{"no-stickiness"},
		line: "balance source", mend: []string{"balance roundrobin", "LINE"}},
	{name: "HAProxy: Upgrade dropped", front: haproxy, plant: inFrontend("http-request del-header upgrade"), o: quick, want: []string{"upgrade-dropped"},
		words: []string{"`http-request del-header upgrade`"}, mend: outOfFrontend("http-request del-header upgrade")},
	{name: "HAProxy: another node for WebSockets", farm: farm{n: 2}, front: haproxy, plant: []string{
		front1, "  use_backend sockets if { hdr(upgrade) -m found }\n" + front1,
		"backend nodes\n  balance source\n  option redispatch 1\n", "backend nodes\n", "  server app1", "backend sockets\n  server app1"}, o: quick,
		want: []string{"upgrade-not-sticky"}, line: "default_backend nodes", words: []string{"no `use_backend … if { hdr(upgrade) … }`"},
		mend: []string{"use_backend sockets if { hdr(upgrade) -m found }\n", "\n"}},
	{name: "HAProxy: time-out of polls", farm: farm{ping: 3 * time.Second}, front: haproxy, plant: []string{"timeout server 60s", "timeout server 1500ms"},
		want: []string{"poll-timeout"}, mend: []string{"timeout server 1500ms", "LINE"}},
	{name: "HAProxy: time-out of WebSockets", farm: farm{ping: 3 * time.Second}, front: haproxy, plant: []string{"timeout tunnel 1h", "timeout tunnel 1500ms"},
		want: []string{"websocket-timeout"}, mend: []string{"timeout tunnel 1500ms", "LINE"}},
	{name: "HAProxy: dead server in rotation", farm: farm{one: true, dead: true}, front: haproxy, plant: []string{"balance source", "balance roundrobin", "option redispatch 1", "retries 0"}, o: quick,
		want: []string{"backend-dead"}, line: "option httpchk HEAD /health", mend: []string{"retries 0", "retries 0\nLINE"}, words: []string{"above the server lines"}, slow: true},
	{name: "HAProxy: nobody there", farm: farm{n: 1}, front: haproxy, plant: []string{"server app0 NODE0 cookie app0", "server app0 127.0.0.1:1"}, o: quick,
		want: []string{"backend-down"}, mend: []string{"server app0 127.0.0.1:1", "LINE"}, fill: []string{"NAME", "app0", "ADDRESS:PORT", "NODE0"}},
	{name: "HAProxy: body limit", front: haproxy, plant: inFrontend("http-request deny deny_status 413 if { req.body_size gt 50000 }"), o: quick,
		want: []string{"body-limit"}, mend: []string{"http-request deny deny_status 413 if { req.body_size gt 50000 }", "LINE"}},
	{name: "HAProxy: bodies are collected", front: haproxy, plant: inFrontend("option http-buffer-request"), o: quick, want: []string{"request-buffering"},
		mend: []string{"option http-buffer-request", "LINE"}},
	{name: "HAProxy: cookie without SameSite=None", farm: allows, front: haproxy, plant: []string{"balance source", byItsIO},
		o: doctor.Options{Quick: true, Origin: page, Credentials: true}, tls: true, want: []string{"cookie-samesite"},
		mend: []string{"cookie serverid insert indirect nocache httponly", "LINE"}},
	{name: "HAProxy: a cookie, and pages that send none", farm: farm{engine: engine.Options{CORS: friendly.CORS, Cookie: &http.Cookie{SameSite: http.SameSiteNoneMode, Secure: true}}},
		front: haproxy, plant: []string{"balance source", byItsIO}, o: foreign, tls: true,
		want: []string{"sticky-needs-cookie", "cookie-samesite"}, line: "stick match urlp(sid)", mend: []string{"cookie serverid insert indirect nocache httponly", "LINE"}},
	{name: "HAProxy: a cookie, and a cluster", farm: allows, front: haproxy, plant: []string{"balance source", byItsIO + " secure attr SameSite=None"}, o: foreign, tls: true,
		want: []string{"sticky-needs-cookie"}, cured: &farm{engine: friendly, one: true}},
	{name: "HAProxy: a cookie, and clients that send it", farm: allows, front: haproxy, plant: []string{"balance source", byItsIO + " secure attr SameSite=None"}, o: foreign, tls: true,
		want: []string{"sticky-needs-cookie"}, then: func(o *doctor.Options) { o.Credentials = true }},
	{name: "HAProxy: SameSite=None without Secure", front: haproxy, plant: []string{"balance source", byItsIO + " attr SameSite=None"}, o: quick, tls: true,
		want: []string{"cookie-none-insecure"}, mend: []string{"cookie serverid insert indirect nocache httponly attr SameSite=None", "LINE"}},
	{name: "HAProxy: Secure over http", front: haproxy, plant: []string{"balance source", byItsIO + " secure"}, o: quick,
		want: []string{"cookie-secure-http"}, words: []string{"without `secure`"}, mend: []string{"httponly secure", "httponly"}},
	{name: "HAProxy: Host changed", front: haproxy, plant: inFrontend("http-request set-header host internal"), o: quick, want: []string{"host-changed"},
		words: []string{"take out `http-request set-header host`"}, mend: outOfFrontend("http-request set-header host internal")},
	{name: "HAProxy: path cut off", front: haproxy, plant: inFrontend("http-request replace-path /socket.io/(.*) /\\1"), o: quick, want: []string{"path-rewritten"},
		words: []string{"`replace-path`"}, mend: outOfFrontend("http-request replace-path /socket.io/(.*) /\\1")},
	{name: "HAProxy: path not passed on", front: haproxy, plant: []string{front1, "  use_backend nodes if { path_beg /other/ }"}, o: quick,
		want: []string{"backend-down"}, words: []string{"`use_backend nodes if { path_beg /socket.io/ }`"}, mend: []string{"use_backend nodes if { path_beg /other/ }", "use_backend nodes if { path_beg /socket.io/ }"}},
	{name: "HAProxy: path answered with 404", front: haproxy, plant: inFrontend("http-request return status 404 content-type text/html string \"<html>nothing</html>\" if !{ path_beg /other/ }"), o: quick,
		want: []string{"path-rewritten"}, mend: []string{"http-request return status 404 content-type text/html string \"<html>nothing</html>\" if !{ path_beg /other/ }\n", "\n"}},
	{name: "HAProxy: a page for everything", front: haproxy, plant: []string{front1, "  default_backend pages", "backend nodes", "backend pages\n  server pages PAGES\nbackend nodes"}, o: quick,
		want: []string{"page"}, mend: []string{"  default_backend pages", "LINE\n  default_backend pages"}},
	{name: "HAProxy: redirect to https", front: haproxy, plant: inFrontend("http-request redirect scheme https unless { ssl_fc }"), o: quick,
		want: []string{"redirect-https", "no-answer"}, mend: []string{"http-request redirect scheme https unless { ssl_fc }", "LINE"}},
	{name: "HAProxy: slash cut off", front: haproxy, plant: inFrontend("http-request redirect code 301 location %[path,regsub(/$,)]?%[query] if { path_end / }"), o: quick,
		want: []string{"redirect-slash", "redirect-loop"}, words: []string{"take /socket.io/ out of the `http-request redirect` rule"},
		mend: []string{"if { path_end / }", "if { path_end / } !{ path_beg /socket.io/ }"}},
	{name: "HAProxy: sent elsewhere", front: haproxy, plant: inFrontend("http-request redirect location http://PAGES/login"), o: quick,
		want: []string{"redirect", "page"}, words: []string{"take /socket.io/ out of the `http-request redirect` rule"},
		mend: []string{"http-request redirect location http://PAGES/login", "http-request redirect location http://PAGES/login if !{ path_beg /socket.io/ }"}},
	{name: "HAProxy: CORS headers twice", farm: allows, front: haproxy, plant: inFrontend(haAllow), o: foreign, want: []string{"cors-doubled"},
		words: []string{"take it out"}, mend: outOfFrontend(haAllow)},
	{name: "HAProxy: CORS headers twice, set", farm: allows, front: haproxy, plant: inFrontend(haAllow), o: foreign, want: []string{"cors-doubled"}, mend: []string{haAllow, "LINE"}},
	{name: "HAProxy: any origin with credentials", farm: farm{node: true}, front: haproxy,
		plant: inFrontend("http-response set-header Access-Control-Allow-Origin *\n  http-response set-header Access-Control-Allow-Credentials true"), o: quick,
		want: []string{"cors-star-credentials"}, words: []string{"take out `http-response set-header Access-Control-Allow-Origin *`"}, cured: &told,
		mend: outOfFrontend("http-response set-header Access-Control-Allow-Origin *\n  http-response set-header Access-Control-Allow-Credentials true")},
	{name: "HAProxy: OPTIONS answered by the proxy", farm: allows, front: haproxy, plant: inFrontend("http-request return status 204 if METH_OPTIONS"), o: foreign,
		want: []string{"preflight"}, words: []string{"pass OPTIONS on"}, mend: outOfFrontend("http-request return status 204 if METH_OPTIONS")},
	{name: "HAProxy: a cache", front: haproxy, plant: []string{"defaults", "cache c\n  total-max-size 4\ndefaults", front1,
		"  http-response set-header Cache-Control max-age=60\n  http-request cache-use c\n  http-response cache-store c\n" + front1}, o: quick,
		want: []string{"cached"}, words: []string{"take out `http-request cache-use`"}, mend: outOfFrontend("http-request cache-use c")},
}
