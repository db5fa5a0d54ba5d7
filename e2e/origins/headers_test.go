package origins

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/engine"
)

type object map[string]any

// configs are options of the official server and what ours has for them. listed are the origins
// among those asked for that they name; "every" has them name all.
var configs = []struct {
	name     string
	official object
	cors     *engine.CORS
	listed   []string
}{
	{"none", object{}, nil, nil},
	{"a string", object{"origin": a}, &engine.CORS{Origins: []string{a}}, []string{a}},
	{"a list", object{"origin": []string{a, b}}, &engine.CORS{Origins: []string{a, b}}, []string{a, b}},
	{"a list of one", object{"origin": []string{a}}, &engine.CORS{Origins: []string{a}}, []string{a}},
	{"any", object{"origin": "*"}, &engine.CORS{Origins: []string{"*"}}, every},
	{"a pattern", object{"origin": object{"pattern": `^https://[a-z]\.test$`}},
		&engine.CORS{OriginPatterns: []*regexp.Regexp{regexp.MustCompile(`(?i)https://[a-z]\.test`)}}, []string{a, b}},
	{"a pattern in a list", object{"origin": []any{"null", object{"pattern": `^https://b\.test$`}}},
		&engine.CORS{Origins: []string{"null"}, OriginPatterns: []*regexp.Regexp{regexp.MustCompile(`https://b\.test`)}}, []string{"null", b}},
	{"a function", object{"origin": object{"function": "b.test"}},
		&engine.CORS{OriginFunc: func(o string, _ *http.Request) bool { return strings.HasSuffix(o, "b.test") }}, []string{b}},
	{"true", object{"origin": true},
		&engine.CORS{OriginFunc: func(string, *http.Request) bool { return true }}, every},
	{"credentials", object{"origin": []string{a}, "credentials": true}, &engine.CORS{Origins: []string{a}, Credentials: true}, []string{a}},
	{"methods", object{"origin": []string{a}, "methods": []string{"GET", "POST"}},
		&engine.CORS{Origins: []string{a}, Methods: []string{"GET", "POST"}}, []string{a}},
	{"headers", object{"origin": []string{a}, "allowedHeaders": []string{"x-token", "x-b"}, "exposedHeaders": []string{"X-C", "X-D"}},
		&engine.CORS{Origins: []string{a}, Headers: []string{"x-token", "x-b"}, ExposedHeaders: []string{"X-C", "X-D"}}, []string{a}},
	{"any, with all", object{"origin": "*", "methods": "PUT", "exposedHeaders": "X-C", "maxAge": 60, "optionsSuccessStatus": 200},
		&engine.CORS{Origins: []string{"*"}, Methods: []string{"PUT"}, ExposedHeaders: []string{"X-C"}, MaxAge: time.Minute, PreflightStatus: 200}, every},
	{"not to be remembered", object{"origin": []string{a}, "maxAge": 0}, &engine.CORS{Origins: []string{a}, MaxAge: -1}, []string{a}},
}

const a, b, foreign = "https://a.test", "https://b.test", "https://foreign.test"

var every = []string{a, b, foreign, "null", "none"}

// questions are what both are asked. The origin is put in.
var questions = []struct{ name, line, headers string }{
	{"handshake", "GET /socket.io/?EIO=4&transport=polling", ""},
	{"error", "GET /socket.io/?EIO=4&transport=polling&sid=nobody", ""},
	{"unknown transport", "GET /socket.io/?EIO=4&transport=smoke", ""},
	{"old version", "GET /socket.io/?EIO=3&transport=polling", ""},
	{"POST", "POST /socket.io/?EIO=4&transport=polling&sid=nobody", "Content-Length: 2\r\nContent-Type: text/plain\r\n"},
	{"preflight", "OPTIONS /socket.io/?EIO=4&transport=polling", "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type,x-token\r\n"},
	{"preflight without headers", "OPTIONS /socket.io/?EIO=4&transport=polling", "Access-Control-Request-Method: GET\r\n"},
	{"WebSocket", "GET /socket.io/?EIO=4&transport=websocket", socket},
	{"WebSocket error", "GET /socket.io/?EIO=4&transport=websocket&sid=nobody", socket},
}

const socket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// An answer is what matters here of one.
type answer struct {
	status  int
	headers map[string]string
	body    string // of errors
}

func (a answer) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, a.status, a.body)
	for _, k := range slices.Sorted(maps.Keys(a.headers)) {
		fmt.Fprintf(&b, "  %s: %s\n", k, a.headers[k])
	}
	return b.String()
}

// compared are the headers that are.
var compared = regexp.MustCompile("^(Access-Control-.*|Vary|Set-Cookie|Content-Length)$")

