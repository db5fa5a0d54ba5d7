package sticky

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/internal/sid"
)

// nodes starts three nodes and a balancer in front.
func nodes(t testing.TB, atoll bool, o *Options) (*Balancer, string, []*node) {
	t.Helper()
	var ns []*node
	var urls []string
	for _, name := range []string{"a", "b", "c"} {
		n := start(t, name, atoll)
		ns = append(ns, n)
		urls = append(urls, n.url)
	}
	l, srv := balance(t, o, urls...)
	l.settled(t.Context())
	return l, srv.URL, ns
}

func TestSessionsStayOnTheirNode(t *testing.T) {
	for _, atoll := range []bool{true, false} {
		t.Run(fmt.Sprintf("atoll=%t", atoll), func(t *testing.T) {
			l, base, _ := nodes(t, atoll, nil)
			home := map[string]string{}
			for i := range 12 {
				id := openSession(t, base)
				home[id] = talk(t, base, id, fmt.Sprint("m", i))
			}
			for range 3 {
				for id, name := range home {
					if got := talk(t, base, id, "again\x00\xff\x1e"); got != name {
						t.Fatalf("session went to %s, want %s", got, name)
					}
				}
			}
			spread := map[string]int{}
			for _, name := range home {
				spread[name]++
			}
			for _, name := range []string{"a", "b", "c"} {
				if spread[name] != 4 {
					t.Errorf("spread %v, want 4 each", spread)
				}
			}
			if got := l.Status().Sessions; got != 12 {
				t.Errorf("got %d sessions, want 12", got)
			}
		})
	}
}

// A balancer that was just started knows the ids of Atoll nodes, and those of no others.
func TestRestart(t *testing.T) {
	_, base, ns := nodes(t, true, nil)
	id := openSession(t, base)
	var urls []string
	for _, n := range ns {
		urls = append(urls, n.url)
	}
	l, srv := balance(t, nil, urls...)
	talk(t, srv.URL, id, "hello")
	if got := l.Status().Sessions; got != 1 {
		t.Errorf("got %d sessions, want the one that was there before", got)
	}
	resp, body := do(t, "GET", srv.URL+polling+"&sid="+sid.New(sid.TagOf("stranger")), "")
	if resp.StatusCode != 400 || body != unknownSession {
		t.Errorf("unknown session: got %d %s, want 400 %s", resp.StatusCode, body, unknownSession)
	}
}

// One kept-alive connection carries the requests of two sessions on two nodes, by turns.
func TestKeepAliveMixed(t *testing.T) {
	_, base, _ := nodes(t, true, nil)
	ids := []string{openSession(t, base), openSession(t, base)}
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	br := bufio.NewReader(c)
	from := map[string]string{}
	for i := range 20 {
		id := ids[i%2]
		msg := fmt.Sprintf("%d\r\n\r\nGET / HTTP/1.1\r\n\x00\xfe%s", i, strings.Repeat("x", i*1000))
		for _, req := range []string{
			fmt.Sprintf("POST %s&sid=%s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", polling, id, len(msg), msg),
			fmt.Sprintf("GET %s&sid=%s HTTP/1.1\r\nHost: h\r\n\r\n", polling, id),
		} {
			io.WriteString(c, req)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("request %d: status %d, %v", i, resp.StatusCode, err)
			}
			if name := resp.Header.Get("From"); name != "" {
				if string(body) != msg {
					t.Fatalf("request %d: got %.40q, want %.40q", i, body, msg)
				}
				if from[id] != "" && from[id] != name {
					t.Fatalf("request %d came from %s, want %s", i, name, from[id])
				}
				from[id] = name
			}
		}
	}
	if from[ids[0]] == from[ids[1]] {
		t.Errorf("both sessions on %s", from[ids[0]])
	}
}

