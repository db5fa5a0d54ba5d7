package demo

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func testSite(t *testing.T) http.Handler {
	missing := http.NotFoundHandler()
	return (&web{balancer: missing, observe: missing, sup: newTestSupervisor(t, "serves", 0)}).handler(true)
}

func TestPageIsWhole(t *testing.T) {
	site := testSite(t)
	for path, want := range map[string]string{
		"/": "<!doctype html>", "/assets/style.css": ":root", "/assets/main.js": "import", "/assets/chat.js": "class Chat",
		"/assets/sea.js": "class Sea", "/assets/nodes.js": "class Nodes", "/assets/icon.svg": "<svg", "/socket.io/socket.io.js": "Socket.IO v4.8.4",
	} {
		rec := httptest.NewRecorder()
		site.ServeHTTP(rec, httptest.NewRequest("GET", "http://localhost:3000"+path, nil))
		body := rec.Body.String()
		if rec.Code != 200 || !strings.Contains(body, want) {
			t.Errorf("GET %s: got %d and %.60q, want 200 and %q in it", path, rec.Code, body, want)
		}
		if strings.Contains(body, "sourceMappingURL") {
			t.Errorf("GET %s: names a source map, which nobody serves", path)
		}
		for line := range strings.Lines(body) {
			if path == "/" && (strings.Contains(line, "src=") || strings.Contains(line, "href=")) && strings.Contains(line, "//") {
				t.Errorf("GET %s: loads from elsewhere: %s", path, line)
			}
		}
	}
	for _, path := range []string{"/assets/../web.go", "/assets/chat.go", "/assets/", "/other"} {
		rec := httptest.NewRecorder()
		site.ServeHTTP(rec, httptest.NewRequest("GET", "http://localhost:3000"+path, nil))
		if rec.Code == 200 {
			t.Errorf("GET %s: got 200, want none", path)
		}
	}
}

func TestOnlyThePagePressesButtons(t *testing.T) {
	site := testSite(t)
	for _, c := range []struct {
		host, origin, fetchSite string
		want                    int
	}{
		{"localhost:3000", "http://localhost:3000", "same-origin", 409}, // allowed; the node is down already
		{"127.0.0.1:3000", "", "", 409},                                 // curl
		{"[::1]:3000", "", "", 409},
		{"localhost:3000", "http://evil.example", "cross-site", 403},
		{"localhost:3000", "http://evil.example", "", 403},
		{"evil.example:3000", "http://evil.example:3000", "same-origin", 421}, // a name that leads here
	} {
		r := httptest.NewRequest("POST", "http://"+c.host+"/demo/nodes/a/kill", nil)
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		if c.fetchSite != "" {
			r.Header.Set("Sec-Fetch-Site", c.fetchSite)
		}
		rec := httptest.NewRecorder()
		site.ServeHTTP(rec, r)
		if rec.Code != c.want {
			t.Errorf("host %s, origin %q, %q: got %d, want %d", c.host, c.origin, c.fetchSite, rec.Code, c.want)
		}
	}
	rec := httptest.NewRecorder()
	site.ServeHTTP(rec, httptest.NewRequest("GET", "http://localhost:3000/demo/nodes/a/kill", nil))
	if rec.Code != 405 {
		t.Errorf("GET of a button: got %d, want 405", rec.Code)
	}
}

func TestListenTakesTheNextFreePort(t *testing.T) {
	first, taken, err := Listen("127.0.0.1", 0)
	if err != nil || taken {
		t.Fatalf("any port: got taken %v, %v, want a listener", taken, err)
	}
	defer first.Close()
	port := first.Addr().(*net.TCPAddr).Port
	second, taken, err := Listen("127.0.0.1", port)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if got := second.Addr().(*net.TCPAddr).Port; !taken || got <= port {
		t.Errorf("port %d is taken: got port %d, taken %v, want a later one, taken", port, got, taken)
	}
	for _, c := range []struct {
		host string
		port int
	}{{"127.0.0.1", -1}, {"127.0.0.1", 65536}, {"203.0.113.7", 3000}, {"no such host", 3000}} {
		if l, _, err := Listen(c.host, c.port); err == nil {
			l.Close()
			t.Errorf("Listen(%q, %d): got a listener, want an error", c.host, c.port)
		}
	}
}
