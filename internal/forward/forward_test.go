package forward

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// both are the two ways to another node.
var both = []string{"link", "carrier"}

// various answers as the path says.
func various(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	n, _ := strconv.Atoi(q.Get("n"))
	_, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/at/b"), "/")
	switch what {
	case "echo":
		b, err := io.ReadAll(r.Body)
		w.Header().Add("Vary", "a")
		w.Header().Add("Vary", "b")
		fmt.Fprintf(w, "%s %s %q %v %v %d %d %v\n", r.Method, r.Host, r.Header["X-Test"], r.Proto, err, len(b), r.ContentLength, r.TLS != nil)
		w.Write(b[:min(len(b), 1<<10)])
	case "none":
	case "status":
		w.WriteHeader(n)
	case "refuse": // without a look at the body
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	case "large":
		w.Write(pattern(n))
	case "sized":
		w.Header().Set("Content-Length", strconv.Itoa(n))
		w.Write(pattern(n))
	case "pieces":
		for b := pattern(n); len(b) > 0; {
			k := min(len(b), 1000)
			w.Write(b[:k])
			b = b[k:]
		}
	case "flush":
		io.WriteString(w, "one")
		http.NewResponseController(w).Flush()
		io.WriteString(w, "two")
		http.NewResponseController(w).Flush()
		io.WriteString(w, "three")
	case "panic":
		io.WriteString(w, "lost")
		panic(http.ErrAbortHandler)
	case "late panic":
		io.WriteString(w, "half of it")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case "close":
		w.Header().Set("Connection", "close")
		io.WriteString(w, "ok")
	case "short":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "only this")
	case "hijack":
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		io.WriteString(c, "HTTP/1.1 202 Taken\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
		c.Close()
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(i*i>>7)%26
	}
	return b
}

// TestForward makes each request at its owner and at another node, and compares what comes back.
func TestForward(t *testing.T) {
	body := func(n int) func(*http.Request) {
		return func(r *http.Request) {
			b := pattern(n)
			r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(bytes.NewReader(b)), int64(n)
		}
	}
	chunked := func(n int) func(*http.Request) {
		return func(r *http.Request) {
			body(n)(r)
			r.ContentLength = -1
		}
	}
	header := func(k string, vs ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[k] = vs }
	}
	method := func(m string) func(*http.Request) { return func(r *http.Request) { r.Method = m } }
	for _, way := range both {
		a, b := pair(t, way, http.HandlerFunc(various))
		for _, c := range []struct {
			path   string
			change func(*http.Request)
		}{
			{"echo", nil},
			{"echo?a=b&c=%20%2F", nil},
			{"echo", header("X-Test", "1", "2", "")},
			{"echo", header("X-Test", strings.Repeat("long ", 40_000))},
			{"echo", method("HEAD")},
			{"echo", method("OPTIONS")},
			{"echo", method("DELETE")},
			{"echo", body(0)},
			{"echo", body(1)},
			{"echo", body(4095)},
			{"echo", body(4096)},
			{"echo", body(4097)},
			{"echo", body(chunk)},
			{"echo", body(chunk + 1)},
			{"echo", body(window - 1)},
			{"echo", body(window + chunk + 1)},
			{"echo", body(defaultMaxBody)},
			{"echo", chunked(10)},
			{"echo", chunked(300_000)},
			{"refuse", body(10)},
			{"refuse", body(700_000)},
			{"refuse", body(defaultMaxBody + 1)},
			{"none", nil},
			{"status?n=204", nil},
			{"status?n=304", nil},
			{"status?n=400", nil},
			{"status?n=503", nil},
			{"large?n=2047", nil},
			{"large?n=2049", nil},
			{"large?n=49152", nil},
			{"large?n=49153", nil},
			{"large?n=300000", nil},
			{"sized?n=5000", nil},
			{"sized?n=3000000", nil},
			{"sized?n=3000000", method("HEAD")},
			{"pieces?n=500000", nil},
			{"flush", nil},
			{"panic", nil},
			{"late panic", nil},
			{"close", nil},
			{"short", nil},
			{"hijack", header("Upgrade", "h2c")},
		} {
			t.Run(way+"/"+c.path, func(t *testing.T) {
				var got [2]string
				for i, base := range []string{b.url + "/", a.url + "/at/b/"} {
					for range 5 { // a client that still writes may miss an answer
						r, err := http.NewRequest("GET", base+strings.ReplaceAll(c.path, " ", "%20"), nil)
						if err != nil {
							t.Fatal(err)
						}
						r.Host = "example.com"
						if c.change != nil {
							c.change(r)
						}
						status, body, h := do(t, r)
						h.Del("Date")
						if got[i] = fmt.Sprintf("%d %v %.60q… of %d", status, h, body, len(body)); status != 0 {
							break
						}
						got[i] = "no answer" // the client's words name the URL
					}
				}
				if c.path == "refuse" && slices.Contains(got[:], "no answer") {
					t.Skip("the client did not hear the answer while it wrote")
				}
				if diff := cmp.Diff(got[0], got[1]); diff != "" {
					t.Errorf("at the owner (-) and forwarded (+):\n%s", diff)
				}
			})
		}
		eventually(t, "an end of all", func() bool { return a.Stats().Waiting == 0 && b.Stats().Serving == 0 })
		if n := unread(a) + unread(b); n != 0 {
			t.Errorf("over the %s: got %d bytes that nobody has read, want none", way, n)
		}
	}
}

// unread returns how many bytes of bodies are unread on all lines of s.
func unread(s *site) (n int64) {
	for _, x := range s.view.Load().peers {
		x.mu.Lock()
		outs, ins := x.lines()
		x.mu.Unlock()
		for _, o := range outs {
			n += o.unread.Load()
		}
		for _, in := range ins {
			n += in.unread.Load()
		}
	}
	return n
}
