package sticky

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// A line is a client's connection on which one says what one likes.
type line struct {
	net.Conn
	t  testing.TB
	br *bufio.Reader
}

func dialLine(t testing.TB, s *served) *line {
	t.Helper()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return &line{c, t, bufio.NewReader(c)}
}

// say sends text.
func (l *line) say(text string) *line {
	l.t.Helper()
	if _, err := io.WriteString(l, text); err != nil {
		l.t.Fatal(err)
	}
	return l
}

// hear reads an answer to the given method, which must have the given status, and returns it and its body.
func (l *line) hear(method string, status int) (*http.Response, string) {
	l.t.Helper()
	resp, err := http.ReadResponse(l.br, &http.Request{Method: method})
	if err != nil {
		l.t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != status || err != nil {
		l.t.Fatalf("got status %d with %q, %v; want %d", resp.StatusCode, body, err, status)
	}
	return resp, string(body)
}

// over expects the end of the connection.
func (l *line) over() {
	l.t.Helper()
	if rest, err := io.ReadAll(l.br); err != nil && !strings.Contains(err.Error(), "reset") || len(rest) > 0 {
		l.t.Errorf("got %q, %v; want the end", rest, err)
	}
}

// answering starts a node that answers whatever it is asked with a fixed text, and then ends the connection if end is set.
func answering(t testing.TB, text string, end bool) (addr string) {
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
				br := bufio.NewReader(c)
				for {
					r, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					io.Copy(io.Discard, r.Body)
					io.WriteString(c, text)
					if end {
						return
					}
				}
			})
		}
	})
	return ln.Addr().String()
}

// behind serves such a node.
func behind(t testing.TB, text string, end bool) *served {
	_, s := balance(t, &Options{Health: Health{Path: "-"}}, answering(t, text, end))
	return s
}

const plainGet = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"

