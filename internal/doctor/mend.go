package doctor

import "strings"

// Where the lines of each program belong.
const (
	nginxLocation = "nginx.conf or a file in conf.d, sites-enabled: the location that has proxy_pass"
	nginxUpstream = "nginx.conf or a file in conf.d: the upstream block"
	nginxServer   = "nginx.conf or a file in conf.d, sites-enabled: the server block"
	ingressMeta   = "the Ingress: metadata.annotations"
	ingressSpec   = "the Ingress: spec.rules"
	haBackend     = "haproxy.cfg: the backend (or listen) section"
	haFrontend    = "haproxy.cfg: the frontend (or listen) section"
	haDefaults    = "haproxy.cfg: defaults"
	httpdHost     = "httpd.conf or the file of the VirtualHost"
	httpdBalancer = "httpd.conf or the file of the VirtualHost: <Proxy \"balancer://…\">"
	traefikHTTP   = "the dynamic configuration (or labels): http.services.NAME.loadBalancer"
	traefikRouter = "the dynamic configuration (or labels): http.routers.NAME"
	traefikStatic = "the static configuration, traefik.yml: entryPoints.NAME"
	caddyProxy    = "Caddyfile: the reverse_proxy block"
	caddySite     = "Caddyfile: the site's block"
	atollOptions  = "where atoll.NewServer is called: Options.Engine"
	nodeOptions   = "where new Server(…) of socket.io is called"
)

// Names of the servers behind.
const (
	atoll  = "Atoll"
	nodeJS = "Socket.IO"
)

