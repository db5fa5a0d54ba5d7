//go:build unix

package doctor

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A traefik is one process for many tests: each has an entry point of its own, and a file of the dynamic configuration.
type traefik struct {
	dir, api string
	missing  string // why there is none
	mu       sync.Mutex
	free     []int // ports of entry points that nobody has
	last     int   // number of the entry point that was given last
}

// startTraefik starts one with n entry points, where there is a binary: no package of Debian has it.
func startTraefik(t *testing.T, n int) *traefik {
	t.Helper()
	bin := os.Getenv("ATOLL_TRAEFIK")
	if bin == "" {
		out, err := exec.Command("../../deploy/traefik/build.sh", "-print").Output()
		if err != nil {
			return &traefik{missing: "Traefik is not there: make traefik builds it, or say in ATOLL_TRAEFIK where it is"}
		}
		bin = strings.TrimSpace(string(out))
	}
	return runTraefik(t, bin, n, nil)
}

// runTraefik starts one with changes to the static configuration.
func runTraefik(t *testing.T, bin string, n int, changes []string) *traefik {
	t.Helper()
	f := &traefik{dir: t.TempDir(), api: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	conf := "global: { checkNewVersion: false, sendAnonymousUsage: false }\nlog: { level: FATAL }\napi: { insecure: true, dashboard: false }\n" +
		"providers: { providersThrottleDuration: 20ms, file: { directory: " + f.dir + ", watch: true } }\nentryPoints:\n" +
		"  traefik: { address: \"" + f.api + "\" }\n"
	for i := range n {
		f.free = append(f.free, freePort(t))
		conf += fmt.Sprintf("  web%d:\n    address: \"127.0.0.1:%d\"\n", i+1, f.free[i])
	}
	file := filepath.Join(t.TempDir(), "traefik.yml")
	if err := os.WriteFile(file, []byte(changed(t, conf, changes)), 0o600); err != nil {
		t.Fatal(err)
	}
	launch(t, filepath.Dir(file), f.api, bin, "--configFile="+file)
	return f
}

// front is a front. ID stands for what makes names unlike those of other tests.
func (f *traefik) front(t *testing.T, nodes, changes []string) string {
	t.Helper()
	if f.missing != "" {
		t.Skip(f.missing)
	}
	f.mu.Lock()
	if f.last == len(f.free) {
		f.mu.Unlock()
		t.Fatal("no entry point is left: have more of them made")
	}
	port := f.free[f.last]
	f.last++
	n := f.last
	f.mu.Unlock()
	conf := `http:
  routers:
    chatID:
      entryPoints: [webID]
      rule: "PathPrefix(` + "`/socket.io/`" + `)"
      service: nodesID
  services:
    nodesID:
      loadBalancer:
        sticky: { cookie: { name: server_id, httpOnly: true } }
        servers:
` + each(nodes, `          - url: "http://ADDR"`)
	conf = strings.NewReplacer("ID", fmt.Sprint(n), "PORT", fmt.Sprint(port)).Replace(changed(t, conf, changes))
	// Written whole elsewhere first: whatever Traefik reads is all of it, and it is told once.
	write := func() {
		made := filepath.Join(t.TempDir(), "made")
		if err := errorsOf(os.WriteFile(made, []byte(conf), 0o600), os.Rename(made, filepath.Join(f.dir, fmt.Sprintf("%d.yml", n)))); err != nil {
			t.Fatal(err)
		}
	}
	write()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	defer client.CloseIdleConnections()
	written, end := time.Now(), time.Now().Add(2*time.Minute)
	for ; ; time.Sleep(50 * time.Millisecond) {
		res, err := client.Get(fmt.Sprintf("http://%s/api/http/routers/chat%d@file", f.api, n))
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return fmt.Sprintf("http://127.0.0.1:%d", port)
			}
		}
		if time.Since(written) > 10*time.Second { // perhaps it was not told
			write()
			written = time.Now()
		}
		if time.Now().After(end) {
			t.Fatalf("Traefik does not take this in: %v\n%s", err, conf)
		}
	}
}