func TestPolicies(t *testing.T) {
	for p := LeastConnections; p <= Random; p++ {
		t.Run(p.String(), func(t *testing.T) {
			l, base, _ := nodes(t, true, &Options{Policy: p})
			var wg sync.WaitGroup
			for range 30 { // all at once
				wg.Go(func() {
					if _, _, err := try("GET", base+polling, ""); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for _, b := range l.Status().Backends {
				if p == RoundRobin && b.Sessions != 10 || p == LeastConnections && (b.Sessions < 9 || b.Sessions > 11) || b.Sessions > 25 {
					t.Errorf("%s: got %d sessions, want 10", b.Name, b.Sessions)
				}
			}
			if q, err := ParsePolicy(p.String()); q != p || err != nil {
				t.Errorf("ParsePolicy(%q) = %v, %v", p, q, err)
			}
		})
	}
}

// A node that comes late is filled up first; requests do not count as sessions.
func TestLeastConnectionsCountsSessions(t *testing.T) {
	a, b := start(t, "a", true), start(t, "b", true)
	l, srv := balance(t, nil, a.url)
	ids := []string{openSession(t, srv.URL), openSession(t, srv.URL)}
	ws := dialSocket(t, srv.URL, "", "")
	ws.expect(t, "a")
	for range 10 {
		talk(t, srv.URL, ids[0], "busy")
	}
	if err := l.SetBackends(Backend{URL: a.url}, Backend{URL: b.addr, Name: "new"}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the new node is up", func() bool { return l.Status().Backends[1].State == Up })
	for range 3 {
		openSession(t, srv.URL)
	}
	s := l.Status()
	if s.Backends[0].Sessions != 3 || s.Backends[1].Sessions != 3 || s.Backends[1].Name != "new" {
		t.Errorf("got %+v, want 3 sessions on each", s.Backends)
	}
	// A session that says goodbye, and a WebSocket that ends, are not counted any more.
	do(t, "POST", srv.URL+polling+"&sid="+ids[0], "1")
	do(t, "POST", srv.URL+polling+"&sid="+ids[1], "6\x1e1")
	if resp, body := do(t, "GET", srv.URL+polling+"&sid="+ids[1], ""); body != "6\x1e1" {
		t.Fatalf("got %d %q", resp.StatusCode, body)
	}
	ws.Close()
	waitFor(t, "the sessions are gone", func() bool { return l.Status().Backends[0].Sessions == 0 })
	if b, err := json.Marshal(l.Status()); err != nil || !strings.Contains(string(b), `"state":"up"`) {
		t.Errorf("status as JSON: %s, %v", b, err)
	}
}

func TestDrainAndRemove(t *testing.T) {
	l, base, ns := nodes(t, true, nil)
	id := openSession(t, base)
	home := talk(t, base, id, "x")
	if !l.Drain(ns[0].url, true) || l.Drain("nobody", true) {
		t.Fatal("Drain did not find the node, or found one that is not there")
	}
	l.Drain(ns[1].addr, true)
	for range 3 {
		if got := talk(t, base, openSession(t, base), "x"); got != "c" {
			t.Errorf("new session went to %s, want c", got)
		}
	}
	if got := talk(t, base, id, "y"); got != home {
		t.Errorf("drained session went to %s, want %s", got, home)
	}
	if s := l.Status().Backends; s[0].State != Draining || s[2].State != Up {
		t.Errorf("got %v, %v; want draining, up", s[0].State, s[2].State)
	}
	poll := make(chan string)
	go func() {
		resp, body, err := try("GET", base+polling+"&sid="+id, "")
		if err != nil {
			poll <- err.Error()
			return
		}
		poll <- fmt.Sprint(resp.StatusCode, body)
	}()
	waitFor(t, "the poll is under way", func() bool { return active(l) == 1 })
	if err := l.SetBackends(); err != nil {
		t.Fatal(err)
	}
	if got, want := <-poll, "400"+unknownSession; got != want {
		t.Errorf("poll of a removed node: got %s, want %s", got, want)
	}
	resp, body := do(t, "GET", base+polling, "")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "no Socket.IO node") {
		t.Errorf("without nodes: got %d %q", resp.StatusCode, body)
	}
}

func active(l *Balancer) (n int64) {
	for _, b := range l.Status().Backends {
		n += b.Active
	}
	return n
}

// A node that answers its checks with 503 keeps its sessions and gets no new ones.
func TestHealth503Drains(t *testing.T) {
	n := start(t, "a", true)
	l, srv := balance(t, &Options{Health: Health{Interval: 20 * time.Millisecond}}, n.url)
	id := openSession(t, srv.URL)
	n.health.Store(503)
	waitFor(t, "the node drains", func() bool { return l.Status().Backends[0].State == Draining })
	talk(t, srv.URL, id, "still here")
	if resp, _ := do(t, "GET", srv.URL+polling, ""); resp.StatusCode != 503 {
		t.Errorf("new session: got %d, want 503", resp.StatusCode)
	}
	n.health.Store(500)
	waitFor(t, "the node is down", func() bool { return l.Status().Backends[0].State == Down })
	n.health.Store(404)
	waitFor(t, "the node is up", func() bool { return l.Status().Backends[0].State == Up })
}

func TestOtherRequests(t *testing.T) {
	_, base, _ := nodes(t, true, nil)
	seen := map[string]bool{}
	for range 6 {
		resp, body := do(t, "GET", base+"/page", "")
		if resp.StatusCode != 200 {
			t.Fatalf("got %d", resp.StatusCode)
		}
		seen[body] = true
	}
	if len(seen) != 3 {
		t.Errorf("pages came from %v, want all three nodes", seen)
	}

	fallback := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "mine") })
	_, base, _ = nodes(t, true, &Options{Fallback: fallback, Path: "socket.io"})
	if _, body := do(t, "GET", base+"/page", ""); body != "mine" {
		t.Errorf("got %q, want mine", body)
	}
	openSession(t, base)
}

