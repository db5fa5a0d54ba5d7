package sticky

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAdmin(t *testing.T) {
	l := still(t, 2, nil)
	do := func(h http.Handler, method, target string, header ...string) *http.Response {
		r := httptest.NewRequest(method, target, nil)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result()
	}
	open, shut := l.Admin(&AdminOptions{Changes: true, Hosts: []string{"admin.example"}}), l.Admin(nil)
	const target = "http://127.0.0.1:9000"
	for _, c := range []struct {
		h      http.Handler
		method string
		target string
		header []string
		want   int
	}{
		{shut, "GET", target + "/", nil, 200},
		{shut, "GET", target + "/status.json", nil, 200},
		{shut, "GET", target + "/metrics", nil, 200},
		{shut, "POST", target + "/metrics", nil, 405},
		{shut, "GET", target + "/health", nil, 200},
		{shut, "GET", target + "/other", nil, 404},
		{shut, "POST", target + "/drain?backend=10.0.0.1:3000", nil, 404},
		{open, "GET", target + "/drain?backend=10.0.0.1:3000", nil, 405},
		{open, "POST", target + "/drain?backend=10.0.0.9:3000", nil, 404},
		{open, "POST", target + "/drain?backend=10.0.0.1:3000", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{open, "POST", target + "/drain?backend=10.0.0.1:3000", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{open, "POST", target + "/drain?backend=10.0.0.1:3000", []string{"Origin", "http://evil.example"}, 403},
		{open, "POST", "http://evil.example:9000/drain?backend=10.0.0.1:3000", []string{"Origin", "http://evil.example:9000", "Sec-Fetch-Site", "same-origin"}, 403},
	} {
		if got := do(c.h, c.method, c.target, c.header...); got.StatusCode != c.want {
			t.Errorf("%s %s %q: got %d, want %d", c.method, c.target, c.header, got.StatusCode, c.want)
		}
	}
	if got := l.Status().Backends[0].State; got != Up {
		t.Fatalf("got %v after refused requests, want up", got)
	}
	for _, host := range []string{"http://127.0.0.1:9000", "http://[::1]:9000", "http://localhost", "http://admin.example"} {
		if got := do(open, "POST", host+"/drain?backend=10.0.0.1:3000", "Accept", "text/html", "Sec-Fetch-Site", "same-origin"); got.StatusCode != 303 || l.Status().Backends[0].State != Draining {
			t.Errorf("%s: got %d, %v", host, got.StatusCode, l.Status().Backends[0].State)
		}
		got := do(open, "POST", host+"/undrain?backend=10.0.0.1:3000")
		var s Status
		if err := json.NewDecoder(got.Body).Decode(&s); err != nil || len(s.Backends) != 2 || s.Backends[0].State != Up {
			t.Errorf("%s: got %+v, %v", host, s, err)
		}
	}
	page := func(h http.Handler) string {
		text, _ := io.ReadAll(do(h, "GET", target+"/").Body)
		return string(text)
	}
	l.view.Load().list[0].failed(io.ErrUnexpectedEOF)
	l.SetBackends(Backend{URL: "10.0.0.1:3000", Name: `<script>"`}, Backend{URL: "10.0.0.2:3000"})
	if text := page(shut); strings.Contains(text, "<form") || strings.Contains(text, "<script") || !strings.Contains(text, "&lt;script&gt;") || !strings.Contains(text, "unexpected EOF") {
		t.Errorf("got %s", text)
	}
	if text := page(open); strings.Count(text, "<form") != 2 {
		t.Errorf("got %s", text)
	}
	l.Drain("10.0.0.1:3000", true)
	l.Drain("10.0.0.2:3000", true)
	if got := do(shut, "GET", target+"/health"); got.StatusCode != 503 {
		t.Errorf("health with no node: got %d, want 503", got.StatusCode)
	}
}

// TestAdminWords is the page's way to write figures.
func TestAdminWords(t *testing.T) {
	for n, want := range map[string]string{"0": "0", "999": "999", "1000": "1,000", "1234567": "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 59 * time.Second: "59 s", 61 * time.Second: "1 min", 26*time.Hour + 3*time.Minute: "26 h 3 min", 50 * time.Hour: "2 days",
	} {
		if got := roughly(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	var mu sync.Mutex
	var log []*Access
	l, base, _ := nodes(t, true, &Options{AccessLog: func(a *Access) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, a)
	}})
	logged := func(n int) { // a line comes after the answer
		t.Helper()
		waitFor(t, fmt.Sprint(n, " requests are logged"), func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(log) == n
		})
	}
	id := openSession(t, base)
	logged(1)
	url := base + polling + "&sid="
	do(t, "POST", url+id, "hello")
	logged(2)
	do(t, "GET", url+id, "")
	logged(3)
	do(t, "GET", base+"/page?x=1", "")
	logged(4)
	do(t, "GET", url+"unknown", "")
	logged(5)
	dialSocket(t, base, "", "")
	logged(6)
	w := httptest.NewRecorder()
	l.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text := w.Body.String()
	for _, want := range []string{
		`atoll_balancer_refused_total{reason="unknown_session"} 1`,
		`atoll_balancer_request_duration_seconds_count{operation="open"} 1`,
		`atoll_balancer_request_duration_seconds_count{operation="poll"} 2`,
		`atoll_balancer_request_duration_seconds_count{operation="post"} 1`,
		`atoll_balancer_request_duration_seconds_count{operation="websocket"} 1`,
		`atoll_balancer_request_duration_seconds_bucket{operation="other",le="+Inf"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "atoll_balancer_websockets{"); n != 3 {
		t.Errorf("%d nodes with WebSockets, want 3", n)
	}
	line := regexp.MustCompile(`^(# (HELP|TYPE) atoll_balancer_\w+ .+|atoll_balancer_\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [-0-9.e+]+)$`)
	for l := range strings.Lines(text) {
		if !line.MatchString(strings.TrimSuffix(l, "\n")) {
			t.Errorf("not a line of metrics: %q", l)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for i, want := range []Access{
		{Method: "GET", Path: "/socket.io/", Status: 200}, {Method: "POST", Path: "/socket.io/", Status: 200, Sent: 2},
		{Method: "GET", Path: "/socket.io/", Status: 200, Sent: 5}, {Method: "GET", Path: "/page", Status: 200, Sent: 1},
		{Method: "GET", Path: "/socket.io/", Status: 400, Sent: int64(len(unknownSession))}, {Method: "GET", Path: "/socket.io/", Status: 101},
	} {
		got := log[i]
		if got.Method != want.Method || got.Path != want.Path || got.Status != want.Status || want.Sent != 0 && got.Sent != want.Sent ||
			got.Client.Addr().String() != "127.0.0.1" || (got.Backend == "") != (i == 4) {
			t.Errorf("%d: got %+v, want %+v", i, got, want)
		}
	}
}

func TestLogFile(t *testing.T) {
	a := &Access{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Duration: 1500 * time.Microsecond, Client: netip.MustParseAddrPort("192.0.2.1:5"), Method: "GET",
		Host: "h", Path: "/socket.io/", Query: "EIO=4&%73id=secret&x=\"\n", Agent: "a\x1b\"b\\ü", Status: 200, Sent: 12, Backend: "n1", Session: "secret",
	}
	path := filepath.Join(t.TempDir(), "log")
	for _, c := range []struct {
		format LogFormat
		ids    bool
		want   string
	}{
		{CommonLog, false, `192.0.2.1 - - [02/Jan/2026:03:04:05 +0000] "GET /socket.io/?EIO=4&%73id=-&x=\x22\x0a HTTP/1.1" 200 12`},
		{"", true, `192.0.2.1 - - [02/Jan/2026:03:04:05 +0000] "GET /socket.io/?EIO=4&%73id=secret&x=\x22\x0a HTTP/1.1" 200 12 "-" "a\x1b\x22b\x5c\xc3\xbc" "n1" 0.0015 0`},
		{JSONLog, false, `{"time":"2026-01-02T03:04:05Z","client":"192.0.2.1","method":"GET","host":"h","target":"/socket.io/?EIO=4\u0026%73id=-\u0026x=\"\n","status":200,"sent":12,"seconds":0.0015,"backend":"n1","agent":"a\u001b\"b\\ü"}`},
	} {
		f, err := OpenLog(path, c.format, c.ids)
		if err != nil {
			t.Fatal(err)
		}
		f.Log(a)
		os.Rename(path, path+".1")
		if err := f.Reopen(); err != nil {
			t.Error(err)
		}
		f.Log(a)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		f.Log(a) // is lost
		for _, p := range []string{path, path + ".1"} {
			if got, _ := os.ReadFile(p); string(got) != c.want+"\n" {
				t.Errorf("%s: got %s, want %s", c.format, got, c.want)
			}
			os.Remove(p)
		}
	}
	if _, err := OpenLog(path, "w3c", false); err == nil {
		t.Error("format w3c: no error")
	}
}
