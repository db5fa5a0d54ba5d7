package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAddress(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"example.com", "http://example.com/socket.io/"},
		{"https://example.com/", "https://example.com/socket.io/"},
		{"wss://example.com/chat/?token=x#y", "https://example.com/chat/?token=x"},
		{"ws://[::1]:3000", "http://[::1]:3000/socket.io/"},
		{"ftp://example.com", ""},
		{"http://", ""},
		{"http://a b", ""},
	} {
		u, err := parseAddress(c.in)
		if c.want == "" {
			if err == nil {
				t.Errorf("%s: got %s, want an error", c.in, u)
			}
			continue
		}
		if err != nil || u.String() != c.want {
			t.Errorf("%s: got %v, %v, want %s", c.in, u, err, c.want)
		}
	}
}

// A report is shown to others: no token of the URL, and no session id, is in it.
func TestNothingSecretIsShown(t *testing.T) {
	u, err := parseAddress("https://example.com/?token=se%20cret&x")
	if err != nil {
		t.Fatal(err)
	}
	v := &visit{u: u}
	if got, want := v.short(v.target("polling", "0123456789")), "/socket.io/?token=…&x&EIO=4&transport=polling&t=atoll1&sid=012345…"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := shown(u), "https://example.com/socket.io/?token=…&x"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	_, err = Check(t.Context(), "http://127.0.0.1:1/?token=secret", nil)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error without the token", err)
	}
}

// What answers repeat of the URL is not in the report either.
func TestNothingSecretIsRepeated(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, strings.Replace(r.RequestURI, "/socket.io/?", "/other/?", 1), http.StatusFound)
		},
		"a redirect to nowhere": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "odd:"+r.RequestURI)
			w.WriteHeader(http.StatusFound)
		},
		"a page": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "There is no ", r.RequestURI)
		},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(h)
			defer web.Close()
			r, err := Check(t.Context(), web.URL+"/?token="+strings.Repeat("secret", 100), &Options{Quick: true, Timeout: 10 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := json.Marshal(r); len(r.Findings) == 0 || strings.Contains(string(b), "secret") {
				t.Errorf("got %s, want findings, without the token", b)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for _, o := range []Options{{Sessions: 1}, {Sessions: 201}, {Origin: "example.com"}, {Origin: "https://a/b"}, {Proxy: "squid"}, {Health: "health"}} {
		_, err := Check(t.Context(), "http://127.0.0.1:1", &o)
		if _, ok := errors.AsType[*UsageError](err); !ok {
			t.Errorf("%+v: got %v, want a *UsageError", o, err)
		}
	}
	_, err := Check(t.Context(), "http://127.0.0.1:1", nil)
	if _, ok := errors.AsType[*UnreachableError](err); !ok {
		t.Errorf("got %v, want an *UnreachableError", err)
	}
}

// TestEachFindingHasAMend reads the findings out of the source: who adds one says how it is mended.
func TestEachFindingHasAMend(t *testing.T) {
	none := []string{ // nothing that is written in a file
		"no-answer", "redirect-loop", "no-polling", "refused", "ping-slow", "compressed", "odd-answers",
		"cookies-many", "cookie-script", "cookie-path", "addresses-differ", "draining", "certificate-ends",
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`(?:found\(|id, title :?= |case )"([a-z0-9-]+)"`)
	seen := make(map[string]bool)
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") || f.Name() == "mend.go" {
			continue
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range id.FindAllSubmatch(b, -1) {
			if bytes.HasPrefix(m[1], []byte("http")) && string(m[1]) != "http2" || string(m[1]) == "ws" || string(m[1]) == "wss" {
				continue // schemes
			}
			seen[string(m[1])] = true
		}
	}
	if len(seen) < 35 {
		t.Errorf("got %d findings, want all", len(seen))
	}
	for id := range seen {
		for _, server := range []string{atoll, nodeJS} {
			if got := len(mends(id, "unknown", server, "")) > 0; got == slices.Contains(none, id) && !(id == "version" && server == atoll) {
				t.Errorf("%s with %s: got mends: %t", id, server, got)
			}
		}
	}
	for id := range cures {
		if !seen[id] {
			t.Errorf("there is a mend for %s, which nobody finds", id)
		}
		for _, m := range cures[id] {
			if m.File == "" || m.Line == "" && m.Note == "" {
				t.Errorf("%s: got %+v, want a file and a line", id, m)
			}
		}
	}
}

func TestMends(t *testing.T) {
	got := mends("cors-star-credentials", "nginx", atoll, "https://a.test")
	if len(got) != 2 || got[0].Program != atoll || !strings.Contains(got[0].Line, "https://a.test") || got[1].Program != "nginx" {
		t.Errorf("got %+v, want those of Atoll and nginx", got)
	}
	if got := mends("body-limit", "unknown", atoll, ""); len(got) < 5 {
		t.Errorf("got %+v, want those of all proxies", got)
	}
}

func TestSite(t *testing.T) {
	for _, c := range []struct{ a, b string }{{"app.example.com", "chat.example.com"}, {"example.com", "x.example.com"}, {"127.0.0.1", "127.0.0.1"}} {
		if siteOf(c.a) != siteOf(c.b) {
			t.Errorf("%s and %s: got two sites, want one", c.a, c.b)
		}
	}
	if siteOf("127.0.0.1") == siteOf("10.0.0.1") || siteOf("a.com") == siteOf("b.com") {
		t.Error("got one site, want two")
	}
}

// TestStrangers has whatever answers, and checks that the look ends, with something to say.
func TestStrangers(t *testing.T) {
	open := func(w http.ResponseWriter, more string) {
		fmt.Fprintf(w, `0{"sid":"x%s","upgrades":["websocket"],"pingInterval":100,"pingTimeout":100,"maxPayload":100000}`, more)
	}
	for name, h := range map[string]http.HandlerFunc{
		"nothing":  func(w http.ResponseWriter, r *http.Request) {},
		"a hang":   func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"a break":  func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"odd JSON": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `0{"sid":7}`) },
		"large numbers": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `0{"sid":"x y\r\n&","upgrades":[],"pingInterval":9223372036854775807,"pingTimeout":-1,"maxPayload":9223372036854775807}`)
		},
		"always the same": func(w http.ResponseWriter, r *http.Request) { open(w, "") },
		"a redirect to itself": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		},
		"a redirect to nowhere": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "javascript:alert(1)")
			w.WriteHeader(302)
		},
		"odd cookies": func(w http.ResponseWriter, r *http.Request) {
			for i := range 100 {
				w.Header().Add("Set-Cookie", fmt.Sprintf("c%d=;;; Path=\x7f", i))
			}
			open(w, r.RemoteAddr)
		},
		"an endless body": func(w http.ResponseWriter, r *http.Request) {
			for b := make([]byte, 1<<20); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewUnstartedServer(h)
			web.Config.ErrorLog = nil
			web.Start()
			defer web.Close()
			r, err := Check(t.Context(), web.URL, &Options{Sessions: 2, Timeout: 200 * time.Millisecond, MaxBody: 10_000})
			if err != nil {
				t.Fatal(err)
			}
			if r.Healthy() {
				t.Errorf("got nothing to mend: %+v", r)
			}
		})
	}
}

