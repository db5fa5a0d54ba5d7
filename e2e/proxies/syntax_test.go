//go:build unix

package proxies

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSyntax has the programs themselves read the files of deploy, with the placeholders that they have there. Only where they
// look for certificates, and may write, is replaced.
func TestSyntax(t *testing.T) {
	if os.Getenv("ATOLL_E2E") == "" {
		t.Skip("set ATOLL_E2E=1 for the tests with real proxies")
	}
	for _, c := range []struct {
		program, files string
		command        func(t *testing.T, f *front, path string) []string
	}{
		{"nginx", "nginx/atoll*.conf", syntaxNginx},
		{"haproxy", "haproxy/*.cfg", func(t *testing.T, f *front, path string) []string {
			return []string{"-c", "-f", f.write(t, "haproxy.cfg", f.certified(t, path))}
		}},
		{"apache2", "httpd/atoll*.conf", syntaxHTTPD},
		{"caddy", "caddy/Caddyfile*", func(t *testing.T, _ *front, path string) []string {
			return []string{"validate", "--config", path, "--adapter", "caddyfile"}
		}},
	} {
		t.Run(c.program, func(t *testing.T) {
			bin, ok := find(c.program)
			if !ok {
				t.Skipf("%s is not installed", c.program)
			}
			paths, err := filepath.Glob("../../deploy/" + c.files)
			if err != nil || len(paths) == 0 {
				t.Fatalf("got no files deploy/%s (%v)", c.files, err)
			}
			for _, path := range paths {
				f := &front{dir: t.TempDir(), port: freePort(t), tls: freePort(t)}
				f.certify(t)
				run(t, f.dir, path, bin, c.command(t, f, path)...)
			}
		})
	}
}

// run runs a check of a file, for 20 seconds at most.
func run(t *testing.T, home, file, bin string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", file, err, out)
	}
}

// certified returns a file with certificates that are there in the place of those that it names.
func (f *front) certified(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := strings.NewReplacer("/etc/haproxy/certs/chat.pem", f.both, "/etc/ssl/certs/chat.pem", f.cert, "/etc/ssl/private/chat.key", f.key)
	return r.Replace(string(b))
}

func syntaxNginx(t *testing.T, f *front, path string) []string {
	site := strings.NewReplacer("listen 80;", "listen "+f.addr()+";", "listen 443 ", fmt.Sprintf("listen 127.0.0.1:%d ", f.tls)).Replace(f.certified(t, path))
	conf := f.nginxFrame("events {}\nhttp {\n" + f.nginxPaths() + "include " + f.write(t, "site.conf", site) + ";\n}\n")
	return []string{"-t", "-e", filepath.Join(f.dir, "error.log"), "-c", f.write(t, "nginx.conf", conf)}
}

func syntaxHTTPD(t *testing.T, f *front, path string) []string {
	threads, err := os.ReadFile("../../deploy/httpd/mpm.conf")
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-t", "-f", f.write(t, "httpd.conf", f.httpdFrame(string(threads), ours...)+f.certified(t, path))}
}

// TestManifests has deploy/validate look at the manifests for Kubernetes and compose. It is a module of its own, and
// is skipped where what it needs cannot be had.
func TestManifests(t *testing.T) {
	if os.Getenv("ATOLL_E2E") == "" || testing.Short() {
		t.Skip("set ATOLL_E2E=1 for the tests with real proxies")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	download := exec.CommandContext(ctx, "go", "mod", "download")
	download.Dir = "../../deploy/validate"
	if out, err := download.CombinedOutput(); err != nil {
		t.Skipf("what deploy/validate needs cannot be had: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(ctx, "go", "run", "-C", "../../deploy/validate", ".", "../..").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("\n%s", out)
}
