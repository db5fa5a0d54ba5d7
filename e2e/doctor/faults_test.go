//go:build unix

package doctor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/internal/doctor"
)

var star = map[string]any{"origin": "*"}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name    string
		farm    farm
		front   front
		changes []string
		o       doctor.Options
		want    []string // all that is found beside notes
		line    string   // in the first line that mends the first of them
	}{
		{"nginx: no stickiness", farm{}, nginx, []string{"hash $remote_addr consistent;", ""}, quick, []string{"no-stickiness"}, "hash $remote_addr consistent;"},
		{"nginx: no stickiness, Node.js", farm{node: true, n: 3}, nginx, []string{"hash $remote_addr consistent;", ""}, quick, []string{"no-stickiness"}, "hash $remote_addr"},
		{"nginx: Upgrade dropped", farm{}, nginx, []string{"proxy_set_header Upgrade $http_upgrade;", "", `proxy_set_header Connection "upgrade";`, ""}, quick,
			[]string{"upgrade-dropped"}, "proxy_set_header Upgrade $http_upgrade;"},
		{"nginx: Upgrade dropped, Node.js", farm{node: true}, nginx, []string{"proxy_set_header Upgrade $http_upgrade;", ""}, quick,
			[]string{"upgrade-dropped"}, "proxy_set_header Upgrade $http_upgrade;"},
		{"nginx: time-out", farm{ping: 3 * time.Second}, nginx, []string{"proxy_read_timeout 60s;", "proxy_read_timeout 1500ms;"}, doctor.Options{},
			[]string{"poll-timeout", "websocket-timeout"}, "proxy_read_timeout 120s;"},
		{"nginx: body limit", farm{}, nginx, []string{"client_max_body_size 2m;", "client_max_body_size 100k;"}, quick, []string{"body-limit"}, "client_max_body_size 2m;"},
		{"nginx: CORS headers twice", farm{engine: friendly}, nginx, []string{"proxy_pass", "add_header Access-Control-Allow-Origin " + page + ";\nproxy_pass"},
			doctor.Options{Quick: true, Origin: page}, []string{"cors-doubled"}, "proxy_hide_header Access-Control-Allow-Origin;"},
		{"nginx: any origin with credentials", farm{node: true}, nginx,
			[]string{"proxy_pass", "add_header Access-Control-Allow-Origin *; add_header Access-Control-Allow-Credentials true;\nproxy_pass"}, quick,
			[]string{"cors-star-credentials"}, "credentials: true"},
		{"nginx: any origin, credentials wanted", farm{node: true, cors: star}, nginx, nil,
			doctor.Options{Quick: true, Origin: page, Credentials: true}, []string{"cors-star-credentials"}, `origin: ["` + page + `"]`},
		{"nginx: CORS of the proxy, not on errors", farm{node: true}, nginx, []string{"proxy_pass", "add_header Access-Control-Allow-Origin " + page + ";\nproxy_pass"},
			doctor.Options{Quick: true, Origin: page}, []string{"cors-errors", "preflight"}, "always;"},
		{"nginx: credentials not allowed", farm{engine: engine.Options{CORS: &engine.CORS{Origins: []string{page}}}}, nginx, nil,
			doctor.Options{Quick: true, Origin: page, Credentials: true}, []string{"cors-credentials"}, "Credentials: true"},
		{"nginx: origin refused", farm{}, nginx, nil, doctor.Options{Quick: true, Origin: page}, []string{"origin-refused"}, `Origins: []string{"` + page + `"}`},
		{"nginx: another origin", farm{node: true, cors: map[string]any{"origin": "https://page.test"}}, nginx, nil,
			doctor.Options{Quick: true, Origin: page}, []string{"origin-refused"}, `origin: ["` + page + `"]`},
		{"nginx: Host dropped", farm{}, nginx, []string{"proxy_set_header Host $http_host;", ""}, quick, []string{"host-changed"}, "proxy_set_header Host $http_host;"},
		{"nginx: path cut off", farm{}, nginx, []string{"location / {", "location /socket.io/ {", "proxy_pass http://nodes;", "proxy_pass http://nodes/;"}, quick,
			[]string{"path-rewritten"}, "proxy_pass http://nodes;"},
		{"nginx: path not passed on", farm{}, nginx, []string{"location / {", "location /other/ {"}, quick, []string{"path-not-routed"}, "location /socket.io/"},
		{"nginx: a page for everything", farm{}, nginx, []string{"proxy_pass http://nodes;", `default_type text/html; return 200 "<!doctype html><title>app</title>";`}, quick,
			[]string{"page"}, "location /socket.io/"},
		{"nginx: redirect to https", farm{}, nginx, []string{"location / {", "location / { return 301 https://$http_host$request_uri;"}, quick,
			[]string{"redirect-https", "no-answer"}, "https://"},
		{"nginx: slash cut off", farm{}, nginx, []string{"location / {", "absolute_redirect off; location / { rewrite ^(.*)/$ $1 permanent;"}, quick,
			[]string{"redirect-slash", "redirect-loop"}, "addTrailingSlash"},
		{"nginx: a cache", farm{}, nginx, []string{"upstream nodes", "proxy_cache_path DIR/cache keys_zone=c:1m;\nupstream nodes",
			"proxy_pass", "proxy_cache c; proxy_ignore_headers Cache-Control Set-Cookie; proxy_cache_valid any 10s;\nproxy_pass"}, quick,
			[]string{"cached"}, "proxy_cache off;"},
		{"nginx: dead server in rotation", farm{one: true, dead: true}, nginx, []string{"hash $remote_addr consistent;", "", "proxy_pass", "proxy_next_upstream off;\nproxy_pass"}, quick,
			[]string{"backend-dead"}, "proxy_next_upstream error timeout;"},
		{"nginx: nobody there", farm{}, nginx, []string{"proxy_pass http://nodes;", "proxy_pass http://127.0.0.1:1;"}, quick, []string{"backend-down"}, "server ADDRESS:PORT;"},
		{"nginx: answers held back", farm{}, nginx, []string{"upstream nodes", "map \"$request_method $arg_transport $arg_sid\" $rate { ~^GET.polling.. 60; default 0; }\nupstream nodes", "proxy_pass", "limit_rate $rate;\nproxy_pass"},
			doctor.Options{Quick: true, Sessions: 2}, []string{"buffering"}, "proxy_buffering off;"},
		{"HAProxy: no stickiness", farm{}, haproxy, []string{"balance source", "balance roundrobin"}, quick, []string{"no-stickiness"}, "balance source"},
		{"HAProxy: Upgrade dropped", farm{}, haproxy, []string{"default_backend nodes", "default_backend nodes\n  http-request del-header upgrade"}, quick,
			[]string{"upgrade-dropped"}, "mode http"},
		{"HAProxy: another node for WebSockets", farm{n: 2}, haproxy, []string{
			"default_backend nodes", "use_backend sockets if { hdr(upgrade) -m found }\n  default_backend nodes",
			"backend nodes\n  balance source\n  option redispatch 1\n", "backend nodes\n",
			"  server app1", "backend sockets\n  server app1"}, quick, []string{"upgrade-not-sticky"}, "default_backend nodes"},
		{"HAProxy: time-out of polls", farm{ping: 3 * time.Second}, haproxy, []string{"timeout server 60s", "timeout server 1500ms"}, doctor.Options{},
			[]string{"poll-timeout"}, "timeout server 120s"},
		{"HAProxy: time-out of WebSockets", farm{ping: 3 * time.Second}, haproxy, []string{"timeout tunnel 1h", "timeout tunnel 1500ms"}, doctor.Options{},
			[]string{"websocket-timeout"}, "timeout tunnel 1h"},
		{"HAProxy: dead server in rotation", farm{one: true, dead: true}, haproxy, []string{"balance source", "balance roundrobin", "option redispatch 1", "retries 0"}, quick,
			[]string{"backend-dead"}, "option httpchk HEAD /health"},
		{"HAProxy: body limit", farm{}, haproxy, []string{"default_backend nodes", "default_backend nodes\n  http-request deny deny_status 413 if { req.body_size gt 50000 }"}, quick,
			[]string{"body-limit"}, "req.body_size"},
		{"HAProxy: cookie without SameSite=None", farm{engine: friendly}, haproxy, []string{"balance source", "balance roundrobin\n  cookie serverid insert indirect nocache httponly"},
			doctor.Options{Quick: true, Origin: page, Credentials: true}, []string{"cookie-samesite"}, `SameSite=None`},
		{"HAProxy: a cookie, and pages that send none", farm{engine: friendly}, haproxy, []string{"balance source", "balance roundrobin\n  cookie serverid insert indirect nocache httponly"},
			doctor.Options{Quick: true, Origin: page}, []string{"sticky-needs-cookie", "cookie-samesite"}, "stick match urlp(sid)"},
		{"HAProxy: SameSite=None without Secure", farm{}, haproxy, []string{"balance source", "balance roundrobin\n  cookie serverid insert indirect nocache httponly attr SameSite=None"}, quick,
			[]string{"cookie-none-insecure"}, "secure"},
		{"by connection", farm{}, byConnection, nil, quick, []string{"sticky-by-connection"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := check(t, c.front(t, c.farm.start(t), c.changes), c.o)
			var got []string
			for _, f := range r.Findings {
				if f.Severity != doctor.Note {
					got = append(got, f.ID)
				}
			}
			want := slices.Sorted(slices.Values(c.want))
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Fatalf("got %q, want %q: %+v", got, want, r.Findings)
			}
			f := r.Find(c.want[0])
			if f.Title == "" || f.Seen == "" || f.Why == "" || len(f.Evidence) == 0 {
				t.Errorf("got %+v, want it told in full", f)
			}
			if c.line == "" {
				return
			}
			if len(f.Mend) == 0 || !strings.Contains(f.Mend[0].Line, c.line) {
				t.Errorf("got %+v, want the line %q first", f.Mend, c.line)
			}
			if proxy, _, ok := strings.Cut(c.name, ":"); ok && r.Proxy != strings.ToLower(proxy) {
				t.Errorf("got the proxy %q, want %s", r.Proxy, proxy)
			}
		})
	}
}

var quick = doctor.Options{Quick: true}