// TestBytes has what is no HTTP answer.
func TestBytes(t *testing.T) {
	for name, text := range map[string]string{
		"no HTTP":         "SSH-2.0-OpenSSH\r\n",
		"endless headers": "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("x", 4000)+"\r\n", 6000),
		"an odd frame":    "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var group sync.WaitGroup
			group.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					group.Go(func() {
						defer c.Close()
						c.SetDeadline(time.Now().Add(5 * time.Second))
						_, _ = c.Read(make([]byte, 1000))
						_, _ = c.Write([]byte(text))
					})
				}
			})
			defer group.Wait()
			defer l.Close()
			r, err := Check(t.Context(), "http://"+l.Addr().String(), &Options{Timeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if r.Healthy() {
				t.Errorf("got nothing to mend: %+v", r)
			}
		})
	}
}

// TestEnd has the context end in the middle.
func TestEnd(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer web.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Check(ctx, web.URL, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of the context", err)
	}
}

// A report has no cookie's value, and takes no hint for an answer.
func TestHintsAndSecrets(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Add("Set-Cookie", `quoted="secret"; Path=/; HttpOnly`)
		w.Header().Add("Set-Cookie", "spaced = secret")
		w.Header().Add("Set-Cookie", "plain=secret; SameSite=None")
		fmt.Fprint(w, `0{"sid":"x","upgrades":[],"pingInterval":100,"pingTimeout":100,"maxPayload":100}`)
	}))
	defer web.Close()
	r, err := Check(t.Context(), web.URL, &Options{Sessions: 2, Quick: true, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if all := fmt.Sprintf("%+v", r); strings.Contains(all, "secret") || !strings.Contains(all, "quoted=…; Path=/; HttpOnly") {
		t.Errorf("got %s, want the cookies without their values", all)
	}
	if r.Find("cookie-none-insecure") == nil || r.Find("not-socketio") != nil {
		t.Errorf("got %+v, want the answer behind the hints looked at", r.Findings)
	}
}