func TestForwardedHeaders(t *testing.T) {
	got := make(chan http.Header, 1)
	host := make(chan string, 1)
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			return
		}
		got <- r.Header.Clone()
		host <- r.Host
		w.WriteHeader(http.StatusTeapot)
	})
	n := &node{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.srv, n.done = &http.Server{Handler: echo}, make(chan struct{})
	go func() { defer close(n.done); n.srv.Serve(l) }()
	t.Cleanup(n.stop)

	for _, trusted := range []bool{false, true} {
		o := &Options{}
		want := http.Header{"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"chat.example"}}
		if trusted {
			o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			want = http.Header{"X-Forwarded-For": {"9.9.9.9, 8.8.8.8, 127.0.0.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"outer.example"}}
		}
		_, srv := balance(t, o, "http://"+l.Addr().String())
		for _, upgrade := range []string{"", "Connection: upgrade, X-Secret\r\nUpgrade: websocket\r\n", "Connection: upgrade\r\n", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"} {
			c, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: chat.example\r\nX-Forwarded-For: 9.9.9.9\r\nx-forwarded-for: 8.8.8.8\r\nForwarded: for=9.9.9.9\r\n"+
				"X-Forwarded-Host: outer.example\r\nX-Forwarded-Proto: https\r\nCookie: io=1\r\nX-Secret: s\r\nKeep-Alive: 5\r\n%s\r\n", polling, upgrade)
			h := <-got
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != http.StatusTeapot {
				t.Fatalf("got %v, %v", resp, err)
			}
			c.Close()
			for name := range want {
				if h.Get(name) != want.Get(name) || len(h[name]) != 1 {
					t.Errorf("trusted=%t %q: %s: got %q, want %q", trusted, upgrade, name, h[name], want.Get(name))
				}
			}
			ws := strings.Contains(upgrade, "websocket")
			if h.Get("Cookie") != "io=1" || h.Get("Keep-Alive")+h.Get("Forwarded")+h.Get("User-Agent") != "" || ws != (h.Get("Upgrade") != "") ||
				ws && h.Get("X-Secret") != "" {
				t.Errorf("%q: header %v", upgrade, h)
			}
			if got := <-host; got != "chat.example" {
				t.Errorf("host: got %s", got)
			}
		}
	}
}

func TestBadOptions(t *testing.T) {
	for _, o := range []*Options{
		{Backends: []Backend{{URL: "ftp://x"}}},
		{Backends: []Backend{{URL: "http://"}}},
		{Backends: []Backend{{URL: "http://a:1/path"}}},
		{Backends: []Backend{{URL: "a:1"}, {URL: "http://a:1"}}},
		{Policy: 7},
		{Health: Health{Path: "health"}},
		{MaxSessions: -1},
	} {
		if l, err := New(o); err == nil {
			l.Close()
			t.Errorf("%+v: got no error", o)
		}
	}
}

func TestShutdown(t *testing.T) {
	l, base, _ := nodes(t, true, nil)
	id := openSession(t, base)
	ws := dialSocket(t, base, "", "")
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- l.Shutdown(ctx) }()
	waitFor(t, "the nodes drain", func() bool { return l.Status().Backends[0].State == Draining })
	talk(t, base, id, "last words")
	if resp, _ := do(t, "GET", base+polling, ""); resp.StatusCode != 503 {
		t.Errorf("new session: got %d, want 503", resp.StatusCode)
	}
	if len(ended) > 0 {
		t.Error("Shutdown has not waited for what is under way")
	}
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Errorf("got %v, want that of the context", err)
	}
	ws.expectEnd(t)
	if resp, _, err := try("GET", base+polling+"&sid="+id, ""); err == nil {
		t.Errorf("closed: got %d, want an error", resp.StatusCode)
	}
	l.Close()
	if err := l.SetBackends(); err == nil {
		t.Error("SetBackends on a closed balancer: got no error")
	}

	l, base, _ = nodes(t, true, nil)
	id = openSession(t, base)
	go func() { ended <- l.Shutdown(t.Context()) }()
	waitFor(t, "the nodes drain", func() bool { return l.Status().Backends[0].State == Draining })
	do(t, "POST", base+polling+"&sid="+id, "1")
	if err := <-ended; err != nil {
		t.Errorf("got %v, want an end with the last session", err)
	}
}
