package sticky

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

func TestFrontLimits(t *testing.T) {
	n := start(t, "a", true)
	l, srv := balance(t, &Options{
		BodyTimeout: 600 * time.Millisecond,
		Front:       Front{HeaderTimeout: 600 * time.Millisecond, IdleTimeout: 700 * time.Millisecond, MaxBody: 1000, WebSocketIdle: 200 * time.Millisecond},
	}, n.url)
	id := openSession(t, srv.URL)
	post := "POST " + polling + "&sid=" + id + " HTTP/1.1\r\nHost: h\r\n"
	for _, c := range []struct {
		name, text string
		status     int
	}{
		{"slow head", "GET /x HT", 408},
		{"slow second head", plainGet + "GET", 408},
		{"slow body", post + "Content-Length: 10\r\n\r\nabc", 408},
		{"slow chunks", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", 408},
		{"no body after 100", post + "Expect: 100-continue\r\nContent-Length: 10\r\n\r\n", 408},
		{"long body", post + "Content-Length: 1001\r\n\r\n", 413},
		{"long chunks", post + "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + strings.Repeat("x", 1001) + "\r\n0\r\n\r\n", 413},
		{"silence", "", 0},
		{"silence after a request", plainGet, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c1 := dialLine(t, srv).say(c.text)
			if strings.HasPrefix(c.text, plainGet) {
				c1.hear("GET", 200)
			}
			if strings.Contains(c.text, "Expect") {
				if s, _ := c1.br.ReadString('\n'); s != "HTTP/1.1 100 Continue\r\n" {
					t.Errorf("got %q, want 100", s)
				}
				c1.br.ReadString('\n')
			}
			if c.status != 0 {
				c1.hear("GET", c.status)
			}
			c1.over()
		})
	}
	t.Run("silent WebSocket", func(t *testing.T) {
		t.Parallel()
		dialSocket(t, srv.URL, "", "").expectEnd(t)
		waitFor(t, "the WebSocket is gone", l.running0)
	})
}

func TestFrontTooManyConnections(t *testing.T) {
	n := start(t, "a", true)
	l, srv := balance(t, &Options{Front: Front{MaxConns: 3, MaxConnsPerAddress: 2}}, n.url)
	held := []*line{dialLine(t, srv), dialLine(t, srv)}
	for _, h := range held {
		h.say(plainGet).hear("GET", 200)
	}
	third := dialLine(t, srv)
	third.hear("GET", 503)
	third.over()
	held[0].Close()
	waitFor(t, "one is gone", func() bool { l.front.mu.Lock(); defer l.front.mu.Unlock(); return l.front.conns == 1 })
	s := dialSocket(t, srv.URL, "", "") // a WebSocket counts as well, while it lasts
	dialLine(t, srv).hear("GET", 503)
	s.Close()
	waitFor(t, "that is gone", func() bool { l.front.mu.Lock(); defer l.front.mu.Unlock(); return l.front.conns == 1 })
	dialLine(t, srv).say(plainGet).hear("GET", 200)
}

// A spoken is a log.
type spoken struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *spoken) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestProxyProtocol(t *testing.T) {
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("X-Forwarded-For"))
	}))
	defer back.Close()
	var said spoken
	log := slog.New(slog.NewTextHandler(&said, nil))
	o := &Options{Logger: log, Front: Front{ProxyProtocol: true}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	l, srv := balance(t, o, back.URL)
	l.settled(t.Context())
	src, dst := &net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 1000}, &net.TCPAddr{IP: net.ParseIP("192.0.2.8"), Port: 80}
	src6, dst6 := &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 1000}, &net.TCPAddr{IP: net.ParseIP("2001:db8::8"), Port: 80}
	for _, version := range []byte{1, 2} {
		for _, a := range [][2]*net.TCPAddr{{src, dst}, {src6, dst6}} {
			h, err := proxyproto.HeaderProxyFromAddrs(version, a[0], a[1]).Format()
			if err != nil {
				t.Fatal(err)
			}
			c := dialLine(t, srv).say(string(h) + plainGet)
			if _, got := c.hear("GET", 200); got != a[0].IP.String() {
				t.Errorf("version %d: the node got %q, want %v", version, got, a[0].IP)
			}
			c.say("GET /x HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n")
			if _, got := c.hear("GET", 200); got != a[0].IP.String() {
				t.Errorf("a client behind a proxy is not one: the node got %q, want %v", got, a[0].IP)
			}
		}
	}
	local, _ := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}).Format()
	if _, got := dialLine(t, srv).say(string(local)+plainGet).hear("GET", 200); got != "127.0.0.1" {
		t.Errorf("LOCAL: the node got %q, want the peer", got)
	}
	for _, bad := range []string{plainGet, "PROXY TCP4 192.0.2.7\r\n", "PROXY " + strings.Repeat("x", 200), "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + strings.Repeat("x", 5000)} {
		dialLine(t, srv).say(bad).over()
	}
	if !strings.Contains(said.String(), "proper header of the PROXY protocol") {
		t.Errorf("said %q", said.String())
	}

	_, srv = balance(t, &Options{Logger: log, Front: Front{ProxyProtocol: true}}, back.URL)
	dialLine(t, srv).say("PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\n" + plainGet).over()
	if !strings.Contains(said.String(), "none of the TrustedProxies") {
		t.Errorf("said %q", said.String())
	}
}
