//go:build unix

package proxies

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func init() {
	setUps = append(setUps,
		setUp{
			name: "httpd documented", program: "apache2", needs: "cookies", cookies: true, foreign: true,
			start: func(t testing.TB, f *front) { f.httpd(t, f.documentedHTTPD()) },
		},
		setUp{
			name: "httpd without stickiness", program: "apache2", file: "httpd/atoll.conf", loose: true, once: true, h2: true,
			start: startHTTPD("httpd/atoll.conf"),
		},
		setUp{
			name: "httpd by session id", program: "apache2", file: "httpd/atoll-by-sid.conf", h2: true,
			start: startHTTPD("httpd/atoll-by-sid.conf"),
		},
		setUp{
			name: "httpd cookie", program: "apache2", file: "httpd/atoll-cookie.conf", h2: true,
			needs: "cookies", cookies: true, foreign: true,
			start: startHTTPD("httpd/atoll-cookie.conf"),
		},
	)
}

// documentedHTTPD is the configuration of the documentation of the official server. It says nothing of threads, and with
// the 25 in a child that are the default some upgrades of clients that arrive together hang: each WebSocket takes a
// thread, and a kept-alive connection stays with its child. So the five lines about threads are added.
func (f *front) documentedHTTPD() string {
	return f.httpdFrame(enough, "headers", "proxy", "proxy_http", "proxy_wstunnel", "proxy_balancer", "lbmethod_byrequests", "slotmem_shm", "rewrite") +
		`Header add Set-Cookie "SERVERID=sticky.%{BALANCER_WORKER_ROUTE}e; path=/" env=BALANCER_ROUTE_CHANGED
<Proxy "balancer://nodes_polling">
` + f.each("  BalancerMember \"http://ADDR\" route=nodeN\n") + `  ProxySet stickysession=SERVERID
</Proxy>
<Proxy "balancer://nodes_ws">
` + f.each("  BalancerMember \"ws://ADDR\" route=nodeN\n") + `  ProxySet stickysession=SERVERID
</Proxy>
RewriteEngine On
RewriteCond %{HTTP:Upgrade} =websocket [NC]
RewriteRule /(.*) balancer://nodes_ws/$1 [P,L]
RewriteCond %{HTTP:Upgrade} !=websocket [NC]
RewriteRule /(.*) balancer://nodes_polling/$1 [P,L]
ProxyTimeout 60
`
}

// enough are threads for all clients, in one child.
const enough = `ServerLimit 1
StartServers 1
ThreadLimit 512
ThreadsPerChild 512
MaxRequestWorkers 512
`

// httpdFrame is what Debian has around a site, with the given modules.
func (f *front) httpdFrame(threads string, modules ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ServerRoot %q\nServerName localhost\nListen %s\nPidFile %q\n", f.dir, f.addr(), filepath.Join(f.dir, "pid"))
	fmt.Fprintf(&b, "DefaultRuntimeDir %q\nMutex \"file:%s\" default\nErrorLog %q\n", f.dir, f.dir, filepath.Join(f.dir, "error.log"))
	for _, m := range append([]string{"mpm_event", "authz_core", "setenvif", "reqtimeout"}, modules...) {
		fmt.Fprintf(&b, "LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", m, m)
	}
	b.WriteString("RequestReadTimeout header=20-40,minrate=500 body=10,minrate=500\n") // as in Debian
	b.WriteString(threads)
	if asRoot() {
		b.WriteString("User www-data\nGroup www-data\n")
	}
	return b.String()
}

// ours are the modules that the files of deploy/httpd need.
var ours = []string{
	"headers", "proxy", "proxy_http", "proxy_balancer", "proxy_hcheck", "lbmethod_bybusyness", "slotmem_shm",
	"rewrite", "socache_shmcb", "ssl", "http2",
}

// startHTTPD starts Apache httpd with a file of deploy, and with the same over TLS.
func startHTTPD(file string) func(t testing.TB, f *front) {
	return func(t testing.TB, f *front) {
		t.Helper()
		bare := front{dir: f.dir}
		// The machine has other things to do; a thread for each client is enough.
		threads := bare.deployed(t, "httpd/mpm.conf", "4096", "512", "8192", "1024")
		site := f.deployed(t, file, "*:80", f.addr())
		secure := f.deployed(t, file, "*:80", "127.0.0.1:"+strconv.Itoa(f.tls),
			"#SSLEngine", "SSLEngine", "#SSLCertificateFile", "SSLCertificateFile", "#SSLCertificateKeyFile", "SSLCertificateKeyFile",
			"/etc/ssl/certs/chat.pem", f.cert, "/etc/ssl/private/chat.key", f.key, "#Protocols", "Protocols")
		f.httpd(t, f.httpdFrame(threads, ours...)+
			fmt.Sprintf("Listen 127.0.0.1:%d\n", f.tls)+site+secure)
	}
}

// httpd starts Apache httpd with a configuration.
func (f *front) httpd(t testing.TB, conf string) {
	t.Helper()
	bin, _ := find("apache2")
	// Its children are another user, who must get into the folder.
	for dir := f.dir; asRoot() && dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := launch(t, f.dir, bin, "-D", "FOREGROUND", "-f", f.write(t, "httpd.conf", conf))
	p.await(t, f.routed)
}
