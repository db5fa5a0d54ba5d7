//go:build unix

package doctor

import (
	"net/http"
	"testing"
	"time"

	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/internal/doctor"
)

const page = "http://page.test"

var friendly = engine.Options{CORS: &engine.CORS{Origins: []string{page}, Credentials: true}}

func TestNothingAgainstWhatIsRight(t *testing.T) {
	for _, c := range []struct {
		name    string
		farm    farm
		front   front
		changes []string
		o       doctor.Options
		notes   []string // that are all right
		proxy   string
	}{
		{"one node, no proxy", farm{n: 1}, direct, nil, doctor.Options{}, nil, "unknown"},
		{"one Node.js node, no proxy", farm{n: 1, node: true}, direct, nil, doctor.Options{}, nil, "unknown"},
		{"nginx, hash", farm{}, nginx, nil, doctor.Options{}, nil, "nginx"},
		{"nginx, hash, CORS", farm{engine: friendly}, nginx, nil, doctor.Options{Origin: page, Credentials: true}, nil, "nginx"},
		{"nginx, one node", farm{n: 1}, nginx, nil, doctor.Options{}, nil, "nginx"},
		{"nginx, Node.js nodes", farm{node: true, cors: map[string]any{"origin": []string{page}, "credentials": true}}, nginx, nil,
			doctor.Options{Origin: page, Credentials: true}, nil, "nginx"},
		{"nginx, no stickiness, a cluster", farm{n: 3, one: true}, nginx, []string{"hash $remote_addr consistent;", ""}, doctor.Options{}, nil, "nginx"},
		{"nginx, as it is by itself", farm{}, nginx, []string{"proxy_request_buffering off;", "", "client_max_body_size 2m;", ""},
			doctor.Options{}, []string{"request-buffering"}, "nginx"},
		{"HAProxy, source", farm{}, haproxy, nil, doctor.Options{}, nil, "haproxy"},
		{"HAProxy, no stickiness, a cluster", farm{n: 3, one: true}, haproxy, []string{"balance source", "balance roundrobin"}, doctor.Options{}, nil, "haproxy"},
		{"HAProxy, by its cookie", farm{}, haproxy, []string{"balance source", "balance roundrobin\n  cookie serverid insert indirect nocache httponly"},
			doctor.Options{}, []string{"sticky-needs-cookie"}, "haproxy"},
		{"HAProxy, by the session id", farm{node: true, cookie: true}, haproxy, []string{"balance source",
			"balance roundrobin\n  stick-table type string len 40 size 200k expire 30m\n  stick store-response res.cook(io)\n  stick match urlp(sid)"},
			doctor.Options{}, nil, "haproxy"},
		{"HAProxy, by the cookie of the nodes", farm{engine: engine.Options{Cookie: &http.Cookie{}}}, haproxy,
			[]string{"balance source", "balance roundrobin\n  cookie io prefix indirect nocache"},
			doctor.Options{}, []string{"sticky-needs-cookie"}, "haproxy"},
		// As deploy/httpd says: it does not hold for what is passed on.
		{"httpd, LimitRequestBody", farm{}, httpd, before("<Location \"/socket.io/\">\n  LimitRequestBody 1000\n</Location>"),
			doctor.Options{}, []string{"request-buffering", "sticky-needs-cookie"}, "httpd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := c.front(t, c.farm.start(t), c.changes)
			r := check(t, url, c.o)
			for _, f := range r.Findings {
				if !contains(c.notes, f.ID) || f.Severity != doctor.Note {
					t.Errorf("got a finding: %+v", f)
				}
			}
			for _, id := range c.notes {
				if r.Find(id) == nil {
					t.Errorf("got %v, want the note %s", ids(r), id)
				}
			}
			if r.Proxy != c.proxy {
				t.Errorf("got the proxy %q, want %q", r.Proxy, c.proxy)
			}
			for _, name := range []string{"WebSocket", "long polls", "idle WebSockets", "events", "bodies"} {
				if fact(r, name) == "" {
					t.Errorf("got %v, want it to tell of %s", r.Facts, name)
				}
			}
			if want := map[bool]string{true: "Socket.IO", false: "Atoll"}[c.farm.node]; r.Server != want {
				t.Errorf("got the server %q, want %q", r.Server, want)
			}
		})
	}
}

// check looks at a deployment, as the command does.
func check(t *testing.T, url string, o doctor.Options) *doctor.Report {
	t.Helper()
	if o.Sessions == 0 {
		o.Sessions = 6
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	r, err := doctor.Check(t.Context(), url, &o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