// cures are, for each finding, what mends it in which program. $ORIGIN stands for the page's origin.
var cures = map[string][]Mend{
	"no-stickiness": {
		{"nginx", nginxUpstream, "hash $remote_addr consistent;", "behind another proxy: hash $http_x_forwarded_for consistent;"},
		{"ingress-nginx", ingressMeta, `nginx.ingress.kubernetes.io/upstream-hash-by: "$remote_addr"`, `or by cookie, nginx.ingress.kubernetes.io/affinity: "cookie"`},
		{"haproxy", haBackend, "mode http\nbalance source\nhash-type consistent", "or by cookie: `cookie serverid insert indirect nocache httponly`, and `cookie NAME` on each server line"},
		{"httpd", httpdBalancer, "ProxySet stickysession=SERVERID", "with `route=NAME` on each BalancerMember, and `Header add Set-Cookie \"SERVERID=sticky.%{BALANCER_WORKER_ROUTE}e; path=/; HttpOnly\" env=BALANCER_ROUTE_CHANGED`; mod_headers is needed"},
		{"traefik", traefikHTTP, "sticky: { cookie: { name: server_id, httpOnly: true } }", ""},
		{"caddy", caddyProxy, "lb_policy ip_hash", "or lb_policy cookie"},
		{atoll, atollOptions, "Cluster: node", "in Options itself: nodes of one cluster need no stickiness. See cluster.Join"},
	},
	"sticky-needs-cookie": {
		{"nginx", nginxUpstream, "hash $remote_addr consistent;", "needs no cookie"},
		{"ingress-nginx", ingressMeta, `nginx.ingress.kubernetes.io/upstream-hash-by: "$remote_addr"`, "needs no cookie"},
		{"haproxy", haBackend, "stick-table type string len 40 size 200k expire 30m\nstick store-response res.cook(io)\nstick match urlp(sid)", "needs no cookie of the client, and the server's cookie io"},
		{"caddy", caddyProxy, "lb_policy ip_hash", "needs no cookie"},
		{atoll, atollOptions, "Cluster: node", "in Options itself: nodes of one cluster need no stickiness, and so no cookie. See cluster.Join"},
		{"client", "where the client is made", "io(URL, { withCredentials: true })", "has browsers, and the Node.js client, send cookies"},
	},
	"sticky-by-connection": {
		{"nginx", "nginx.conf", "http { upstream … }", "a stream block sees connections only: use http with proxy_pass"},
		{"haproxy", haFrontend, "mode http", "in the frontend and in the backend; and no `option http-tunnel`"},
		{"traefik", traefikRouter, "rule: \"PathPrefix(`/socket.io/`)\"", "a router of http, not one of tcp, which sees connections only"},
		{nodeJS, "where setupMaster of @socket.io/sticky is called", "", "it looks at the beginning of a connection only: have the proxy in front open one for each request, or use atoll balance"},
	},
	"backend-dead": {
		{"nginx", nginxLocation, "proxy_next_upstream error timeout;\nproxy_connect_timeout 1s;", "and take the server that is gone out of the upstream block"},
		{"ingress-nginx", "the Deployment: spec.template.spec.containers", "readinessProbe: { httpGet: { path: /health, port: 3000 }, periodSeconds: 1 }", ""},
		{"haproxy", haBackend, "option httpchk HEAD /health\nhttp-check expect status 200\ndefault-server check inter 1s fall 1 rise 2 on-marked-down shutdown-sessions\noption redispatch 1", "above the server lines"},
		{"httpd", httpdBalancer, "BalancerMember \"http://ADDRESS:PORT\" route=NAME upgrade=websocket retry=1 hcmethod=GET hcuri=/health hcinterval=1 hcfails=1 hcpasses=1", "for each node; hc… needs mod_proxy_hcheck"},
		{"traefik", traefikHTTP, "healthCheck: { path: /health, method: HEAD, interval: 1s, timeout: 1s }", "without it, a cookie that names a dead server is an error for ever"},
		{"caddy", caddyProxy, "lb_try_duration 5s\nfail_duration 10s\nhealth_uri /health\nhealth_interval 1s", ""},
	},
	"backend-down": {
		{"nginx", nginxUpstream, "server ADDRESS:PORT;", "where the servers listen: nginx's error.log says what it tried"},
		{"haproxy", haBackend, "server NAME ADDRESS:PORT check", "HAProxy's log says why it counts as down; `option httpchk HEAD /health` asks for /health. It answers the same where no backend is chosen: `use_backend nodes if { path_beg /socket.io/ }`"},
		{"ingress-nginx", "the Service", "targetPort: 3000", "kubectl get endpoints shows whether it has pods"},
		{"httpd", httpdBalancer, "BalancerMember \"http://ADDRESS:PORT\" route=NAME upgrade=websocket", "error.log says what it tried"},
		{"traefik", traefikHTTP, `servers: [ { url: "http://ADDRESS:PORT" } ]`, ""},
		{"caddy", caddyProxy, "reverse_proxy ADDRESS:PORT", ""},
	},
	"upgrade-dropped": {
		{"nginx", nginxLocation, "proxy_http_version 1.1;\nproxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection \"upgrade\";", "a proxy_set_header in a location puts those of the levels above out of force: write all of them there"},
		{"ingress-nginx", ingressMeta, `nginx.ingress.kubernetes.io/proxy-http-version: "1.1"`, "ingress-nginx passes upgrades on by itself, unless a snippet sets Connection"},
		{"haproxy", haFrontend, "", "HAProxy passes upgrades on by itself: take out `http-request del-header upgrade` and the like; and set `timeout tunnel 1h`"},
		{"httpd", httpdBalancer, "BalancerMember \"http://ADDRESS:PORT\" route=NAME upgrade=websocket", "or upgrade=websocket behind a ProxyPass without a balancer. Before 2.4.47 with mod_proxy_wstunnel, above ProxyPass: `RewriteEngine On`, `RewriteCond %{HTTP:Upgrade} =websocket [NC]`, `RewriteRule /(.*) ws://ADDRESS:PORT/$1 [P,L]`"},
		{"traefik", traefikRouter, "middlewares: []", "Traefik passes upgrades on by itself: look for a headers middleware that sets Connection or Upgrade"},
		{"caddy", caddyProxy, "", "Caddy passes upgrades on by itself: look for header_up -Upgrade or header_up Connection"},
	},
	"upgrade-not-sticky": {
		{"httpd", httpdBalancer, "ProxySet stickysession=SERVERID", "in both balancers, for ws:// and http://, with the same `route=NAME` for the same node"},
		{"nginx", nginxLocation, "proxy_pass http://nodes;", "the same upstream for polling and WebSocket"},
		{"haproxy", haFrontend, "default_backend nodes", "the same backend for polling and WebSocket: no `use_backend … if { hdr(upgrade) … }`"},
	},
	"upgrade-hangs": {
		{"httpd", httpdHost, "ThreadsPerChild 512\nThreadLimit 512\nServerLimit 2\nMaxRequestWorkers 1024", "each WebSocket and each long poll occupies a thread"},
		{"nginx", nginxLocation, "proxy_http_version 1.1;\nproxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection \"upgrade\";", ""},
		{"haproxy", haFrontend, "mode http", ""},
	},
	"poll-timeout": {
		{"nginx", nginxLocation, "proxy_read_timeout 120s;", "more than the ping interval; and max_fails=0 on each server line, or one poll that is cut takes its node out for all"},
		{"ingress-nginx", ingressMeta, `nginx.ingress.kubernetes.io/proxy-read-timeout: "120"`, ""},
		{"haproxy", haDefaults + ", and " + haBackend, "timeout server 120s\ntimeout client 120s", "more than the ping interval"},
		{"httpd", httpdHost, "ProxyTimeout 120", "a timeout= of ProxyPass or BalancerMember goes before it"},
		{"traefik", traefikStatic, "transport: { respondingTimeouts: { writeTimeout: 0s } }", "and in the serversTransport that the service names, forwardingTimeouts with `responseHeaderTimeout: 0s`"},
		{"caddy", caddyProxy, "transport http { response_header_timeout 120s }", "or leave it out, as read_timeout"},
	},
	"websocket-timeout": {
		{"nginx", nginxLocation, "proxy_read_timeout 120s;\nproxy_send_timeout 120s;", "more than the ping interval"},
		{"ingress-nginx", ingressMeta, "nginx.ingress.kubernetes.io/proxy-read-timeout: \"120\"\nnginx.ingress.kubernetes.io/proxy-send-timeout: \"120\"", ""},
		{"haproxy", haDefaults + ", and " + haBackend, "timeout tunnel 1h", "where it is missing, timeout client and timeout server hold for WebSockets too"},
		{"httpd", httpdHost, "ProxyTimeout 120", "or ProxyWebsocketIdleTimeout, older"},
		{"traefik", traefikStatic, "", "Traefik does not cut idle WebSockets: look at what is in front of it, or behind"},
		{"caddy", caddyProxy, "stream_timeout 24h", "or leave it out"},
	},
	"body-limit": {
		{"nginx", nginxServer, "client_max_body_size 2m;", "more than maxPayload; 1m if it is not there"},
		{"ingress-nginx", ingressMeta, `nginx.ingress.kubernetes.io/proxy-body-size: "2m"`, ""},
		{"haproxy", haFrontend, "http-request deny deny_status 413 if { req.body_size gt 2000000 }", "in place of one with a smaller size. HAProxy has no limit of its own: look for such a rule"},
		{"httpd", httpdHost, "", "httpd has no limit of its own for what it passes on (LimitRequestBody does not hold there): look for rules on Content-Length, and for mod_security: `SecRequestBodyNoFilesLimit 2000000`, and SecRequestBodyLimit above that"},
		{"traefik", "the dynamic configuration: http.middlewares.NAME.buffering", "maxRequestBodyBytes: 2000000", "or without the middleware: Traefik has no limit of its own"},
		{"caddy", caddySite, "request_body { max_size 2MB }", ""},
	},
	"buffering": {
		{"nginx", nginxLocation, "proxy_buffering off;", ""},
		{"ingress-nginx", ingressMeta, `nginx.ingress.kubernetes.io/proxy-buffering: "off"`, ""},
		{"haproxy", haFrontend, "", "look for `http-response wait-for-body` and for bwlim filters, and take /socket.io/ out of them"},
		{"httpd", httpdHost, "", "take SetOutputFilter, AddOutputFilter and the like (mod_ext_filter, mod_ratelimit, mod_buffer) out for /socket.io/; `SetEnvIf Request_URI ^/socket.io/ no-gzip` does so for mod_deflate"},
		{"traefik", traefikRouter, "", "Traefik passes answers on at once: look for plugins among the middlewares of this router, and at what is in front of it or behind"},
		{"caddy", caddyProxy, "flush_interval -1", ""},
	},
	"request-buffering": {
		{"nginx", nginxLocation, "proxy_request_buffering off;", ""},
		{"ingress-nginx", ingressMeta, `nginx.ingress.kubernetes.io/proxy-request-buffering: "off"`, ""},
		{"haproxy", haFrontend, "no option http-buffer-request", ""},
		{"traefik", traefikRouter, "middlewares: []", "without the buffering middleware for this router"},
	},
	"answer-cut": {
		{"nginx", nginxLocation, "proxy_buffering off;", "or let it write into proxy_temp_path: error.log says so"},
	},
	"path-rewritten": {
		{"nginx", nginxLocation, "proxy_pass http://nodes;", "without a slash or path behind the name: what stands there takes the place of the location's path"},
		{"ingress-nginx", ingressMeta, "", "take out nginx.ingress.kubernetes.io/rewrite-target, or write the path with its groups"},
		{"haproxy", haFrontend, "", "take out `http-request set-path`, `replace-path` and the like for /socket.io/, and `http-request return` or `deny` that hold for it"},
		{"httpd", httpdHost, "ProxyPass \"/socket.io/\" \"balancer://nodes/socket.io/\"", "the same path on both sides, with a slash at the end of both or of none; likewise with http:// and one node"},
		{"traefik", traefikRouter, "middlewares: []", "without stripPrefix or replacePath for this router; and if no router is for this path, rule: \"PathPrefix(`/socket.io/`)\""},
		{"caddy", caddySite, "handle /socket.io/* { reverse_proxy … }", "handle, not handle_path, which cuts the path off"},
		{atoll, "where the server is mounted", `http.Handle("/socket.io/", srv)`, "if the path was meant to change"},
		{nodeJS, nodeOptions, `path: "/socket.io/"`, "if the path was meant to change"},
	},
	"path-not-routed": {
		{"nginx", nginxServer, "location /socket.io/ { proxy_pass http://nodes; }", "with the lines for WebSockets in it"},
		{"ingress-nginx", ingressSpec, "- { path: /socket.io/, pathType: Prefix, backend: { service: { name: NAME, port: { number: 3000 } } } }", ""},
		{"haproxy", haFrontend, "use_backend nodes if { path_beg /socket.io/ }", ""},
		{"httpd", httpdHost, "ProxyPass \"/socket.io/\" \"balancer://nodes/socket.io/\"", "above a ProxyPass \"/\""},
		{"traefik", traefikRouter, "rule: \"PathPrefix(`/socket.io/`)\"", ""},
		{"caddy", caddySite, "reverse_proxy /socket.io/* NODE:3000", ""},
	},
	"path-elsewhere": {
		{"client", "where the client is made", `io(URL, { path: "…" })`, "with the path that answers"},
		{"nginx", nginxLocation, "proxy_pass http://nodes;", "without a slash or path behind the name"},
		{atoll, "where the server is mounted", `http.Handle("/socket.io/", srv)`, ""},
		{nodeJS, nodeOptions, `path: "/socket.io/"`, ""},
	},
	"redirect-https": {
		{"client", "where the client is made", `io("https://…")`, "the address that the redirect leads to"},
		{"nginx", nginxServer, "location /socket.io/ { proxy_pass http://nodes; }", "in the server block of port 80, with the return 301 in a location of its own"},
		{"ingress-nginx", ingressMeta, `nginx.ingress.kubernetes.io/ssl-redirect: "false"`, ""},
		{"haproxy", haFrontend, "http-request redirect scheme https unless { ssl_fc } or { path_beg /socket.io/ }", ""},
		{"httpd", httpdHost, "RewriteCond %{REQUEST_URI} !^/socket.io/", "above the RewriteRule that redirects. Where Redirect does: `ProxyPass \"/socket.io/\" \"balancer://nodes/socket.io/\"` in the same VirtualHost goes before it"},
		{"traefik", traefikRouter, "middlewares: []", "without redirectScheme for this router. Where its entry point redirects (`http.redirections`), take that out, and give redirectScheme to the routers of pages"},
		{"caddy", caddySite, "http://HOST, https://HOST { … }", ""},
	},
	"redirect-slash": {
		{"client", "where the client is made", "io(URL, { addTrailingSlash: … })", "asks for the path with or without the slash"},
		{"nginx", nginxServer, "if ($uri !~ ^/socket\\.io/) { rewrite ^(.+)/$ $1 permanent; }", "in place of the rewrite of slashes at the end"},
		{"ingress-nginx", ingressSpec, "- { path: /socket.io/, pathType: Prefix }", ""},
		{"haproxy", haFrontend, "", "take /socket.io/ out of the `http-request redirect` rule, with `!{ path_beg /socket.io/ }` behind its condition"},
		{"httpd", httpdHost, "RewriteCond %{REQUEST_URI} !^/socket.io/", "above the RewriteRule that redirects"},
		{"traefik", traefikRouter, "middlewares: []", "without redirectRegex for this router"},
		{"caddy", caddySite, "handle /socket.io/* { reverse_proxy … }", "above the redir"},
	},
	"redirect": {
		{"client", "where the client is made", "io(URL)", "with the address that the redirect leads to"},
		{"nginx", nginxServer, "location /socket.io/ { proxy_pass http://nodes; }", "so that the return or rewrite does not hold for it"},
		{"haproxy", haFrontend, "", "take /socket.io/ out of the `http-request redirect` rule, with `if !{ path_beg /socket.io/ }`"},
		{"httpd", httpdHost, "RewriteCond %{REQUEST_URI} !^/socket.io/", "above the RewriteRule that redirects. Where Redirect does: `ProxyPass \"/socket.io/\" \"balancer://nodes/socket.io/\"` in the same VirtualHost goes before it"},
		{"traefik", traefikRouter, "middlewares: []", "without redirectRegex for this router"},
	},
	"host-changed": {
		{"nginx", nginxLocation, "proxy_set_header Host $http_host;", "without it, Host is the name behind proxy_pass"},
		{"ingress-nginx", ingressMeta, "", "take out nginx.ingress.kubernetes.io/upstream-vhost"},
		{"haproxy", haFrontend, "", "take out `http-request set-header host`"},
		{"httpd", httpdHost, "ProxyPreserveHost On", ""},
		{"traefik", traefikHTTP, "passHostHeader: true", ""},
		{"caddy", caddyProxy, "header_up Host {host}", ""},
		{atoll, atollOptions, `CORS: &engine.CORS{Origins: []string{"https://HOST"}}`, "or allow the origin by name"},
	},
	"origin-refused": {
		{atoll, atollOptions, `CORS: &engine.CORS{Origins: []string{"$ORIGIN"}}`, "with Credentials: true for withCredentials; atoll serve: --cors-origin $ORIGIN"},
		{nodeJS, nodeOptions, `cors: { origin: ["$ORIGIN"] }`, "with credentials: true for withCredentials"},
	},
	"origin-refused-websocket": {
		{atoll, atollOptions, `CORS: &engine.CORS{Origins: []string{"$ORIGIN"}}`, "and see whether Options.Engine.Allow says no"},
		{nodeJS, nodeOptions, "allowRequest", "says no to this origin"},
	},
	"cors-credentials": {
		{atoll, atollOptions, `CORS: &engine.CORS{Origins: []string{"$ORIGIN"}, Credentials: true}`, "atoll serve: --cors-credentials"},
		{nodeJS, nodeOptions, `cors: { origin: ["$ORIGIN"], credentials: true }`, ""},
	},
	"cors-doubled": {
		{"nginx", nginxLocation, "", "take out the add_header Access-Control-Allow-Origin: one of the two is enough, and the server knows its pages"},
		{"ingress-nginx", ingressMeta, `nginx.ingress.kubernetes.io/enable-cors: "false"`, ""},
		{"haproxy", haFrontend, "http-response set-header Access-Control-Allow-Origin $ORIGIN", "set-header, not add-header. Better take it out: the server knows its pages"},
		{"httpd", httpdHost, "", "take out the Header add or Header always set for Access-Control-Allow-Origin: those of the server stay then, which knows its pages"},
		{"traefik", traefikRouter, "middlewares: []", "without a headers middleware for CORS. Traefik puts its headers in place of the server's: what adds one stands behind it, or in front"},
		{"caddy", caddyProxy, "header_down -Access-Control-Allow-Origin", "or take out the header directive of the site"},
	},
	"cors-star-credentials": {
		{atoll, atollOptions, `CORS: &engine.CORS{Origins: []string{"$ORIGIN"}, Credentials: true}`, ""},
		{nodeJS, nodeOptions, `cors: { origin: ["$ORIGIN"], credentials: true }`, ""},
		{"nginx", nginxLocation, "", "take out add_header Access-Control-Allow-Origin *"},
		{"ingress-nginx", ingressMeta, `nginx.ingress.kubernetes.io/cors-allow-origin: "$ORIGIN"`, ""},
		{"haproxy", haFrontend, "", "take out `http-response set-header Access-Control-Allow-Origin *`"},
		{"httpd", httpdHost, "", "take out Header set Access-Control-Allow-Origin \"*\""},
		{"traefik", "the dynamic configuration: http.middlewares.NAME.headers", `accessControlAllowOriginList: ["$ORIGIN"]`, "or better, take out the middleware: the server knows its pages"},
		{"caddy", caddySite, "", "take out header Access-Control-Allow-Origin *"},
	},
	"cors-errors": {
		{atoll, atollOptions, `CORS: &engine.CORS{Origins: []string{"$ORIGIN"}}`, "and none in the proxy: the server answers errors and preflights as browsers need it"},
		{nodeJS, nodeOptions, `cors: { origin: ["$ORIGIN"] }`, "and none in the proxy: the server answers errors and preflights as browsers need it"},
		{"nginx", nginxLocation, "add_header Access-Control-Allow-Origin $ORIGIN always;", "always: without it, only good answers have it. Better take it out, and leave CORS to the server"},
		{"haproxy", haFrontend, "http-after-response set-header Access-Control-Allow-Origin $ORIGIN", "better take it out, and leave CORS to the server"},
		{"httpd", httpdHost, "Header always set Access-Control-Allow-Origin \"$ORIGIN\"", "better take it out, and leave CORS to the server"},
	},
	"preflight": {
		{"nginx", nginxLocation, "", "pass OPTIONS on to the server: take out limit_except, and `if ($request_method = OPTIONS)`"},
		{"haproxy", haFrontend, "", "pass OPTIONS on to the server: take out `http-request return` and `deny` for METH_OPTIONS"},
		{"httpd", httpdHost, "", "pass OPTIONS on to the server: take out `RewriteCond %{REQUEST_METHOD} OPTIONS` with its rule, <Limit> and <LimitExcept>; and take out Header set Access-Control-…: leave CORS to the server"},
		{"traefik", traefikRouter, "middlewares: []", "without the headers middleware that has accessControlAllowMethods: it answers OPTIONS in the server's place"},
		{atoll, atollOptions, `CORS: &engine.CORS{Origins: []string{"$ORIGIN"}, Headers: nil}`, "nil allows the headers that are asked for"},
		{nodeJS, nodeOptions, `cors: { origin: ["$ORIGIN"], allowedHeaders: […] }`, ""},
	},
	"cookie-samesite": {
		{"nginx", nginxLocation, "proxy_cookie_flags ~ secure samesite=none;", "since 1.19.3; needs https"},
		{"ingress-nginx", ingressMeta, "nginx.ingress.kubernetes.io/session-cookie-samesite: \"None\"\nnginx.ingress.kubernetes.io/session-cookie-secure: \"true\"", ""},
		{"haproxy", haBackend, "cookie serverid insert indirect nocache httponly secure attr \"SameSite=None\"", "needs https"},
		{"httpd", httpdHost, "Header add Set-Cookie \"SERVERID=sticky.%{BALANCER_WORKER_ROUTE}e; path=/; SameSite=None; Secure; HttpOnly\" env=BALANCER_ROUTE_CHANGED", ""},
		{"traefik", traefikHTTP, "sticky: { cookie: { name: server_id, httpOnly: true, secure: true, sameSite: none } }", ""},
		{"caddy", caddyProxy, "lb_policy ip_hash", "needs no cookie"},
		{atoll, atollOptions, "Cookie: &http.Cookie{SameSite: http.SameSiteNoneMode, Secure: true}", "for the cookie io; atoll serve: --cookie \"io; SameSite=None; Secure\""},
		{nodeJS, nodeOptions, `cookie: { name: "io", sameSite: "none", secure: true }`, "for the cookie io"},
	},
	"cookie-secure-http": {
		{"client", "where the client is made", `io("https://…")`, "with https, which browsers keep such a cookie for"},
		{"nginx", nginxLocation, "proxy_cookie_flags ~ nosecure;", "where http is meant, as on a machine for trying things"},
		{"ingress-nginx", ingressMeta, `nginx.ingress.kubernetes.io/session-cookie-secure: "false"`, "where http is meant"},
		{"haproxy", haBackend, "cookie serverid insert indirect nocache httponly", "without `secure`, where http is meant"},
		{"httpd", httpdHost, "Header add Set-Cookie \"SERVERID=sticky.%{BALANCER_WORKER_ROUTE}e; path=/; HttpOnly\" env=BALANCER_ROUTE_CHANGED", "without Secure, where http is meant"},
		{"traefik", traefikHTTP, "sticky: { cookie: { name: server_id, httpOnly: true } }", "without `secure: true`, where http is meant"},
	},
	"cached": {
		{"nginx", nginxLocation, "proxy_cache off;", "or take out proxy_ignore_headers Cache-Control, with which nginx keeps what the server says is not to be kept"},
		{"ingress-nginx", ingressMeta, "", "take proxy_cache out of the snippets"},
		{"haproxy", haFrontend, "", "take out `http-request cache-use` for /socket.io/"},
		{"httpd", httpdHost, "CacheDisable /socket.io/", ""},
		{"caddy", caddySite, "", "take the cache directive out for /socket.io/*"},
		{"CDN", "its rules for caching", "", "bypass the cache for /socket.io/*"},
	},
	"certificate": {
		{"nginx", nginxServer, "ssl_certificate fullchain.pem;", "the certificate and what lies between it and the authority, in one file"},
		{"haproxy", haFrontend, "bind :443 ssl crt FILE.pem", "the file holds the certificate, what lies between it and the authority, and the key"},
		{"httpd", httpdHost, "SSLCertificateFile fullchain.pem", ""},
		{atoll, "atoll serve, atoll balance", "--tls-cert fullchain.pem", ""},
	},
	"http2": {
		{"nginx", nginxServer, "listen 443 ssl http2;", "without http2 it is not offered"},
		{"haproxy", haFrontend, "bind :443 ssl crt FILE.pem alpn h2,http/1.1", "without h2 it is not offered"},
	},
	"page": {
		{"nginx", nginxServer, "location /socket.io/ { proxy_pass http://nodes; }", "beside the location that has try_files … /index.html"},
		{"httpd", httpdHost, "RewriteCond %{REQUEST_URI} !^/socket.io/", "above the RewriteRule to index.html"},
		{"caddy", caddySite, "handle /socket.io/* { reverse_proxy NODE:3000 }", "above try_files"},
		{"traefik", traefikRouter, "rule: \"PathPrefix(`/socket.io/`)\"", "with more priority than the router of the pages: `priority: 10000`"},
		{"haproxy", haFrontend, "use_backend nodes if { path_beg /socket.io/ }", ""},
	},
	"version": {
		{nodeJS, "package.json", `"socket.io": "^4.8.0"`, "clients have to be of version 3 or 4 then; allowEIO3 lets those of version 2 in as well"},
	},
}

// sameCure are findings that are mended as others are.
var sameCure = map[string]string{
	"upgrade-silent": "upgrade-hangs", "upgrade-refused": "upgrade-dropped", "upgrade-accept": "cached",
	"ping-missing": "buffering", "changed": "page", "not-socketio": "page", "cookie-none-insecure": "cookie-samesite",
}

// mends are what mends a finding: in the proxy that is in front, in the server, and where the proxy is not known
// in each.
func mends(id, proxy, server, origin string) (all []Mend) {
	if same := sameCure[id]; same != "" {
		id = same
	}
	if origin == "" {
		origin = "https://PAGE"
	}
	for _, m := range cures[id] {
		switch m.Program {
		case atoll, nodeJS:
			if m.Program != server {
				continue
			}
		case "client", "CDN":
		default:
			if proxy != "unknown" && m.Program != proxy {
				continue
			}
		}
		m.Line = strings.ReplaceAll(m.Line, "$ORIGIN", origin)
		m.Note = strings.ReplaceAll(m.Note, "$ORIGIN", origin)
		all = append(all, m)
	}
	return all
}
