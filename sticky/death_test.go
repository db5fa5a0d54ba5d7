package sticky

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atollhq/atoll/internal/sid"
)

// A process that holds a long poll and a WebSocket is killed.
func TestKilledNode(t *testing.T) {
	a, b := spawn(t, "a", "0"), spawn(t, "b", "0")
	l, srv := balance(t, &Options{Health: Health{Interval: time.Hour}}, a.addr, b.addr)
	l.settled(t.Context())
	var idA, idB string
	for idA == "" || idB == "" {
		id := openSession(t, srv.URL)
		if tag, _ := sid.TagIn(id); tag == sid.TagOf("a") {
			idA = id
		} else {
			idB = id
		}
	}
	var socks []*socket
	for range 4 {
		socks = append(socks, dialSocket(t, srv.URL, "", ""))
	}
	onA := map[*socket]bool{}
	for _, s := range socks {
		name := make([]byte, 1)
		io.ReadFull(s.br, name)
		onA[s] = string(name) == "a"
	}
	type answer struct {
		status int
		body   string
		cors   string
		err    error
	}
	polls := make(chan answer, 1)
	go func() {
		req, _ := http.NewRequest("GET", srv.URL+polling+"&sid="+idA, nil)
		req.Header.Set("Origin", "https://chat.example")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			polls <- answer{err: err}
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		polls <- answer{resp.StatusCode, string(body), resp.Header.Get("Access-Control-Allow-Origin"), nil}
	}()
	waitFor(t, "the poll is under way", func() bool { return active(l) == 1 })

	a.kill()
	killed := time.Now()
	if got := <-polls; got.err != nil || got.status != 400 || got.body != unknownSession || got.cors != "https://chat.example" {
		t.Errorf("poll: got %+v, want 400 %s", got, unknownSession)
	}
	for s, dead := range onA {
		if dead {
			s.expectEnd(t)
		} else {
			io.WriteString(s, "still")
			s.expect(t, "still")
		}
	}
	t.Logf("poll and WebSockets ended after %v", time.Since(killed))
	// Long before the next check is due.
	waitFor(t, "the node is down", func() bool { return l.Status().Backends[0].State == Down })
	for range 5 { // nobody gets to see the dead node
		resp, body := do(t, "POST", srv.URL+polling+"&sid="+idA, "4hello")
		if resp.StatusCode != 400 || body != unknownSession {
			t.Errorf("dead session: got %d %s", resp.StatusCode, body)
		}
		if tag, _ := sid.TagIn(openSession(t, srv.URL)); tag != sid.TagOf("b") {
			t.Errorf("new session on %v", tag)
		}
	}
	talk(t, srv.URL, idB, "unharmed")
	if s := dialSocket(t, srv.URL, "&sid="+idA, ""); s.resp.StatusCode != 400 {
		t.Errorf("WebSocket of a dead session: got %d, want 400", s.resp.StatusCode)
	}

	// It comes back under another name, and gets the next sessions.
	_, port, _ := net.SplitHostPort(a.addr)
	spawn(t, "a2", port)
	o := Options{Backends: []Backend{{URL: a.addr}, {URL: b.addr}}, Health: Health{Interval: 100 * time.Millisecond, Timeout: patience}}
	if _, err := l.Reconfigure(&o); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the node is back", func() bool { return l.Status().Backends[0].State == Up })
	if tag, _ := sid.TagIn(openSession(t, srv.URL)); tag != sid.TagOf("a2") {
		t.Errorf("new session on %v, want the new node", tag)
	}
	if resp, body := do(t, "GET", srv.URL+polling+"&sid="+idA, ""); resp.StatusCode != 400 || !strings.Contains(body, `"code":1`) {
		t.Errorf("session of the dead node: got %d %s", resp.StatusCode, body)
	}
	for _, b := range l.Status().Backends {
		if b.Sessions < 0 {
			t.Errorf("%s has %d sessions", b.Name, b.Sessions)
		}
	}
}

