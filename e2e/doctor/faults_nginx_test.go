//go:build unix

package doctor

import (
	"net/http"
	"time"

	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/internal/doctor"
)

// allows are Atoll nodes for pages of another site, told are Node.js nodes that were told of them; alone they need no stickiness.
var (
	allows = farm{engine: friendly}
	told   = farm{node: true, cors: map[string]any{"origin": []string{page}, "credentials": true}}

	allowsAlone = farm{n: 1, engine: friendly}
	toldAlone   = farm{n: 1, node: true, cors: told.cors}
)

const (
	nginxHash    = "hash $remote_addr consistent;"
	nginxUpgrade = "proxy_http_version 1.1;\n      proxy_set_header Upgrade $http_upgrade;\n      proxy_set_header Connection \"upgrade\";"
	nginxAllow   = "add_header Access-Control-Allow-Origin " + page
)

// inLocation writes what was printed where it belongs.
var (
	inLocation = []string{"      proxy_pass", "LINE\n      proxy_pass"}
	inUpstream = []string{"upstream nodes {", "upstream nodes {\nLINE"}
)

var nginxFaults = []fault{
	{name: "nginx: no stickiness", front: nginx, plant: []string{nginxHash, ""}, o: quick, want: []string{"no-stickiness"}, line: nginxHash, mend: inUpstream},
	{name: "nginx: no stickiness, Node.js", farm: farm{node: true, n: 3}, front: nginx, plant: []string{nginxHash, ""}, o: quick, want: []string{"no-stickiness"},
		mend: inUpstream},
	{name: "nginx: no stickiness, and a cluster", front: nginx, plant: []string{nginxHash, ""}, o: quick, want: []string{"no-stickiness"}, cured: &farm{one: true}},
	{name: "nginx: by a cookie, and pages that send none", farm: allows, front: nginx, plant: []string{nginxHash, "hash $key consistent;",
		"upstream nodes", "map $cookie_key $key { \"\" $request_id; default $cookie_key; }\nupstream nodes", "proxy_pass", "add_header Set-Cookie \"key=$key; HttpOnly; SameSite=None; Secure\";\nproxy_pass"},
		o: foreign, tls: true, want: []string{"sticky-needs-cookie"}, line: nginxHash, mend: []string{"hash $key consistent;", "LINE", "add_header Set-Cookie", "#"}},
	{name: "nginx: Upgrade dropped", front: nginx, plant: []string{nginxUpgrade, ""}, o: quick, want: []string{"upgrade-dropped"},
		line: "proxy_set_header Upgrade $http_upgrade;", mend: inLocation},
	{name: "nginx: Upgrade dropped, Node.js", farm: farm{node: true}, front: nginx, plant: []string{nginxUpgrade, ""}, o: quick, want: []string{"upgrade-dropped"}, mend: inLocation},
	{name: "nginx: another upstream for WebSockets", front: nginx, plant: []string{"proxy_pass http://nodes;", "proxy_pass http://$upstream;",
		"upstream nodes {", "map $http_upgrade $upstream { \"\" first; default second; }\nupstream first { server NODE0; }\nupstream second { server NODE1; }\nupstream nodes {"},
		o: quick, want: []string{"upgrade-not-sticky"}, line: "proxy_pass http://nodes;", mend: []string{"proxy_pass http://$upstream;", "LINE"}},
	{name: "nginx: time-out", farm: farm{ping: 3 * time.Second}, front: nginx, plant: []string{"proxy_read_timeout 60s;", "proxy_read_timeout 1500ms;"},
		want: []string{"poll-timeout", "websocket-timeout"}, line: "proxy_read_timeout 120s;", mend: []string{"proxy_read_timeout 1500ms;", "LINE(websocket-timeout)"}},
	{name: "nginx: body limit", front: nginx, plant: []string{"client_max_body_size 2m;", "client_max_body_size 100k;"}, o: quick, want: []string{"body-limit"},
		mend: []string{"client_max_body_size 100k;", "LINE"}},
	{name: "nginx: bodies are collected", front: nginx, plant: []string{"proxy_request_buffering off;", ""}, o: quick, want: []string{"request-buffering"}, mend: inLocation},
	{name: "nginx: CORS headers twice", farm: allows, front: nginx, plant: []string{"proxy_pass", nginxAllow + ";\nproxy_pass"}, o: foreign,
		want: []string{"cors-doubled"}, words: []string{"take out the add_header Access-Control-Allow-Origin"}, mend: []string{nginxAllow + ";", ""}},
	{name: "nginx: any origin with credentials", farm: farm{node: true}, front: nginx,
		plant: []string{"proxy_pass", "add_header Access-Control-Allow-Origin *; add_header Access-Control-Allow-Credentials true;\nproxy_pass"}, o: quick,
		want: []string{"cors-star-credentials"}, line: "credentials: true", words: []string{"take out add_header Access-Control-Allow-Origin *"},
		mend: []string{"add_header Access-Control-Allow-Origin *; add_header Access-Control-Allow-Credentials true;", ""}, cured: &told},
	{name: "nginx: any origin, credentials wanted", farm: farm{node: true, cors: star}, front: nginx, o: doctor.Options{Quick: true, Origin: page, Credentials: true},
		want: []string{"cors-star-credentials"}, line: `origin: ["` + page + `"]`, cured: &told},
	{name: "nginx: CORS of the proxy, not on errors", farm: farm{node: true}, front: nginx, plant: []string{"proxy_pass", nginxAllow + ";\nproxy_pass"}, o: foreign,
		want: []string{"cors-errors", "preflight"}, line: `cors: { origin: ["` + page + `"] }`, words: []string{"take it out"},
		mend: []string{nginxAllow + ";", ""}, cured: &told},
	{name: "nginx: OPTIONS answered by the proxy", farm: allows, front: nginx, plant: []string{"proxy_pass", "if ($request_method = OPTIONS) { return 204; }\nproxy_pass"}, o: foreign,
		want: []string{"preflight"}, words: []string{"`if ($request_method = OPTIONS)`"}, mend: []string{"if ($request_method = OPTIONS) { return 204; }", ""}},
	{name: "nginx: credentials not allowed", farm: farm{engine: engine.Options{CORS: &engine.CORS{Origins: []string{page}}}}, front: nginx,
		o: doctor.Options{Quick: true, Origin: page, Credentials: true}, want: []string{"cors-credentials"}, line: "Credentials: true", cured: &allows},
	{name: "nginx: origin refused", front: nginx, o: foreign, want: []string{"origin-refused"}, line: `Origins: []string{"` + page + `"}`, cured: &allows},
	{name: "nginx: another origin", farm: farm{node: true, cors: map[string]any{"origin": "https://page.test"}}, front: nginx, o: foreign,
		want: []string{"origin-refused"}, line: `origin: ["` + page + `"]`, cured: &told},
	{name: "nginx: Host dropped", front: nginx, plant: []string{"proxy_set_header Host $http_host;", ""}, o: quick, want: []string{"host-changed"}, mend: inLocation},
	{name: "nginx: path cut off", front: nginx, plant: []string{"location / {", "location /socket.io/ {", "proxy_pass http://nodes;", "proxy_pass http://nodes/;"}, o: quick,
		want: []string{"path-rewritten"}, mend: []string{"proxy_pass http://nodes/;", "LINE"}},
	{name: "nginx: path not passed on", front: nginx, plant: []string{"location / {", "location /other/ {"}, o: quick,
		want: []string{"path-not-routed"}, line: "location /socket.io/", words: []string{"the lines for WebSockets"},
		mend: []string{"    location /other/", "LINE\n    location /other/"}, fill: withLines},
	{name: "nginx: a page for everything", front: nginx, plant: []string{"    location / {", "    location / { default_type text/html; return 200 \"<!doctype html><title>app</title>\"; }\n    location /other/ {"}, o: quick,
		want: []string{"page"}, line: "location /socket.io/", mend: []string{"    location / {", "LINE\n    location / {"}, fill: withLines},
	{name: "nginx: redirect to https", front: nginx, plant: []string{"    location / {", "    location / { return 301 https://$http_host$request_uri; }\n    location /other/ {"}, o: quick,
		want: []string{"redirect-https", "no-answer"}, line: "https://", mend: []string{"    location / {", "LINE\n    location / {"}, fill: withLines},
	{name: "nginx: slash cut off", front: nginx, plant: []string{"location / {", "absolute_redirect off; rewrite ^(.+)/$ $1 permanent;\nlocation / {"}, o: quick,
		want: []string{"redirect-slash", "redirect-loop"}, line: "addTrailingSlash", mend: []string{"rewrite ^(.+)/$ $1 permanent;", "LINE"}},
	{name: "nginx: sent elsewhere", front: nginx, plant: []string{"    location / {", "    location / { return 302 http://PAGES/login; }\n    location /other/ {"}, o: quick,
		want: []string{"redirect", "page"}, line: "io(URL)", mend: []string{"    location / {", "LINE\n    location / {"}, fill: withLines},
	{name: "nginx: a cache", front: nginx, plant: []string{"upstream nodes", "proxy_cache_path DIR/cache keys_zone=c:1m;\nupstream nodes",
		"proxy_pass", "proxy_cache c; proxy_ignore_headers Cache-Control Set-Cookie; proxy_cache_valid any 10s;\nproxy_pass"}, o: quick,
		want: []string{"cached"}, mend: []string{"proxy_cache c;", "LINE"}},
	{name: "nginx: dead server in rotation", farm: farm{one: true, dead: true}, front: nginx, plant: []string{nginxHash, "", "proxy_pass", "proxy_next_upstream off;\nproxy_pass"}, o: quick,
		want: []string{"backend-dead"}, mend: []string{"proxy_next_upstream off;", "LINE"}},
	{name: "nginx: nobody there", farm: farm{n: 1}, front: nginx, plant: []string{"upstream nodes {", "upstream nodes { server 127.0.0.1:1; }\nupstream right {"}, o: quick,
		want: []string{"backend-down"}, mend: []string{"server 127.0.0.1:1;", "LINE"}, fill: []string{"ADDRESS:PORT", "NODE0"}},
	{name: "nginx: answers held back", front: nginx, plant: []string{"upstream nodes", "map \"$request_method $arg_transport $arg_sid\" $rate { ~^GET.polling.. 60; default 0; }\nupstream nodes", "proxy_pass", "limit_rate $rate;\nproxy_pass"},
		o: doctor.Options{Quick: true, Sessions: 2}, want: []string{"buffering"}, mend: []string{"limit_rate $rate;", "LINE"}},
	{name: "nginx: cookie without SameSite=None", farm: farm{engine: engine.Options{CORS: friendly.CORS, Cookie: &http.Cookie{}}}, front: nginx,
		o: doctor.Options{Quick: true, Origin: page, Credentials: true}, tls: true, want: []string{"cookie-samesite"}, mend: inLocation},
}

// withLines fill what was printed for a location in as it says: with the lines for WebSockets.
var withLines = []string{"proxy_pass http://nodes;", "proxy_pass http://nodes; proxy_set_header Host $http_host; proxy_request_buffering off; " + nginxUpgrade}
