package engine

import (
	"bytes"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// originCases say whether a page of an origin may use a server: on each transport, and on upgrade.
var originCases = []struct {
	name   string
	cors   *CORS
	origin string
	header string // further ones
	ok     bool
}{
	{"none", nil, "", "", true},
	{"own", nil, "http://chat.test", "", true},
	{"own, with the default port", nil, "http://chat.test:80", "Host: chat.test\r\n", true},
	{"own, in capitals", nil, "http://CHAT.test", "", true},
	{"own over TLS in front of us", nil, "https://chat.test", "", true},
	{"own port, dropped by a proxy", nil, "http://chat.test:8080", "", true},
	{"other port", nil, "http://chat.test:8080", "Host: chat.test:9090\r\n", false},
	{"own name behind a proxy", nil, "https://public.test", "X-Forwarded-Host: public.test\r\n", true},
	{"own name behind two proxies", nil, "https://public.test", "X-Forwarded-Host: a.test, public.test\r\n", true},
	{"the browser says so", nil, "https://public.test", "Sec-Fetch-Site: same-origin\r\n", true},
	{"the browser says no", nil, "https://evil.test", "Sec-Fetch-Site: same-site\r\n", false},
	{"other", nil, "https://evil.test", "", false},
	{"null", nil, "null", "", false},
	{"other that begins alike", nil, "http://chat.test.evil.test", "", false},
	{"other that ends alike", nil, "http://evilchat.test", "", false},
	{"nonsense", nil, "://", "", false},
	{"listed", &CORS{Origins: []string{"https://a.test", "https://b.test"}}, "https://b.test", "", true},
	{"listed, other scheme", &CORS{Origins: []string{"https://a.test"}}, "http://a.test", "", false},
	{"not listed", &CORS{Origins: []string{"https://a.test"}}, "https://c.test", "", false},
	{"own beside a list", &CORS{Origins: []string{"https://a.test"}}, "http://chat.test", "", true},
	{"any", &CORS{Origins: []string{"*"}}, "https://x.test", "", true},
	{"any subdomain", &CORS{Origins: []string{"https://*.a.test"}}, "https://x.y.a.test", "", true},
	{"any subdomain, not itself", &CORS{Origins: []string{"https://*.a.test"}}, "https://.a.test", "", false},
	{"any subdomain, evil", &CORS{Origins: []string{"https://*.a.test"}}, "https://evil.test/x.a.test", "", false},
	{"any subdomain, other port", &CORS{Origins: []string{"https://*.a.test"}}, "https://x.a.test:1", "", false},
	{"function", &CORS{OriginFunc: func(o string, r *http.Request) bool { return strings.HasSuffix(o, ".f.test") }}, "https://x.f.test", "", true},
	{"pattern", &CORS{OriginPatterns: []*regexp.Regexp{regexp.MustCompile(`https://.*\.p\.test`)}}, "https://x.p.test", "", true},
	{"pattern, in the middle", &CORS{OriginPatterns: []*regexp.Regexp{regexp.MustCompile(`https://.*\.p\.test`)}}, "https://x.p.test.evil.test", "", false},
	{"pattern, at the end", &CORS{OriginPatterns: []*regexp.Regexp{regexp.MustCompile(`a.test|b.test`)}}, "https://a.test", "", false},
	{"pattern, without case", &CORS{OriginPatterns: []*regexp.Regexp{regexp.MustCompile(`(?i)https://[a-z]+\.test`)}}, "https://A.test", "", true},
	{"null, listed", &CORS{Origins: []string{"null"}}, "null", "", true},
	{"null, not listed", &CORS{Origins: []string{"https://a.test"}}, "null", "", false},
	{"null, any", &CORS{Origins: []string{"*"}}, "null", "", true},
	{"function says no", &CORS{OriginFunc: func(o string, r *http.Request) bool { return false }}, "https://x.f.test", "", false},
}

func TestOrigin(t *testing.T) {
	for _, c := range originCases {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, &Options{CORS: c.cors}, nil, func(g *rig) {
				g.host = "chat.test"
				headers := c.header
				if c.origin != "" {
					headers += "Origin: " + c.origin + "\r\n"
				}
				want := func(good int) int {
					if c.ok {
						return good
					}
					return 403
				}
				check := func(what string, got, want int) {
					t.Helper()
					if got != want {
						t.Errorf("%s: got %d, want %d", what, got, want)
					}
				}
				id := g.openPoll()
				check("polling", g.raw("GET /?EIO=4&transport=polling HTTP/1.1\r\n"+headers), want(200))
				check("POST", g.raw("POST /?"+poll(id)+" HTTP/1.1\r\nContent-Length: 2\r\n"+headers+"\r\n4x"), want(200))
				ws := "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
				check("WebSocket", g.raw("GET /?EIO=4&transport=websocket HTTP/1.1\r\n"+ws+headers), want(101))
				check("upgrade", g.raw("GET /?EIO=4&transport=websocket&sid="+id+" HTTP/1.1\r\n"+ws+headers), want(101))
			})
		})
	}
}

// raw sends a request that was written by hand, without Host and the end of the headers where they
// are missing, and returns the status.
func (g *rig) raw(req string) int {
	g.Helper()
	if !strings.Contains(req, "Host: ") || strings.Contains(req, "Forwarded-Host: ") {
		line, rest, _ := strings.Cut(req, "\r\n")
		req = line + "\r\nHost: " + g.host + "\r\n" + rest
	}
	if !strings.Contains(req, "\r\n\r\n") {
		req += "\r\n"
	}
	conn, err := g.dial()
	if err != nil {
		g.Fatal(err)
	}
	defer conn.Close()
	go conn.Write([]byte(req))
	return (&wsClient{TB: g.TB, Conn: conn}).response().StatusCode
}

