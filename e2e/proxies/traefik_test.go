//go:build unix

package proxies

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func init() {
	setUps = append(setUps,
		setUp{
			name: "Traefik documented", program: "traefik", needs: "cookies", cookies: true, foreign: true,
			start: func(t testing.TB, f *front) { f.traefik(t, f.plainTraefik(), f.documentedTraefik()) },
		},
		setUp{
			name: "Traefik without stickiness", program: "traefik", file: "traefik/dynamic.yml", loose: true, once: true, h2: true,
			start: startTraefik("traefik/dynamic.yml"),
		},
		setUp{
			name: "Traefik cookie", program: "traefik", file: "traefik/dynamic-cookie.yml", h2: true,
			needs: "cookies", cookies: true, foreign: true,
			start: startTraefik("traefik/dynamic-cookie.yml"),
		},
	)
}

// hints say where to have a program from that is missing.
var hints = map[string]string{
	"traefik": ": make traefik builds it (12 minutes of processor time or more), or say in ATOLL_TRAEFIK where it is",
}

// findTraefik returns where Traefik is, which no package of Debian has: $ATOLL_TRAEFIK, or what deploy/traefik/build.sh
// has built.
func findTraefik() (string, bool) {
	if path := os.Getenv("ATOLL_TRAEFIK"); path != "" {
		path, err := exec.LookPath(path)
		return path, err == nil
	}
	out, err := exec.Command("../../deploy/traefik/build.sh", "-print").Output()
	return strings.TrimSpace(string(out)), err == nil
}

// documentedTraefik is the load balancer of the documentation of the official server. There the rule is below the service, where
// Traefik refuses it: it belongs to a router.
func (f *front) documentedTraefik() string {
	return `http:
  routers:
    chat: { rule: "PathPrefix(` + "`/`" + `)", service: chat }
  services:
    chat:
      loadBalancer:
        sticky: { cookie: { name: server_id, httpOnly: true } }
        servers:
` + f.each("          - url: http://ADDR\n")
}

// plainTraefik is the part of a configuration that every Traefik needs.
func (f *front) plainTraefik() string {
	return fmt.Sprintf(`global: { checkNewVersion: false, sendAnonymousUsage: false }
entryPoints:
  web: { address: %q }
  traefik: { address: "127.0.0.1:%d" }
ping: {}
providers: { file: { filename: %s } }
`, f.addr(), f.tls, f.dynamic())
}

func (f *front) dynamic() string { return filepath.Join(f.dir, "dynamic.yml") }

// startTraefik starts Traefik with a file of deploy, beside deploy/traefik/traefik.yml.
func startTraefik(file string) func(t testing.TB, f *front) {
	return func(t testing.TB, f *front) {
		t.Helper()
		bare := front{dir: f.dir}
		static := bare.deployed(t, "traefik/traefik.yml",
			`":80"`, strconv.Quote(f.addr()), `":443"`, fmt.Sprintf(`"127.0.0.1:%d"`, f.tls),
			"127.0.0.1:8080", fmt.Sprintf("127.0.0.1:%d", freePort(t)),
			"#websecure:", "websecure:", "#  address:", "  address:", "#  http:", "  http:",
			"/etc/traefik/dynamic.yml", f.dynamic())
		f.traefik(t, static, f.deployed(t, file, "entryPoints: [web]", "entryPoints: [web, websecure]",
			"#tls:", "tls:", "#  certificates:", "  certificates:", "#    - certFile:", "    - certFile:", "#      keyFile:", "      keyFile:",
			"/etc/ssl/certs/chat.pem", f.cert, "/etc/ssl/private/chat.key", f.key))
	}
}

// traefik starts Traefik with its two configurations.
func (f *front) traefik(t testing.TB, static, dynamic string) {
	t.Helper()
	bin, _ := findTraefik()
	f.write(t, "dynamic.yml", dynamic)
	p := launch(t, f.dir, bin, "--configFile="+f.write(t, "traefik.yml", static))
	p.await(t, f.routed)
}

// routed says whether a node answers: Traefik accepts before it knows where to.
func (f *front) routed() error {
	r, err := http.Get(f.url() + "/socket.io/")
	if err != nil {
		return err
	}
	r.Body.Close()
	if r.StatusCode != http.StatusBadRequest { // of a node, to a request without a transport
		return fmt.Errorf("status %d", r.StatusCode)
	}
	return nil
}