func TestFrontFraming(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n5;x\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n"
	t.Run("chunked", func(t *testing.T) {
		l := dialLine(t, behind(t, chunked, false))
		for range 2 {
			if _, body := l.say(plainGet).hear("GET", 200); body != "hello!" {
				t.Errorf("got %q", body)
			}
		}
	})
	t.Run("chunked for HTTP/1.0", func(t *testing.T) {
		l := dialLine(t, behind(t, chunked, false)).say("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
		resp, body := l.hear("GET", 200)
		if body != "hello!" || len(resp.TransferEncoding) > 0 || !resp.Close {
			t.Errorf("got %q, %+v", body, resp)
		}
		l.over()
	})
	t.Run("until the end", func(t *testing.T) {
		l := dialLine(t, behind(t, "HTTP/1.0 200 OK\r\n\r\nhello!", true))
		for range 2 {
			if _, body := l.say(plainGet).hear("GET", 200); body != "hello!" {
				t.Errorf("got %q", body)
			}
		}
		l.say("GET /x HTTP/1.0\r\n\r\n").hear("GET", 200)
		l.over()
	})
	t.Run("HTTP/1.0 kept alive", func(t *testing.T) {
		l := dialLine(t, behind(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", false))
		for range 2 {
			resp, _ := l.say("GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").hear("GET", 200)
			if got := resp.Header.Get("Connection"); got != "keep-alive" {
				t.Errorf("got Connection %q, want keep-alive", got)
			}
		}
	})
	t.Run("HEAD and no content", func(t *testing.T) {
		l := dialLine(t, behind(t, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", false))
		for range 2 {
			resp, _ := l.say("HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n").hear("HEAD", 200)
			if resp.ContentLength != 1000 {
				t.Errorf("got a length of %d, want 1000", resp.ContentLength)
			}
		}
		for _, status := range []int{204, 304} {
			l := dialLine(t, behind(t, fmt.Sprintf("HTTP/1.1 %d X\r\nETag: \"a\"\r\n\r\n", status), false))
			for range 2 {
				l.say(plainGet).hear("GET", status)
			}
		}
	})
	t.Run("interim answers", func(t *testing.T) {
		l := dialLine(t, behind(t, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", false)).say(plainGet)
		if resp, err := http.ReadResponse(l.br, nil); err != nil || resp.StatusCode != 103 || resp.Header.Get("Link") != "</a>" {
			t.Errorf("got %v, %v; want 103", resp, err)
		}
		l.hear("GET", 200)
	})
	t.Run("Connection lists", func(t *testing.T) {
		l := dialLine(t, behind(t, "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: a\r\nX-End: b\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n", false)).say(plainGet)
		if resp, _ := l.hear("GET", 200); resp.Header.Get("X-Hop") != "" || resp.Header.Get("Keep-Alive") != "" || resp.Header.Get("X-End") != "b" {
			t.Errorf("got %v", resp.Header)
		}
	})
}

// What a node must not answer is 502, or the end where the answer has begun.
func TestFrontBadAnswers(t *testing.T) {
	for name, text := range map[string]string{
		"both framings":   "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":     "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
		"other coding":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
		"bare LF":         "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
		"folded":          "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 3\r\n\r\nabc",
		"NUL":             "HTTP/1.1 200 OK\r\nA: b\x00\r\nContent-Length: 3\r\n\r\nabc",
		"no HTTP":         "hello\r\n\r\n",
		"status":          "HTTP/1.1 20 OK\r\n\r\n",
		"other version":   "HTTP/2.0 200 OK\r\n\r\n",
		"unasked upgrade": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"endless header":  "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 70<<10) + "\r\n\r\n",
		"endless interim": strings.Repeat("HTTP/1.1 100 Continue\r\nA: "+strings.Repeat("b", 1000)+"\r\n\r\n", 80),
		"nothing":         "",
	} {
		t.Run(name, func(t *testing.T) {
			l := dialLine(t, behind(t, text, true)).say("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx" + plainGet)
			l.hear("POST", 502)
			l.hear("GET", 502)
		})
	}
	for name, text := range map[string]string{
		"short":     "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
		"bad chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nz\r\n",
		"cut chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			l := dialLine(t, behind(t, text, true)).say(plainGet)
			resp, err := http.ReadResponse(l.br, nil)
			if err == nil && resp.StatusCode == 200 {
				_, err = io.ReadAll(resp.Body)
			}
			if err == nil && resp.StatusCode != 502 {
				t.Errorf("got a complete answer %d of an incomplete one", resp.StatusCode)
			}
		})
	}
	t.Run("more than was asked for", func(t *testing.T) {
		l := dialLine(t, behind(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden", false))
		for range 3 {
			if _, body := l.say(plainGet).hear("GET", 200); body != "x" {
				t.Errorf("got %q, want x", body)
			}
		}
	})
}

// Many requests in one piece are answered one after the other.
func TestFrontPipelining(t *testing.T) {
	n := start(t, "a", true)
	_, srv := balance(t, nil, n.url)
	id := openSession(t, srv.URL)
	url := polling + "&sid=" + id
	var all strings.Builder
	for i := range 50 {
		msg := fmt.Sprint("message ", i, strings.Repeat("x", i*i))
		fmt.Fprintf(&all, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%sGET %s HTTP/1.1\r\nHost: h\r\n\r\n", url, len(msg), msg, url)
	}
	l := dialLine(t, srv)
	go io.WriteString(l, all.String())
	for i := range 50 {
		l.hear("POST", 200)
		if _, body := l.hear("GET", 200); !strings.HasPrefix(body, fmt.Sprint("message ", i, strings.Repeat("x", min(1, i)))) || len(body) < i*i {
			t.Fatalf("answer %d is %.30q", i, body)
		}
	}
}

// Long bodies stream both ways, and an answer may come before its request is complete.
func TestFrontBodies(t *testing.T) {
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		http.NewResponseController(w).EnableFullDuplex()
		if r.URL.Query().Has("length") {
			w.Header().Set("Content-Length", fmt.Sprint(r.ContentLength))
		}
		io.Copy(w, r.Body)
	}))
	defer back.Close()
	_, srv := balance(t, nil, back.URL)
	body := bytes.Repeat([]byte("0123456789abcdef\r\n\x00\xff"), 100_000)[:1_999_999]
	cl := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	defer cl.CloseIdleConnections()
	for _, chunked := range []bool{false, true} {
		for _, query := range []string{"", "?length"} {
			for _, size := range []int{0, 1, 20, 15 << 10, 16 << 10, 20 << 10, 100_000, len(body)} {
				if chunked && query != "" {
					continue
				}
				var r io.Reader = bytes.NewReader(body[:size])
				if chunked {
					r = io.MultiReader(r)
				}
				req, _ := http.NewRequest("POST", srv.URL+"/echo"+query, r)
				if size%20 == 0 {
					req.Header.Set("Expect", "100-continue")
				}
				resp, err := cl.Do(req)
				if err != nil {
					t.Fatalf("%d bytes, chunked %t: %v", size, chunked, err)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || !bytes.Equal(got, body[:size]) {
					t.Fatalf("%d bytes, chunked %t: got %d others, %v", size, chunked, len(got), err)
				}
			}
		}
	}
	l := dialLine(t, srv).say("POST /refuse HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100_000))
	if resp, _ := l.hear("POST", 413); !resp.Close {
		t.Error("an early answer: the connection does not end")
	}
	l.over()
}

// A client that leaves while its poll waits takes the poll with it.
func TestFrontAbandonedPoll(t *testing.T) {
	n := start(t, "a", true)
	l, srv := balance(t, nil, n.url)
	id := openSession(t, srv.URL)
	c := dialLine(t, srv).say("GET " + polling + "&sid=" + id + " HTTP/1.1\r\nHost: h\r\n\r\n")
	waitFor(t, "the poll waits", func() bool { return active(l) == 1 })
	c.Close()
	waitFor(t, "the poll is gone", func() bool { return active(l) == 0 })
	if got := l.Status().Backends[0].Errors; got != 0 {
		t.Errorf("got %d errors of the node, want 0", got)
	}
	talk(t, srv.URL, id, "next")
}

// Polls that take long hold no buffers, and are answered all the same.
func TestFrontLongPolls(t *testing.T) {
	n := start(t, "a", true)
	l, srv := balance(t, nil, n.url)
	l.settled(t.Context())
	var lines []*line
	var boxes []chan string
	const many = 50
	for range many {
		id := n.open()
		box, _ := n.polls.Load(id)
		boxes = append(boxes, box.(chan string))
		lines = append(lines, dialLine(t, srv).say("GET "+polling+"&sid="+id+" HTTP/1.1\r\nHost: h\r\n\r\n"))
	}
	waitFor(t, "all are looked after", func() bool {
		l.front.vigil.mu.Lock()
		defer l.front.vigil.mu.Unlock()
		return l.front.vigil.first.next == &l.front.vigil.first && active(l) == many
	})
	for i, c := range lines {
		boxes[i] <- fmt.Sprint("message ", i)
		if _, body := c.hear("GET", 200); body != fmt.Sprint("message ", i) {
			t.Fatalf("got %q, want message %d", body, i)
		}
		c.say(plainGet).hear("GET", 200)
	}
}

// A node that closes kept connections loses no request, not even one that cannot be repeated.
func TestFrontStaleConnections(t *testing.T) {
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	defer back.Close()
	_, srv := balance(t, nil, back.URL)
	for i := range 20 {
		msg := fmt.Sprint("message ", i)
		if resp, body := do(t, "POST", srv.URL+"/x", msg); resp.StatusCode != 200 || body != msg {
			t.Fatalf("got %d %q, want %q", resp.StatusCode, body, msg)
		}
		back.CloseClientConnections()
	}
}

// What a client sends behind a handshake that is declined was meant for a WebSocket.
func TestFrontDeclinedEarlyBytes(t *testing.T) {
	rec := recordGo(t)
	_, srv := balance(t, &Options{Health: Health{Path: "-"}}, rec)
	l := dialLine(t, srv).say("GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n" + hidden)
	l.hear("GET", 200)
	l.over()
	if _, got := do(t, "GET", rec+"/recorded", ""); strings.Contains(got, "hidden") {
		t.Errorf("the node got %s", got)
	}
}

// net/http serves what the front does not.
func TestHandover(t *testing.T) {
	n := start(t, "a", true)
	l, srv := balance(t, &Options{
		Front: Front{H2C: true, MaxConnsPerAddress: 100},
		Fallback: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s from %s", r.Proto, r.URL, strings.Split(r.RemoteAddr, ":")[0])
		}),
	}, n.url)
	c := dialLine(t, srv)
	c.say("GET "+polling+" HTTP/1.1\r\nHost: h\r\n\r\n").hear("GET", 200)
	for range 2 {
		if _, got := c.say(plainGet).hear("GET", 200); got != "HTTP/1.1 /x from 127.0.0.1" {
			t.Errorf("got %q", got)
		}
	}
	c.say("GET "+polling+" HTTP/1.1\r\nHost: h\r\n\r\n").hear("GET", 200)
	up := upgrade(t, c, "", "early")
	up.expect(t, "aearly")

	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	cl := &http.Client{Transport: &http.Transport{Protocols: p}}
	resp, err := cl.Get(srv.URL + polling)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.ProtoMajor != 2 || !strings.HasPrefix(string(body), "0{") {
		t.Errorf("got %s %q, want a session over HTTP/2", resp.Proto, body)
	}
	cl.CloseIdleConnections()
	c.Close()
	waitFor(t, "all connections are gone", func() bool { l.front.mu.Lock(); defer l.front.mu.Unlock(); return l.front.conns == 0 })
}

// A node that goes down ends what waits for it at once.
func TestFrontCut(t *testing.T) {
	p := spawn(t, "a", "0")
	l, srv := balance(t, nil, p.addr)
	id := openSession(t, srv.URL)
	poll := dialLine(t, srv).say("GET " + polling + "&sid=" + id + " HTTP/1.1\r\nHost: h\r\n\r\n")
	waitFor(t, "the poll waits", func() bool { return active(l) == 1 })
	p.kill()
	if _, body := poll.hear("GET", 400); body != unknownSession {
		t.Errorf("got %q, want %q", body, unknownSession)
	}
	poll.say(plainGet).hear("GET", 503) // and the connection goes on
}