func TestCORSHeaders(t *testing.T) {
	ask := []string{"Origin", "https://a.test", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-token"}
	for _, c := range []struct {
		name      string
		cors      *CORS
		method    string
		status    int
		want      map[string]string
		wantEmpty []string
	}{
		{"not configured", nil, "OPTIONS", 403, nil, []string{"Access-Control-Allow-Origin"}},
		{"simple", &CORS{Origins: []string{"https://a.test"}}, "GET", 200,
			map[string]string{"Access-Control-Allow-Origin": "https://a.test", "Vary": "Origin"},
			[]string{"Access-Control-Allow-Methods", "Access-Control-Allow-Credentials"}},
		{"any", &CORS{Origins: []string{"*"}}, "GET", 200,
			map[string]string{"Access-Control-Allow-Origin": "*", "Vary": ""}, nil},
		{"credentials", &CORS{Origins: []string{"https://a.test"}, Credentials: true, ExposedHeaders: []string{"X-A", "X-B"}}, "GET", 200,
			map[string]string{"Access-Control-Allow-Credentials": "true", "Access-Control-Expose-Headers": "X-A,X-B"}, nil},
		{"preflight", &CORS{Origins: []string{"https://a.test"}}, "OPTIONS", 204,
			map[string]string{"Access-Control-Allow-Methods": "GET,HEAD,PUT,PATCH,POST,DELETE", "Access-Control-Allow-Headers": "x-token", "Vary": "Origin, Access-Control-Request-Headers"},
			[]string{"Access-Control-Max-Age"}},
		{"preflight, all set", &CORS{Origins: []string{"https://a.test"}, Methods: []string{"GET", "POST"}, Headers: []string{"x-a", "x-b"}, MaxAge: time.Hour, ExposedHeaders: []string{"X-E"}, PreflightStatus: 200}, "OPTIONS", 200,
			map[string]string{"Access-Control-Allow-Methods": "GET,POST", "Access-Control-Allow-Headers": "x-a,x-b", "Access-Control-Max-Age": "3600", "Access-Control-Expose-Headers": "X-E", "Vary": "Origin"}, nil},
		{"preflight, not to be remembered", &CORS{Origins: []string{"*"}, MaxAge: -1}, "OPTIONS", 204,
			map[string]string{"Access-Control-Max-Age": "0", "Access-Control-Allow-Origin": "*", "Vary": "Access-Control-Request-Headers"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, &Options{CORS: c.cors}, nil, func(g *rig) {
				status, _, h := g.do(c.method, "EIO=4&transport=polling", "", ask...)
				if status != c.status {
					t.Errorf("got %d, want %d", status, c.status)
				}
				for k, want := range c.want {
					if got := h.Get(k); got != want {
						t.Errorf("%s: got %q, want %q", k, got, want)
					}
				}
				for _, k := range c.wantEmpty {
					if got := h.Get(k); got != "" {
						t.Errorf("%s: got %q, want none", k, got)
					}
				}
				// The page may read errors too.
				_, _, h = g.do("GET", "EIO=9&transport=polling", "", ask...)
				if got := h.Get("Access-Control-Allow-Origin"); (got != "") != (c.cors != nil) {
					t.Errorf("error: got Access-Control-Allow-Origin %q", got)
				}
			})
		})
	}
}

func TestRefusedOriginIsLogged(t *testing.T) {
	var log bytes.Buffer
	o := &Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	inMemory(t, o, nil, func(g *rig) {
		for range 100 {
			g.do("GET", "EIO=4&transport=polling", "", "Origin", "https://other.test")
		}
		if got := strings.Count(log.String(), "\n"); got != 1 {
			t.Errorf("got %d lines, want 1", got)
		}
		for _, want := range []string{"Options.CORS.Origins", "https://other.test"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("got %q, want %q in it", log.String(), want)
			}
		}
		time.Sleep(warnEvery)
		g.do("GET", "EIO=4&transport=polling", "", "Origin", "https://other.test")
		if got := strings.Count(log.String(), "\n"); got != 2 {
			t.Errorf("got %d lines, want 2", got)
		}
		if got := g.s.Stats(); got.RefusedOrigin != 101 || got.Refused[ErrForbidden] != 101 {
			t.Errorf("got %+v, want 101 refused", got)
		}
	})
}

func TestCORSValidate(t *testing.T) {
	for _, c := range []struct {
		cors CORS
		want string // in the error; empty: none
	}{
		{CORS{Origins: []string{"*"}}, ""},
		{CORS{Origins: []string{"null", "https://a.test", "https://*.a.test:8443"}, Credentials: true}, ""},
		{CORS{Origins: []string{"*"}, Credentials: true}, "exclude each other"},
		{CORS{Origins: []string{"a.test"}}, `"https://example.com"`},
		{CORS{Origins: []string{"https://a.test/"}}, `"https://example.com"`},
		{CORS{Origins: []string{"https://*.*.test"}}, `"https://example.com"`},
		{CORS{OriginPatterns: []*regexp.Regexp{regexp.MustCompile("a"), nil}}, "OriginPatterns[1] is nil"},
		{CORS{PreflightStatus: 404}, "200 to 299"},
	} {
		err := (&Options{CORS: &c.cors}).Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: got %v, want %q", c.cors, err, c.want)
		}
	}
}
