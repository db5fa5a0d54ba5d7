package origins

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/engine"
)

// A watched server notes which tests' requests had the cookie.
type watched struct {
	port int

	mu   sync.Mutex
	with map[string]int // requests with the cookie, by the test's name
	all  map[string]int
}

func watch(t *testing.T, cors *engine.CORS) *watched {
	t.Helper()
	srv := atoll.NewServer(&atoll.Options{Engine: engine.Options{CORS: cors, Cookie: &http.Cookie{}, Logger: quiet}, Logger: quiet})
	atoll.Answer(srv.Of("/"), "hello", func(_ context.Context, _ *atoll.Socket, name string) (string, error) { return "hello " + name, nil })
	w := &watched{with: make(map[string]int), all: make(map[string]int)}
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("name")
		w.mu.Lock()
		w.all[name]++
		if _, err := r.Cookie("io"); err == nil {
			w.with[name]++
		}
		w.mu.Unlock()
		srv.ServeHTTP(rw, r)
	}))
	t.Cleanup(func() {
		srv.Close()
		web.Close()
	})
	w.port = web.Listener.Addr().(*net.TCPAddr).Port
	return w
}

// cookies says whether a test's requests had the cookie: "none", or "all" behind the handshake.
func (w *watched) cookies(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.with[name] {
	case 0:
		return "none"
	case w.all[name] - 1:
		return "all"
	}
	return fmt.Sprintf("%d of %d", w.with[name], w.all[name])
}

// pages serves an empty page with the official client, and returns its port.
func pages(t *testing.T) int {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><title>page</title><link rel="icon" href="data:,"><script src="/client.js"></script>`)
	})
	mux.HandleFunc("/client.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "../node_modules/socket.io/client-dist/socket.io.min.js")
	})
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	return web.Listener.Addr().(*net.TCPAddr).Port
}

type browserTest struct {
	Name        string   `json:"name"`
	URL         string   `json:"url"`
	Transports  []string `json:"transports"`
	Credentials bool     `json:"credentials"`

	server  *watched
	connect bool
	cookies string
}

type outcome struct {
	Name, Transport, Answer, Error string
	Connected                      bool
}

// TestOriginsInBrowser has pages of three origins use servers of four policies: one of another site, one of
// the same site on another port, and one that no policy names.
func TestOriginsInBrowser(t *testing.T) {
	need(t, "puppeteer-core")
	chromium := os.Getenv("CHROMIUM")
	if chromium == "" {
		chromium = "/usr/bin/chromium"
	}
	if _, err := exec.LookPath(chromium); err != nil {
		t.Skip("chromium is not installed")
	}
	friends, strangers := pages(t), pages(t)
	other, near := fmt.Sprintf("http://localhost:%d", friends), fmt.Sprintf("http://127.0.0.1:%d", friends)
	origins := []string{other, near}
	servers := map[string]*watched{
		"none":        watch(t, nil),
		"listed":      watch(t, &engine.CORS{Origins: origins}),
		"credentials": watch(t, &engine.CORS{Origins: origins, Credentials: true}),
		"any":         watch(t, &engine.CORS{Origins: []string{"*"}}),
	}
	type work struct {
		Page  string         `json:"page"`
		Tests []*browserTest `json:"tests"`
	}
	var all []work
	tests := make(map[string]*browserTest)
	for _, page := range []struct{ name, url string }{
		{"other site", other}, {"other port", near}, {"foreign", fmt.Sprintf("http://localhost:%d", strangers)},
	} {
		w := work{Page: page.url}
		for policy, s := range servers {
			for _, transports := range [][]string{{"polling"}, {"polling", "websocket"}, {"websocket"}} {
				for _, credentials := range []bool{false, true} {
					b := &browserTest{
						Name: fmt.Sprintf("%s, %s, %s, withCredentials %t", page.name, policy, strings.Join(transports, " then "), credentials),
						URL:  fmt.Sprintf("http://127.0.0.1:%d", s.port), Transports: transports, Credentials: credentials, server: s, cookies: "none",
					}
					// The server decides for all transports alike; the browser does for polling, where
					// a page that wants credentials needs to be told that it may have them.
					b.connect = policy == "any" || policy != "none" && page.name != "foreign"
					if credentials && transports[0] == "polling" {
						b.connect = b.connect && policy == "credentials"
					}
					// The cookie is of SameSite=Lax: another site gets none.
					if b.connect && credentials && transports[0] == "polling" && page.name == "other port" {
						b.cookies = "all"
					}
					w.Tests = append(w.Tests, b)
					tests[b.Name] = b
				}
			}
		}
		all = append(all, w)
	}

	in, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "browser/origins.mjs")
	cmd.Env = append(os.Environ(), "CHROMIUM="+chromium)
	cmd.Stdin, cmd.WaitDelay = bytes.NewReader(in), 10*time.Second
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // puppeteer ends its browser then
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the browser's script: %v\n%s", err, errs.String())
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var o outcome
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			t.Fatalf("got %q: %v", lines.Text(), err)
		}
		b := tests[o.Name]
		delete(tests, o.Name)
		if o.Connected != b.connect || b.connect && (o.Answer != "hello "+o.Name || o.Transport != b.Transports[len(b.Transports)-1]) {
			t.Errorf("%s: got %+v, want connected %t", b.Name, o, b.connect)
		}
		if got := b.server.cookies(b.Name); got != b.cookies {
			t.Errorf("%s: got the cookie in %s of its requests, want %s", b.Name, got, b.cookies)
		}
	}
	for name := range tests {
		t.Errorf("%s: got no result", name)
	}
}