// Whoever comes when the death was not noticed yet gets another node.
func TestHandshakeTriesAnother(t *testing.T) {
	a, b := start(t, "a", true), start(t, "b", true)
	l, srv := balance(t, &Options{Policy: RoundRobin, Health: Health{Interval: time.Hour}}, a.url, b.url)
	waitFor(t, "both are up", func() bool { s := l.Status().Backends; return s[0].State == Up && s[1].State == Up })
	a.stop()
	for range 4 {
		openSession(t, srv.URL)
		dialSocket(t, srv.URL, "", "").expect(t, "b")
	}
	if got := l.Status().Backends[0]; got.State != Down || got.Errors != 1 || got.LastError == "" {
		t.Errorf("got %+v, want down after one error", got)
	}
}

// A node that breaks off connections, which any client may be able to provoke, is
// asked whether it lives, and is not given up.
func TestBrokenOffIsNotDead(t *testing.T) {
	var posts atomic.Int64
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			posts.Add(1)
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, `0{"sid":"aaaaaaaaaaaaaaaaaaaa"}`)
	})
	n := &node{srv: &http.Server{Handler: h}, done: make(chan struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { defer close(n.done); n.srv.Serve(ln) }()
	t.Cleanup(n.stop)
	other := start(t, "b", true)
	l, srv := balance(t, &Options{Policy: RoundRobin}, ln.Addr().String(), other.url)
	l.settled(t.Context())
	for range 2 {
		do(t, "GET", srv.URL+polling, "")
	}
	resp, body := do(t, "POST", srv.URL+polling+"&sid=aaaaaaaaaaaaaaaaaaaa", "4once")
	if resp.StatusCode != 400 || body != unknownSession {
		t.Errorf("got %d %s, want 400 %s", resp.StatusCode, body, unknownSession)
	}
	time.Sleep(3 * minPause)
	if got := l.Status().Backends[0]; got.State != Up || posts.Load() != 1 {
		t.Errorf("state %v after %d posts, want up after 1", got.State, posts.Load())
	}
}

// A node that hangs is down after Fall checks, and what waits for it is let go.
func TestHangingNode(t *testing.T) {
	hang := make(chan struct{})
	var hung atomic.Bool
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hung.Load() {
			<-hang
			return
		}
		io.WriteString(w, `0{"sid":"aaaaaaaaaaaaaaaaaaaa"}`)
	})
	n := &node{srv: &http.Server{Handler: h}, done: make(chan struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { defer close(n.done); n.srv.Serve(ln) }()
	t.Cleanup(n.stop)
	other := start(t, "b", true)
	o := &Options{Health: Health{Interval: 50 * time.Millisecond, Timeout: 400 * time.Millisecond}}
	l, srv := balance(t, o, ln.Addr().String(), other.url)
	openSession(t, srv.URL)
	openSession(t, srv.URL)
	hung.Store(true)
	done := make(chan string, 2)
	go func() { // waits, gets to another node when the first is down
		resp, _, err := try("GET", srv.URL+polling, "")
		done <- fmt.Sprint("handshake ", err == nil && resp.StatusCode == 200)
	}()
	resp, body := do(t, "GET", srv.URL+polling+"&sid=aaaaaaaaaaaaaaaaaaaa", "")
	if resp.StatusCode != 400 || body != unknownSession {
		t.Errorf("got %d %s, want 400 %s", resp.StatusCode, body, unknownSession)
	}
	if got := <-done; got != "handshake true" {
		t.Errorf("got %s", got)
	}
	if got := l.Status().Backends[0].State; got != Down {
		t.Errorf("got %v, want down", got)
	}
	hung.Store(false)
	close(hang)
	waitFor(t, "the node is back", func() bool { return l.Status().Backends[0].State == Up })
}

// A node that talks nonsense gets 502 for its clients and is not asked twice.
func TestBrokenNode(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(time.Second))
			c.Read(make([]byte, 1000))
			io.WriteString(c, "HTTQ nonsense\r\n\r\n")
			c.Close()
		}
	}()
	l, srv := balance(t, &Options{Health: Health{Path: "-"}}, ln.Addr().String())
	if resp, body := do(t, "GET", srv.URL+polling, ""); resp.StatusCode != 502 {
		t.Errorf("got %d %q, want 502", resp.StatusCode, body)
	}
	if s := dialSocket(t, srv.URL, "", ""); s.resp.StatusCode != 502 {
		t.Errorf("WebSocket: got %d, want 502", s.resp.StatusCode)
	}
	if got := l.Status().Backends[0].Errors; got != 2 {
		t.Errorf("got %d errors, want 2", got)
	}
}