// ask asks the server at the port.
func ask(t *testing.T, port int, line, headers string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	body := ""
	if strings.HasPrefix(line, "POST") {
		body = "1:"
	}
	fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n%s", line, port, headers, body)
	method, _, _ := strings.Cut(line, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	defer res.Body.Close()
	got := answer{status: res.StatusCode, headers: make(map[string]string)}
	for k, v := range res.Header {
		if compared.MatchString(k) && (k != "Content-Length" || method == http.MethodOptions && res.StatusCode < 300) {
			got.headers[k] = strings.Join(v, " & ")
		}
	}
	if res.StatusCode >= 400 {
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		got.body = string(b)
	}
	return got
}

// ours starts a server of ours with these options.
func ours(t *testing.T, o *engine.Options) (port int) {
	t.Helper()
	srv := atoll.NewServer(&atoll.Options{Engine: *o, Logger: quiet})
	web := httptest.NewServer(srv)
	t.Cleanup(func() {
		srv.Close()
		web.Close()
	})
	return web.Listener.Addr().(*net.TCPAddr).Port
}

func TestHeadersAreThoseOfTheOfficialServer(t *testing.T) {
	need(t)
	var options []any
	for _, c := range configs {
		o := object{}
		if len(c.official) > 0 {
			o["cors"] = c.official
		}
		options = append(options, o)
	}
	ports := official(t, options)
	used := make(map[string]bool)
	for i, c := range configs {
		t.Run(c.name, func(t *testing.T) {
			port := ours(t, &engine.Options{CORS: c.cors, Logger: quiet})
			for _, origin := range []string{"none", "own", a, b, foreign, "null", a + ", " + b, "two"} {
				var simple map[string]string
				for _, k := range questions {
					header := func(port int) string {
						switch origin {
						case "none":
							return k.headers
						case "own":
							return k.headers + fmt.Sprintf("Origin: http://127.0.0.1:%d\r\n", port)
						case "two":
							return k.headers + "Origin: " + a + "\r\nOrigin: " + b + "\r\n"
						}
						return k.headers + "Origin: " + origin + "\r\n"
					}
					q := question{
						config: c.name, name: k.name, origin: origin,
						foreign: !slices.Contains(c.listed, origin) && origin != "none" && origin != "own",
					}
					want := ask(t, ports[i], k.line, header(ports[i]))
					if k.name == "error" {
						simple = maps.Clone(want.headers)
					}
					q.simple = simple
					for _, d := range differences {
						before := want.String()
						d.change(q, &want)
						if want.String() != before {
							used[d.what] = true
						}
					}
					got := ask(t, port, k.line, header(port))
					if k := "Access-Control-Allow-Origin"; origin == "own" && got.headers[k] == fmt.Sprintf("http://127.0.0.1:%d", port) {
						got.headers[k] = "own"
					}
					if got.String() != want.String() {
						t.Errorf("%s, origin %s: got %vwant %v", k.name, origin, got, want)
					}
				}
			}
		})
	}
	for _, d := range differences {
		if !used[d.what] {
			t.Errorf("the difference is none any more: %s", d.what)
		}
	}
}

// A difference is one that we want: what the official server's answer is with us instead.
type difference struct {
	what, why string
	change    func(q question, a *answer)
}

type question struct {
	config, name string
	origin       string            // "none": no such header
	foreign      bool              // not of the server, and not allowed by the options
	simple       map[string]string // the headers of the official answer to a poll
}

var differences = []difference{
	{"a refused WebSocket is answered as polling is",
		"the official server answers in plain words that it calls text/html, and drops the headers",
		func(q question, a *answer) {
			if q.name != "WebSocket error" || a.status != 400 {
				return
			}
			a.body = `{"code":1,"message":"Session ID unknown"}`
			maps.Copy(a.headers, q.simple)
		}},
	{"a foreign origin is refused on every transport, with every method",
		"the official server leaves it to browsers not to show its answer to the page; what the request does has been done by then, and WebSockets just work. Several origins at once are foreign always",
		func(q question, a *answer) {
			if !q.foreign {
				return
			}
			*a = answer{403, map[string]string{"Vary": "Origin"}, `{"code":4,"message":"Origin not allowed"}`}
			if q.config == "none" || strings.HasPrefix(q.config, "any") {
				delete(a.headers, "Vary")
			}
		}},
	{"the server's own origin is allowed whatever the options are, and told so",
		"a server that names only others does not mean to lock its own pages out",
		func(q question, a *answer) {
			if q.origin == "own" && q.config != "none" && a.headers["Access-Control-Allow-Origin"] != "*" {
				a.headers["Access-Control-Allow-Origin"] = "own"
			}
		}},
	{"who has no origin is not told of one",
		"the official server names a single origin, given as a string, to all, and reflects one that is not there as no header; for browsers it is the same",
		func(q question, a *answer) {
			if q.origin == "none" && a.headers["Access-Control-Allow-Origin"] != "*" {
				delete(a.headers, "Access-Control-Allow-Origin")
			}
		}},
	{"a function is not asked about a request without an origin, nor about our own",
		"the official server asks, and if it says no, leaves out all the headers of CORS and has the preflight fail",
		func(q question, a *answer) {
			if q.config != "a function" || q.foreign || q.origin == b {
				return
			}
			a.headers["Vary"] = "Origin"
			if !strings.HasPrefix(q.name, "preflight") {
				return
			}
			a.status, a.body = 204, ""
			a.headers["Vary"] = "Origin, Access-Control-Request-Headers"
			a.headers["Access-Control-Allow-Methods"] = "GET,HEAD,PUT,PATCH,POST,DELETE"
			if q.name == "preflight" {
				a.headers["Access-Control-Allow-Headers"] = "content-type,x-token"
			}
		}},
	{"204 has no Content-Length",
		"RFC 9110, section 8.6",
		func(q question, a *answer) {
			if a.status == 204 {
				delete(a.headers, "Content-Length")
			}
		}},
}
