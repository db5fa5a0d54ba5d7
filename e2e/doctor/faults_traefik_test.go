//go:build unix

package doctor

import (
	"testing"
	"time"

	"github.com/atollhq/atoll/internal/doctor"
)

const (
	trRoute  = "      service: nodesID"
	trSticky = "        sticky: { cookie: { name: server_id, httpOnly: true } }\n"
	trNone   = "middlewares: [mID]"
)

// through sends requests through a middleware.
func through(middleware string) []string {
	return []string{trRoute, "      " + trNone + "\n" + trRoute, "  services:\n", "  middlewares:\n    mID: { " + middleware + " }\n  services:\n"}
}

// aloneTraefik starts one for a single test: whenever one takes in a file, it believes again that all servers live.
func aloneTraefik(t *testing.T, nodes, changes []string) string {
	t.Helper()
	return startTraefik(t, 1).front(t, nodes, changes)
}

// traefikFaults are those of a Traefik.
func traefikFaults(f *traefik) []fault {
	front := f.front
	none := []string{trNone, "LINE"}
	return []fault{
		{name: "Traefik: no stickiness", front: front, plant: []string{trSticky, ""}, o: quick, want: []string{"no-stickiness"},
			mend: []string{"        servers:", "        LINE\n        servers:"}},
		{name: "Traefik: a cookie, and a cluster", farm: allows, front: front, plant: []string{"httpOnly: true", "httpOnly: true, secure: true, sameSite: none"}, o: foreign, tls: true,
			want: []string{"sticky-needs-cookie"}, cured: &farm{engine: friendly, one: true}},
		{name: "Traefik: Upgrade dropped", front: front, plant: through(`headers: { customRequestHeaders: { Upgrade: "" } }`), o: quick,
			want: []string{"upgrade-dropped"}, mend: none},
		{name: "Traefik: time-out of polls", farm: farm{ping: 3 * time.Second}, front: front, plant: []string{"        servers:", "        serversTransport: tID\n        servers:",
			"  services:\n", "  serversTransports: { tID: { forwardingTimeouts: { responseHeaderTimeout: 1500ms } } }\n  services:\n"},
			want: []string{"poll-timeout"}, words: []string{"responseHeaderTimeout: 0s"}, mend: []string{"responseHeaderTimeout: 1500ms", "responseHeaderTimeout: 0s"}},
		{name: "Traefik: body limit", front: front, plant: through("buffering: { maxRequestBodyBytes: 50000 }"), o: quick, want: []string{"body-limit"},
			mend: []string{"maxRequestBodyBytes: 50000", "LINE"}},
		{name: "Traefik: bodies are collected", front: front, plant: through("buffering: { memRequestBodyBytes: 2000000 }"), o: quick, want: []string{"request-buffering"}, mend: none},
		{name: "Traefik: dead server in rotation", farm: farm{one: true, dead: true}, front: aloneTraefik, plant: []string{trSticky, ""}, o: quick, want: []string{"backend-dead"},
			mend: []string{"        servers:", "        LINE\n        servers:"}, slow: true},
		{name: "Traefik: nobody there", farm: farm{n: 1}, front: front, plant: []string{"        servers:\n          - url: \"http://NODE0\"", "        servers: [ { url: \"http://127.0.0.1:1\" } ]"}, o: quick,
			want: []string{"backend-down"}, mend: []string{"servers: [ { url: \"http://127.0.0.1:1\" } ]", "LINE"}, fill: []string{"ADDRESS:PORT", "NODE0"}},
		{name: "Traefik: path cut off", front: front, plant: through("stripPrefix: { prefixes: [/socket.io] }"), o: quick, want: []string{"path-rewritten"}, mend: none},
		{name: "Traefik: path not passed on", front: front, plant: []string{"`/socket.io/`", "`/other/`"}, o: quick, want: []string{"path-rewritten"},
			words: []string{"rule: \"PathPrefix(`/socket.io/`)\""}, mend: []string{"rule: \"PathPrefix(`/other/`)\"", "rule: \"PathPrefix(`/socket.io/`)\""}},
		{name: "Traefik: a page for everything", front: front, plant: []string{"  routers:\n", "  routers:\n    pagesID: { entryPoints: [webID], rule: \"PathPrefix(`/`)\", priority: 1000, service: pagesID }\n",
			"  services:\n", "  services:\n    pagesID: { loadBalancer: { servers: [ { url: \"http://PAGES\" } ] } }\n"}, o: quick,
			want: []string{"page"}, words: []string{"`priority: 10000`"}, mend: []string{"      rule: \"PathPrefix(`/socket.io/`)\"", "      LINE\n      priority: 10000"}},
		{name: "Traefik: redirect to https", front: front, plant: through(`redirectScheme: { scheme: https, port: "PORT", permanent: true }`), o: quick,
			want: []string{"redirect-https", "no-answer"}, mend: none},
		{name: "Traefik: slash cut off", front: front, plant: through(`redirectRegex: { regex: "^(.*)/(\\?.*)?$", replacement: "$1$2", permanent: true }`), o: quick,
			want: []string{"redirect-slash", "path-rewritten"}, mend: none},
		{name: "Traefik: sent elsewhere", front: front, plant: through(`redirectRegex: { regex: ".*", replacement: "http://PAGES/login" }`), o: quick,
			want: []string{"redirect", "page"}, mend: none},
		{name: "Traefik: Host changed", front: front, plant: append(through(`headers: { customRequestHeaders: { X-Forwarded-Host: "" } }`), "        servers:", "        passHostHeader: false\n        servers:"), o: quick,
			want: []string{"host-changed"}, mend: []string{"passHostHeader: false", "LINE"}},
		{name: "Traefik: any origin with credentials", farm: farm{n: 1, node: true}, front: front, plant: through(`headers: { accessControlAllowOriginList: ["*"], accessControlAllowCredentials: true }`), o: quick,
			want: []string{"cors-star-credentials"}, words: []string{"take out"}, mend: []string{trNone, "middlewares: []"}, cured: &toldAlone},
		{name: "Traefik: OPTIONS answered by the proxy", farm: allowsAlone, front: front, plant: through(`headers: { accessControlAllowMethods: [GET, POST], accessControlAllowOriginList: ["http://other.test"] }`), o: foreign,
			want: []string{"preflight"}, mend: none},
		{name: "Traefik: cookie without SameSite=None", farm: allows, front: front, o: doctor.Options{Quick: true, Origin: page, Credentials: true}, tls: true,
			want: []string{"cookie-samesite"}, mend: []string{"sticky: { cookie: { name: server_id, httpOnly: true } }", "LINE"}},
		{name: "Traefik: SameSite=None without Secure", front: front, plant: []string{"httpOnly: true }", "httpOnly: true, sameSite: none }"}, o: quick, tls: true,
			want: []string{"cookie-none-insecure"}, mend: []string{"sticky: { cookie: { name: server_id, httpOnly: true, sameSite: none } }", "LINE"}},
		{name: "Traefik: Secure over http", front: front, plant: []string{"httpOnly: true }", "httpOnly: true, secure: true }"}, o: quick,
			want: []string{"cookie-secure-http"}, words: []string{"without `secure: true`"}, mend: []string{"httpOnly: true, secure: true }", "httpOnly: true }"}},
	}
}
