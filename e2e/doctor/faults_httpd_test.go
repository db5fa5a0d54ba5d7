//go:build unix

package doctor

import (
	"time"

	"github.com/atollhq/atoll/internal/doctor"
)

const (
	httpdRoute  = `ProxyPass "/socket.io/" "balancer://nodes/socket.io/"`
	httpdCookie = `Header add Set-Cookie "SERVERID=sticky.%{BALANCER_WORKER_ROUTE}e; path=/; HttpOnly" env=BALANCER_ROUTE_CHANGED`
	httpdSticky = "  ProxySet stickysession=SERVERID\n"
	httpdAllow  = "Header always set Access-Control-Allow-Origin " + page
	slowly      = "ExtFilterDefine slow cmd=\"/bin/sh -c 'sleep 1.3; cat'\"\n<If \"%{REQUEST_METHOD} == 'GET' && %{QUERY_STRING} =~ /polling.*sid=/\">\n"
)

// before writes lines before the route.
func before(lines string) []string { return []string{httpdRoute, lines + "\n" + httpdRoute} }

var httpdFaults = []fault{
	{name: "httpd: no stickiness", front: httpd, plant: []string{httpdSticky, "", httpdCookie, ""}, o: quick, want: []string{"no-stickiness"},
		line: "ProxySet stickysession=SERVERID", words: []string{"`route=NAME` on each BalancerMember", "`Header add Set-Cookie \"SERVERID=sticky.%{BALANCER_WORKER_ROUTE}e; path=/; HttpOnly\" env=BALANCER_ROUTE_CHANGED`"},
		mend: []string{"</Proxy>", "  LINE\n</Proxy>\n" + httpdCookie}},
	{name: "httpd: a cookie, and a cluster", farm: allows, front: httpd, plant: []string{"; HttpOnly\" env", "; HttpOnly; SameSite=None; Secure\" env"}, o: foreign, tls: true,
		want: []string{"sticky-needs-cookie"}, cured: &farm{engine: friendly, one: true}},
	{name: "httpd: Upgrade dropped", farm: farm{n: 1}, front: httpd, plant: []string{" upgrade=websocket", ""}, o: quick, want: []string{"upgrade-dropped"},
		line: "upgrade=websocket", mend: []string{`  BalancerMember "http://NODE0" route=n0`, "  LINE"}, fill: []string{"ADDRESS:PORT", "NODE0", "NAME", "n0"}},
	{name: "httpd: Upgrade dropped, by rewriting", farm: farm{n: 1}, front: httpd, plant: []string{" upgrade=websocket", ""}, o: quick, want: []string{"upgrade-dropped"},
		words: []string{"`RewriteCond %{HTTP:Upgrade} =websocket [NC]`", "`RewriteRule /(.*) ws://ADDRESS:PORT/$1 [P,L]`"},
		mend:  before("RewriteEngine On\nRewriteCond %{HTTP:Upgrade} =websocket [NC]\nRewriteRule /(.*) ws://NODE0/$1 [P,L]")},
	{name: "httpd: another node for WebSockets", front: httpd, plant: before("<Proxy \"balancer://sockets\">\n  BalancerMember \"ws://NODE0\" route=n1\n  BalancerMember \"ws://NODE1\" route=n0\n" + httpdSticky +
		"</Proxy>\nRewriteEngine On\nRewriteCond %{HTTP:Upgrade} =websocket [NC]\nRewriteRule /(.*) balancer://sockets/$1 [P,L]"), o: quick,
		want: []string{"upgrade-not-sticky"}, words: []string{"the same `route=NAME` for the same node"}, mend: []string{"ws://NODE0\" route=n1", "ws://NODE0\" route=n0", "ws://NODE1\" route=n0", "ws://NODE1\" route=n1"}},
	{name: "httpd: time-out", farm: farm{ping: 3 * time.Second}, front: httpd, plant: []string{"ProxyTimeout 60", "Timeout 2\nProxyTimeout 2"},
		want: []string{"poll-timeout", "websocket-timeout"}, mend: []string{"ProxyTimeout 2", "LINE(websocket-timeout)"}},
	{name: "httpd: body limit", front: httpd, plant: before("RewriteEngine On\nRewriteCond %{HTTP:Content-Length} -gt50000\nRewriteRule ^ - [R=413,L]"), o: quick,
		want: []string{"body-limit"}, words: []string{"look for rules on Content-Length"}, mend: []string{"RewriteCond %{HTTP:Content-Length} -gt50000\nRewriteRule ^ - [R=413,L]", ""}},
	{name: "httpd: answers held back", front: httpd, plant: before(slowly + "  SetOutputFilter slow\n</If>"), o: doctor.Options{Quick: true, Sessions: 2},
		want: []string{"buffering"}, words: []string{"SetOutputFilter"}, mend: []string{"  SetOutputFilter slow\n", ""}},
	{name: "httpd: dead server in rotation", farm: farm{one: true, dead: true}, front: httpd, plant: []string{httpdSticky, "  ProxySet maxattempts=0\n", "http://NODE2\" route=n2", "http://NODE2\" route=n2 retry=0"}, o: quick,
		want: []string{"backend-dead"}, mend: []string{`  BalancerMember "http://NODE2" route=n2 retry=0 upgrade=websocket`, "LINE"}, fill: []string{"ADDRESS:PORT", "NODE2", "NAME", "n2"}, slow: true},
	{name: "httpd: nobody there", farm: farm{n: 1}, front: httpd, plant: []string{`  BalancerMember "http://NODE0" route=n0 upgrade=websocket`, `  BalancerMember "http://127.0.0.1:1" route=n0`}, o: quick,
		want: []string{"backend-down"}, mend: []string{`  BalancerMember "http://127.0.0.1:1" route=n0`, "LINE"}, fill: []string{"ADDRESS:PORT", "NODE0", "NAME", "n0"}},
	{name: "httpd: path cut off", front: httpd, plant: []string{httpdRoute, `ProxyPass "/socket.io/" "balancer://nodes/"`}, o: quick, want: []string{"path-rewritten"},
		mend: []string{`ProxyPass "/socket.io/" "balancer://nodes/"`, "LINE"}},
	{name: "httpd: path not passed on", front: httpd, plant: []string{httpdRoute, `ProxyPass "/other/" "balancer://nodes/other/"`}, o: quick, want: []string{"path-not-routed"},
		mend: []string{`ProxyPass "/other/"`, "LINE\nProxyPass \"/other/\""}},
	{name: "httpd: a page for everything", front: httpd, plant: before("DocumentRoot \"DIR\"\n<Directory \"DIR\">\n  Require all granted\n  ForceType text/html\n</Directory>\nRewriteEngine On\nRewriteRule ^ /index.html [L]"), o: quick,
		want: []string{"page"}, mend: []string{"RewriteRule ^ /index", "LINE\nRewriteRule ^ /index"}},
	{name: "httpd: redirect to https", front: httpd, plant: before("RewriteEngine On\nRewriteRule ^ https://%{HTTP_HOST}%{REQUEST_URI} [R=301,L]"), o: quick,
		want: []string{"redirect-https", "no-answer"}, mend: []string{"RewriteRule ^ https", "LINE\nRewriteRule ^ https"}},
	{name: "httpd: redirect to https, by Redirect", front: httpd, plant: []string{httpdRoute, "Redirect permanent / https://ADDRESS/"}, o: quick,
		want: []string{"redirect-https", "no-answer"}, words: []string{"`" + httpdRoute + "`"}, mend: []string{"Redirect permanent", httpdRoute + "\nRedirect permanent"}},
	{name: "httpd: slash cut off", front: httpd, plant: before("RewriteEngine On\nRewriteRule ^(.+)/$ $1 [R=301,L]"), o: quick,
		want: []string{"redirect-slash", "path-not-routed"}, mend: []string{"RewriteRule ^(.+)/$", "LINE\nRewriteRule ^(.+)/$"}},
	{name: "httpd: sent elsewhere", front: httpd, plant: before("RewriteEngine On\nRewriteRule ^ http://PAGES/login [R,L]"), o: quick,
		want: []string{"redirect", "page"}, mend: []string{"RewriteRule ^ http", "LINE\nRewriteRule ^ http"}},
	{name: "httpd: Host changed", front: httpd, plant: []string{"ProxyPreserveHost On", "ProxyAddHeaders Off"}, o: quick, want: []string{"host-changed"}, mend: before("LINE")},
	{name: "httpd: CORS headers twice", farm: allowsAlone, front: httpd, plant: before(httpdAllow), o: doctor.Options{Quick: true, Origin: page, Credentials: true}, want: []string{"cors-doubled"},
		words: []string{"take out the Header add or Header always set"}, mend: []string{httpdAllow, ""}},
	{name: "httpd: any origin with credentials", farm: farm{n: 1, node: true}, front: httpd, plant: before("Header always set Access-Control-Allow-Origin \"*\"\nHeader always set Access-Control-Allow-Credentials true"), o: quick,
		want: []string{"cors-star-credentials"}, words: []string{`take out Header set Access-Control-Allow-Origin "*"`}, cured: &toldAlone,
		mend: []string{"Header always set Access-Control-Allow-Origin \"*\"\nHeader always set Access-Control-Allow-Credentials true", ""}},
	{name: "httpd: CORS of the proxy", farm: farm{n: 1, node: true}, front: httpd, plant: before("Header set Access-Control-Allow-Origin " + page), o: foreign,
		want: []string{"preflight"}, words: []string{"leave CORS to the server"}, mend: []string{"Header set Access-Control-Allow-Origin " + page, ""}, cured: &toldAlone},
	{name: "httpd: OPTIONS answered by the proxy", farm: allowsAlone, front: httpd, plant: before("RewriteEngine On\nRewriteCond %{REQUEST_METHOD} OPTIONS\nRewriteRule ^ - [R=204,L]"), o: foreign,
		want: []string{"preflight"}, words: []string{"`RewriteCond %{REQUEST_METHOD} OPTIONS`"}, mend: []string{"RewriteCond %{REQUEST_METHOD} OPTIONS\nRewriteRule ^ - [R=204,L]", ""}},
	{name: "httpd: cookie without SameSite=None", farm: allows, front: httpd, o: doctor.Options{Quick: true, Origin: page, Credentials: true}, tls: true,
		want: []string{"cookie-samesite"}, mend: []string{httpdCookie, "LINE"}},
	{name: "httpd: SameSite=None without Secure", front: httpd, plant: []string{"; HttpOnly\" env", "; HttpOnly; SameSite=None\" env"}, o: quick, tls: true,
		want: []string{"cookie-none-insecure"}, mend: []string{`Header add Set-Cookie "SERVERID=sticky.%{BALANCER_WORKER_ROUTE}e; path=/; HttpOnly; SameSite=None" env=BALANCER_ROUTE_CHANGED`, "LINE"}},
	{name: "httpd: Secure over http", front: httpd, plant: []string{"; HttpOnly\" env", "; HttpOnly; Secure\" env"}, o: quick,
		want: []string{"cookie-secure-http"}, words: []string{"without Secure"}, mend: []string{"; HttpOnly; Secure\" env", "; HttpOnly\" env"}},
	{name: "httpd: a cache", front: httpd, plant: before("CacheRoot \"DIR/cache\"\nCacheEnable disk /\nCacheStoreNoStore On\n<Location \"/socket.io/\">\n  Header set Cache-Control max-age=60\n</Location>"), o: quick,
		want: []string{"cached"}, mend: []string{"CacheEnable disk /", "CacheEnable disk /\nLINE"}},
}
