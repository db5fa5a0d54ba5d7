//go:build unix

package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A front starts a proxy before nodes, with changes to what is right, and returns where it listens.
type front func(t *testing.T, nodes []string, changes []string) string

// changed applies pairs of old and new to a configuration.
func changed(t *testing.T, conf string, changes []string) string {
	t.Helper()
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(conf, changes[i]) {
			t.Fatalf("%q is not in the configuration", changes[i])
		}
		conf = strings.Replace(conf, changes[i], changes[i+1], 1)
	}
	return conf
}

// each writes a line for each node; ADDR and N stand for its address and number.
func each(nodes []string, line string) string {
	var b strings.Builder
	for i, n := range nodes {
		b.WriteString(strings.NewReplacer("ADDR", n, "N", strconv.Itoa(i)).Replace(line) + "\n")
	}
	return b.String()
}

func nginx(t *testing.T, nodes, changes []string) string {
	t.Helper()
	bin, dir, addr := find(t, "nginx"), t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	conf := user + `
daemon off; worker_processes 1; pid DIR/pid; error_log DIR/error.log notice;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  upstream nodes {
    hash $remote_addr consistent;
` + each(nodes, "    server ADDR max_fails=0;") + `  }
  server {
    listen ADDRESS;
    client_max_body_size 2m;
    location / {
      proxy_pass http://nodes;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header Host $http_host;
      proxy_read_timeout 60s;
      proxy_request_buffering off;
    }
  }
}
`
	conf = strings.NewReplacer("DIR", dir, "ADDRESS", addr).Replace(changed(t, conf, changes))
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	launch(t, dir, addr, bin, "-e", filepath.Join(dir, "error.log"), "-c", file)
	return "http://" + addr
}

func haproxy(t *testing.T, nodes, changes []string) string {
	t.Helper()
	bin, dir, addr := find(t, "haproxy"), t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	conf := `
global
  maxconn 1000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
frontend front
  bind ADDRESS
  default_backend nodes
backend nodes
  balance source
  option redispatch 1
` + each(nodes, "  server appN ADDR cookie appN")
	conf = strings.ReplaceAll(changed(t, conf, changes), "ADDRESS", addr)
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	launch(t, dir, addr, bin, "-db", "-f", file)
	return "http://" + addr
}

// httpd starts Apache httpd. Plants may need any of these modules.
func httpd(t *testing.T, nodes, changes []string) string {
	t.Helper()
	bin, dir, addr := find(t, "apache2"), t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	user := ""
	if os.Geteuid() == 0 { // the children are another user, who must get into the folder
		user = "User www-data\nGroup www-data\n"
		for up := dir; up != os.TempDir() && up != "/"; up = filepath.Dir(up) {
			if err := os.Chmod(up, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	var modules strings.Builder
	for _, m := range []string{"mpm_event", "authz_core", "setenvif", "headers", "rewrite", "alias", "dir", "proxy", "proxy_http", "proxy_wstunnel",
		"proxy_balancer", "proxy_hcheck", "lbmethod_byrequests", "slotmem_shm", "cache", "cache_disk", "ext_filter"} {
		fmt.Fprintf(&modules, "LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", m, m)
	}
	conf := modules.String() + user + `ServerRoot "DIR"
ServerName localhost
Listen ADDRESS
PidFile "DIR/pid"
DefaultRuntimeDir "DIR"
Mutex "file:DIR" default
ErrorLog "DIR/error.log"
ServerLimit 1
StartServers 1
ThreadsPerChild 64
MaxRequestWorkers 64
Header add Set-Cookie "SERVERID=sticky.%{BALANCER_WORKER_ROUTE}e; path=/; HttpOnly" env=BALANCER_ROUTE_CHANGED
<Proxy "balancer://nodes">
` + each(nodes, `  BalancerMember "http://ADDR" route=nN upgrade=websocket`) + `  ProxySet stickysession=SERVERID
</Proxy>
ProxyPass "/socket.io/" "balancer://nodes/socket.io/"
ProxyPreserveHost On
ProxyTimeout 60
`
	conf = strings.NewReplacer("DIR", dir, "ADDRESS", addr).Replace(changed(t, conf, changes))
	file := filepath.Join(dir, "httpd.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("<!doctype html><title>app</title>"), 0o644); err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(dir, "cache")
	if err := errorsOf(os.Mkdir(cache, 0o777), os.Chmod(cache, 0o777)); err != nil { // whatever the umask
		t.Fatal(err)
	}
	launch(t, dir, addr, bin, "-D", "FOREGROUND", "-f", file)
	return "http://" + addr
}

// direct is no proxy at all.
func direct(_ *testing.T, nodes, _ []string) string { return "http://" + nodes[0] }
