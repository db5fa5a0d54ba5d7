package sticky

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestWebSocket(t *testing.T) {
	l, base, _ := nodes(t, true, nil)
	// Bytes on both heels of the handshake get through, in order.
	s := dialSocket(t, base, "", "early bird")
	if s.resp.StatusCode != 101 || !strings.EqualFold(s.resp.Header.Get("Upgrade"), "websocket") {
		t.Fatalf("got %d, header %v", s.resp.StatusCode, s.resp.Header)
	}
	name := make([]byte, 1)
	io.ReadFull(s.br, name)
	s.expect(t, "early bird")
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	go io.WriteString(s, big)
	s.expect(t, big)

	// With a session id it goes to the session's node, which it is not counted twice on.
	id := openSession(t, base)
	home := talk(t, base, id, "x")
	up := dialSocket(t, base, "&sid="+id, "")
	up.expect(t, home)
	if st := l.Status(); st.Sessions != 2 {
		t.Errorf("got %d sessions, want 2: %+v", st.Sessions, st.Backends)
	}

	// A half-close passes, what is still under way arrives, then all is over.
	io.WriteString(s, "bye")
	s.Conn.(*net.TCPConn).CloseWrite()
	s.expect(t, "bye")
	s.expectEnd(t)
	up.Close()
	waitFor(t, "no session is left", func() bool { st := l.Status(); return st.Sessions == 0 && l.running0() })

	// The upgrade that ended so may have been a failed one: the session can go on.
	if got := talk(t, base, id, "on"); got != home || l.Status().Sessions != 1 {
		t.Errorf("went on at %s with %d sessions, want %s with 1", got, l.Status().Sessions, home)
	}
}

// running0 reports whether no WebSocket is open.
func (l *Balancer) running0() bool {
	for _, b := range l.Status().Backends {
		if b.WebSockets != 0 {
			return false
		}
	}
	return true
}

func TestWebSocketTLS(t *testing.T) {
	n := &node{name: "a"}
	back := httptest.NewTLSServer(n)
	defer back.Close()
	conf := back.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	conf.ServerName = "example.com"
	_, srv := balance(t, &Options{TLS: conf}, back.URL)
	s := dialSocket(t, srv.URL, "", "over TLS")
	s.expect(t, "aover TLS")
	openSession(t, srv.URL)
}

func TestWebSocketDeclined(t *testing.T) {
	for _, tc := range []struct {
		name, answer string
		want         int
	}{
		{"403", "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nX-Why: me\r\n\r\nnope", 403},
		{"403 until the end", "HTTP/1.1 403 Forbidden\r\nX-Why: me\r\n\r\nnope", 403},
		{"wrong key", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n", 502},
		{"not WebSocket", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 502},
		{"early hints", "HTTP/1.1 103 Early Hints\r\n\r\n", 502},
		{"endless header", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHead), 502},
		{"cut off", "HTTP/1.1 200 OK\r\nX: ", 502},
	} {
		t.Run(tc.name, func(t *testing.T) {
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
					c.Read(make([]byte, 4096))
					io.WriteString(c, tc.answer)
					c.(*net.TCPConn).CloseWrite()
					io.Copy(io.Discard, c)
					c.Close()
				}
			}()
			l, srv := balance(t, &Options{Health: Health{Path: "-"}}, ln.Addr().String())
			s := dialSocket(t, srv.URL, "", "")
			if s.resp.StatusCode != tc.want {
				t.Errorf("got %d, want %d", s.resp.StatusCode, tc.want)
			}
			if body, _ := io.ReadAll(s.resp.Body); tc.want == 403 && (string(body) != "nope" || s.resp.Header.Get("X-Why") != "me") {
				t.Errorf("got %q, header %v", body, s.resp.Header)
			}
			if got := l.Status().Sessions; got != 0 {
				t.Errorf("got %d sessions, want 0", got)
			}
		})
	}
}

// A client that takes nothing is let go, with all that it holds, and hurts nobody else meanwhile.
func TestStalledWebSocket(t *testing.T) {
	l, base, _ := nodes(t, true, &Options{StallTimeout: 300 * time.Millisecond})
	s := dialSocket(t, base, "", "")
	go func() {
		for { // the node gives it all back, and nobody reads
			if _, err := s.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}()
	other := dialSocket(t, base, "", "")
	name := make([]byte, 1)
	io.ReadFull(other.br, name)
	for i := range 5 {
		msg := fmt.Sprint("message ", i)
		io.WriteString(other, msg)
		other.expect(t, msg)
	}
	waitFor(t, "one WebSocket is left", func() bool { return l.Status().Sessions == 1 })
}

// A client that goes away while the node thinks about the handshake takes the handshake with it.
func TestWebSocketAborted(t *testing.T) {
	gone := make(chan struct{})
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isWebSocket(r) {
			<-r.Context().Done()
			close(gone)
		}
	}))
	defer back.Close()
	_, srv := balance(t, nil, back.URL)
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", polling)
	time.Sleep(20 * time.Millisecond)
	c.Close()
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Error("the node was not told")
	}
}
