package sticky

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// kept returns how many connections to the first node wait for the next request, when nothing is under way.
func kept(t *testing.T, l *Balancer) int {
	t.Helper()
	b := l.view.Load().list[0]
	waitFor(t, "the end of all requests", func() bool { return b.active.Load() == 0 })
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	return len(b.pool.list)
}

// speaking starts a node that leaves each of its connections to serve.
func speaking(t *testing.T, serve func(net.Conn, *bufio.Reader)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			})
		}
	})
	return ln.Addr().String()
}

const longPost = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 16000000\r\n\r\n"

// A node has answered before it has got the whole body: the rest is still to come on that connection, so that nobody may use
// it again.
func TestFrontEarlyAnswer(t *testing.T) {
	addr := speaking(t, func(c net.Conn, br *bufio.Reader) {
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if r.ContentLength > 1000 {
				io.WriteString(c, "HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n")
				io.Copy(io.Discard, r.Body)
				continue
			}
			io.Copy(io.Discard, r.Body)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	l, s := balance(t, &Options{Health: Health{Path: "-"}}, addr)
	a := dialLine(t, s)
	a.say(longPost+"and so on").hear("POST", 413)
	a.over()
	if n := kept(t, l); n != 0 {
		t.Errorf("got %d connections that are kept; want 0", n)
	}
	dialLine(t, s).say("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1").hear("POST", 200)
}

// The same where the node took nothing of the body for so long that it is not sent any more.
func TestFrontStalledUpload(t *testing.T) {
	addr := speaking(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		time.Sleep(300 * time.Millisecond)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		io.Copy(io.Discard, br)
	})
	l, s := balance(t, &Options{Health: Health{Path: "-"}, StallTimeout: 50 * time.Millisecond}, addr)
	a := dialLine(t, s)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer a.Close()
	wg.Go(func() { io.WriteString(a, longPost+strings.Repeat("x", 16000000)) })
	a.hear("POST", 200)
	a.Close()
	if n := kept(t, l); n != 0 {
		t.Errorf("got %d connections that are kept; want 0", n)
	}
}

// A node that breaks off an upload is to blame for that, not the client, from which more is awaited.
func TestFrontBrokenUpload(t *testing.T) {
	addr := speaking(t, func(c net.Conn, br *bufio.Reader) { http.ReadRequest(br) })
	l, s := balance(t, &Options{Health: Health{Path: "-"}}, addr)
	dialLine(t, s).say(longPost).hear("POST", 502)
	if n := l.view.Load().list[0].errors.Load(); n != 1 {
		t.Errorf("got %d errors of the node; want 1", n)
	}
}

// Where there should be no body, what looks like one is not taken for the next answer.
func TestFrontBodyOfNone(t *testing.T) {
	for _, framing := range []string{"Content-Length: 5", "Transfer-Encoding: chunked"} {
		l, s := balance(t, &Options{Health: Health{Path: "-"}}, answering(t, "HTTP/1.1 204 No Content\r\n"+framing+"\r\n\r\n", false))
		dialLine(t, s).say(plainGet).hear("GET", 204)
		if n := kept(t, l); n != 0 {
			t.Errorf("%s: got %d connections that are kept; want 0", framing, n)
		}
	}
}

// A collected is a connection whose writes leave when it is closed, in one piece.
type collected struct {
	net.Conn
	mu   sync.Mutex
	hold bool
	b    bytes.Buffer
}

func (c *collected) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hold {
		return c.b.Write(p)
	}
	return c.Conn.Write(p)
}

func (c *collected) Close() error {
	c.mu.Lock()
	c.Conn.SetWriteDeadline(time.Time{}) // tls.Conn has set one
	c.Conn.Write(c.b.Bytes())
	c.b.Reset()
	c.mu.Unlock()
	return c.Conn.Close()
}

// The last words of TLS 1.2 may come together with the end of an answer, and be read with it.
func TestFrontSecureNodeCloses(t *testing.T) {
	back := httptest.NewUnstartedServer(nil)
	back.StartTLS()
	defer back.Close()
	conf := back.TLS.Clone()
	conf.NextProtos, conf.MaxVersion = nil, tls.VersionTLS12
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		addr := speaking(t, func(c net.Conn, _ *bufio.Reader) {
			all := &collected{Conn: c}
			tc := tls.Server(all, conf)
			defer tc.Close()
			if _, err := http.ReadRequest(bufio.NewReader(tc)); err != nil {
				return
			}
			all.mu.Lock()
			all.hold = true
			all.mu.Unlock()
			io.WriteString(tc, answer)
		})
		l, s := balance(t, &Options{Health: Health{Path: "-"}, TLS: &tls.Config{InsecureSkipVerify: true}}, "https://"+addr)
		if _, body := dialLine(t, s).say(plainGet).hear("GET", 200); body != "hello" {
			t.Errorf("%q: got %q; want hello", answer, body)
		}
		if n := kept(t, l); n != 0 {
			t.Errorf("%q: got %d connections that are kept; want 0", answer, n)
		}
	}
}

// What net/http serves is bounded as what the balancer serves by itself.
func TestHandoverMaxBody(t *testing.T) {
	n := start(t, "a", true)
	l, s := balance(t, &Options{StatusPath: "/status", Front: Front{MaxBody: 1000}}, n.url)
	const give = "GET /status HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, framing := range []string{
		"Content-Length: 1001\r\n\r\n" + strings.Repeat("x", 1001),
		"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + strings.Repeat("x", 1001) + "\r\n0\r\n\r\n",
	} {
		a := dialLine(t, s)
		a.say(give).hear("GET", 200)
		a.say("POST /x HTTP/1.1\r\nHost: h\r\n"+framing).hear("POST", 413)
		a.Close()
	}
	a := dialLine(t, s)
	a.say(give).hear("GET", 200)
	a.say("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n"+strings.Repeat("x", 1000)).hear("POST", 200)
	a.Close()
	for _, request := range []string{"CONNECT h:80", "TRACE /x"} {
		a := dialLine(t, s)
		a.say(give).hear("GET", 200)
		a.say(request+" HTTP/1.1\r\nHost: h\r\n\r\n").hear("GET", 405)
		a.Close()
	}
	// net/http keeps a connection for half a second that it has broken off.
	waitFor(t, "all connections are gone", func() bool { l.front.mu.Lock(); defer l.front.mu.Unlock(); return l.front.conns == 0 })
}

// Half a WebSocket ends at its own deadline, whatever WebSocketIdle says.
func TestIdleHalf(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	l := &Balancer{}
	l.o.Front.WebSocketIdle = time.Hour
	n := &tunnel{l: l}
	n.used.Store(time.Now().UnixNano())
	for left, want := range map[int32]bool{2: false, 1: true} {
		n.left.Store(left)
		if got := n.idle().over(near, os.ErrDeadlineExceeded); got != want {
			t.Errorf("%d halves: got %t, want %t", left, got, want)
		}
	}
}
