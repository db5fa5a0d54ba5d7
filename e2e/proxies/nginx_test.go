//go:build unix

package proxies

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func init() {
	setUps = append(setUps,
		setUp{
			name: "nginx documented hash", program: "nginx", foreign: true, moves: true, avoids: 10 * time.Second,
			start: func(t testing.TB, f *front) { f.nginx(t, f.documentedNginx("hash $remote_addr consistent;")) },
		},
		setUp{
			name: "nginx documented ip_hash", program: "nginx", foreign: true, moves: true, avoids: 10 * time.Second,
			start: func(t testing.TB, f *front) { f.nginx(t, f.documentedNginx("ip_hash;")) },
		},
		setUp{
			name: "nginx without stickiness", program: "nginx", file: "nginx/atoll.conf", loose: true, h2: true,
			start: startNginx("nginx/atoll.conf"),
		},
		setUp{
			name: "nginx by session id", program: "nginx", file: "nginx/atoll-by-sid.conf", h2: true,
			start: startNginx("nginx/atoll-by-sid.conf"),
		},
		setUp{
			name: "nginx cookie", program: "nginx", file: "nginx/atoll-cookie.conf", h2: true,
			needs: "cookies", cookies: true, foreign: true,
			start: startNginx("nginx/atoll-cookie.conf"),
		},
		setUp{
			name: "nginx hash", program: "nginx", file: "nginx/atoll-hash.conf", h2: true, foreign: true, moves: true,
			start: startNginx("nginx/atoll-hash.conf"),
		},
		setUp{
			name: "nginx ip_hash", program: "nginx", file: "nginx/atoll-hash.conf", h2: true, foreign: true, moves: true,
			start: startNginx("nginx/atoll-hash.conf", "hash $remote_addr consistent;", "ip_hash;"),
		},
	)
}

// documentedNginx is the configuration of the documentation of the official server. It has no worker_connections
// of its own, so the 1024 of its example are here; they are enough for the clients of the test.
func (f *front) documentedNginx(sticky string) string {
	return f.nginxFrame(`events { worker_connections 1024; }
http {
  ` + f.nginxPaths() + `
  server {
    listen ` + f.addr() + `;
    location / {
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Host $host;
      proxy_pass http://nodes;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
    }
  }
  upstream nodes {
    ` + sticky + `
` + f.each("    server ADDR;\n") + `  }
}
`)
}

// nginxFrame is what any user, who need not be root, needs around a configuration.
func (f *front) nginxFrame(conf string) string {
	user := ""
	if asRoot() {
		user = "user root;\n"
	}
	return user + "worker_processes 1;\npid " + filepath.Join(f.dir, "pid") + ";\n" + conf
}

// nginxPaths are the folders that nginx wants to write to.
func (f *front) nginxPaths() string {
	s := "access_log off;\n"
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		s += what + "_temp_path " + filepath.Join(f.dir, what) + ";\n"
	}
	return s
}

// startNginx starts nginx with a file of deploy, inside deploy/nginx/nginx.conf.
func startNginx(file string, pairs ...string) func(t testing.TB, f *front) {
	return func(t testing.TB, f *front) {
		t.Helper()
		conf := filepath.Join(f.dir, "conf.d")
		if err := os.Mkdir(conf, 0o755); err != nil {
			t.Fatal(err)
		}
		f.write(t, "conf.d/site.conf", f.deployed(t, file, append(pairs,
			"listen 80;", "listen "+f.addr()+";",
			"listen 443 ", "listen 127.0.0.1:"+strconv.Itoa(f.tls)+" ",
			"/etc/ssl/certs/chat.pem", f.cert,
			"/etc/ssl/private/chat.key", f.key,
		)...))
		f.write(t, "conf.d/paths.conf", f.nginxPaths()[len("access_log off;\n"):])
		bare := front{dir: f.dir}
		f.nginx(t, bare.deployed(t, "nginx/nginx.conf",
			"user www-data;", map[bool]string{true: "user root;"}[asRoot()],
			"/run/nginx.pid", filepath.Join(f.dir, "pid"),
			"/var/log/nginx/error.log", filepath.Join(f.dir, "error.log"),
			"/etc/nginx/conf.d", conf,
			"worker_processes auto;", "worker_processes 1;", // the machine has other things to do
		))
	}
}

// nginx starts nginx with a configuration.
func (f *front) nginx(t testing.TB, conf string) {
	t.Helper()
	bin, _ := find("nginx")
	p := launch(t, f.dir, bin, "-e", filepath.Join(f.dir, "error.log"), "-c", f.write(t, "nginx.conf", conf), "-g", "daemon off;")
	p.await(t, accepts(f.addr()))
}
