package sticky

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"
)

// raw sends text as it is, and returns the status of each answer until the connection ends.
func raw(t *testing.T, base, text string) (statuses []int) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		io.WriteString(c, text)
		c.(*net.TCPConn).CloseWrite()
	}()
	br := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return statuses
		}
		io.Copy(io.Discard, resp.Body)
		statuses = append(statuses, resp.StatusCode)
	}
}

// What two servers could read differently is refused, and never arrives as a request of its own.
func TestSmuggling(t *testing.T) {
	n := start(t, "a", true)
	l, srv := balance(t, nil, n.url)
	id := openSession(t, srv.URL)
	const hidden = "GET /socket.io/?EIO=4&transport=polling&hidden HTTP/1.1\r\nHost: h\r\n\r\n"
	post := "POST " + polling + "&sid=" + id + " HTTP/1.1\r\nHost: h\r\n"
	for _, tc := range []struct {
		name, text string
		max        int64 // requests that may arrive at the node
	}{
		{"CL.TE", post + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, 2}, // RFC 9112: chunked counts
		{"two lengths", post + "Content-Length: 1\r\nContent-Length: 80\r\n\r\n4" + hidden, 0},
		{"list of lengths", post + "Content-Length: 1, 80\r\n\r\n4" + hidden, 0},
		{"signed length", post + "Content-Length: +1\r\n\r\n4" + hidden, 0},
		{"chunked twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, 0},
		{"other coding", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden, 0},
		{"tab in coding", post + "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + hidden, 0},
		{"space before colon", post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + hidden, 0},
		{"folded header", post + "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n4", 1},
		{"bare LF in a chunk size", post + "Transfer-Encoding: chunked\r\n\r\n1;\n4\r\n0\r\n\r\n", 1},
		{"body of a WebSocket handshake", "GET /socket.io/?transport=websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: " +
			fmt.Sprint(len(hidden)) + "\r\n\r\n" + hidden, 0},
		{"two sessions", strings.Replace(post, "&sid=", "&sid=x&sid=", 1) + "Content-Length: 1\r\n\r\n4", 0},
		{"two sessions, one empty", strings.Replace(post, "&sid=", "&sid=&sid=", 1) + "Content-Length: 1\r\n\r\n4", 0},
		{"two sessions, escaped", strings.Replace(post, "&sid=", "&sid=x&%73id=", 1) + "Content-Length: 1\r\n\r\n4", 0},
		{"two hosts", post + "Host: i\r\nContent-Length: 1\r\n\r\n4", 0},
		{"a line in a header", post + "X: a\rGET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n4", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := n.seen.Load()
			statuses := raw(t, srv.URL, tc.text)
			waitFor(t, "nothing is under way", func() bool { return active(l) == 0 })
			time.Sleep(5 * time.Millisecond) // for what was sent and broken off to arrive
			if got := n.seen.Load() - before; got > tc.max {
				t.Errorf("%d requests reached the node, want %d at most; answers %v", got, tc.max, statuses)
			}
			if tc.max == 0 && (len(statuses) == 0 || statuses[0] < 400) {
				t.Errorf("got answers %v, want a refusal", statuses)
			}
		})
	}
	// The keep-alive connections to the node still match questions and answers.
	for i := range 5 {
		box, _ := n.polls.Load(id)
		for len(box.(chan string)) > 0 {
			<-box.(chan string)
		}
		talk(t, srv.URL, id, fmt.Sprint("in step ", i))
	}
}

// Clients that are slow, big, or go away in the middle cost what they send, and hurt nobody.
func TestHostileClients(t *testing.T) {
	n := start(t, "a", true)
	b, srv := balance(t, &Options{
		BodyTimeout: 300 * time.Millisecond, Front: Front{HeaderTimeout: 300 * time.Millisecond, MaxHeaderBytes: 8 << 10},
	}, n.url)
	id := openSession(t, srv.URL)
	goroutines := runtime.NumGoroutine()
	post := "POST " + polling + "&sid=" + id + " HTTP/1.1\r\nHost: h\r\n"
	for _, text := range []string{
		"",
		"GET / HT",
		post,
		post + "Content-Length: 1000000\r\n\r\n4",
		post + "Transfer-Encoding: chunked\r\n\r\n5\r\n4",
		post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n4",
		post + "Expect: 100-continue\r\nContent-Length: 10\r\n\r\n",
		"GET " + polling + "&sid=" + id + " HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET " + polling + " HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n\r\n",
		"GET " + strings.Repeat("/", 20<<10),
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"CONNECT evil:80 HTTP/1.1\r\nHost: evil\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET http://evil/socket.io/?sid=" + strings.Repeat("s", 1000) + " HTTP/1.1\r\nHost: evil\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	} {
		for _, stay := range []bool{false, true} {
			c, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, text)
			if stay {
				t.Cleanup(func() { c.Close() })
			} else {
				c.Close()
			}
		}
	}
	talk(t, srv.URL, openSession(t, srv.URL), strings.Repeat("good", 1000)) // a good client among them
	// What was broken off is over on the node's side as well.
	waitFor(t, "only the poll that stays is under way", func() bool { return active(b) == 1 })
	box, _ := n.polls.Load(id)
	waitFor(t, "nothing is under way", func() bool {
		select {
		case box.(chan string) <- "an answer":
		default:
		}
		return active(b) == 0
	})
	if got := b.Status().Backends[0]; got.State != Up || got.Errors != 0 {
		t.Errorf("got %+v, want a node that is up and failed nobody", got)
	}
	waitFor(t, "the goroutines are gone", func() bool {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		return runtime.NumGoroutine() <= goroutines+4
	})
}

func FuzzOpenedID(f *testing.F) {
	for _, s := range []string{
		`0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":[]}`, `97:0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":[]}`,
		`___eio[0]("97:0{\"sid\":\"lv_VI97HAXpY6yYWAAAC\",\"upgrades\"`, `0{"sid":"`, `0{"sid`, "", `sid"""`, `sid":"\`,
		`0{"sid" : "x"}`, "0{\"sid\":\"" + strings.Repeat("y", 200) + `"}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := openedID([]byte(s))
		if ok && (id == "" || len(id) > maxSID || strings.ContainsAny(id, `"\`)) {
			t.Errorf("got %q of %q", id, s)
		}
		// However the body is cut, the same is found.
		for cut := range min(len(s), 64) {
			a := &watch{}
			a.head = append(a.head, s[:cut]...)
			if _, early := openedID(a.head); early && !ok {
				t.Errorf("found an id in %q, not in %q", s[:cut], s)
			}
		}
	})
}

func TestOpenedID(t *testing.T) {
	const id = "lv_VI97HAXpY6yYWAAAC"
	for _, s := range []string{
		`0{"sid":"` + id + `","upgrades":[]}`, `97:0{"sid":"` + id + `"}`, `___eio[0]("97:0{\"sid\":\"` + id + `\",\"up`, `0{ "x":1, "sid" : "` + id + `"}`,
	} {
		if got, ok := openedID([]byte(s)); got != id || !ok {
			t.Errorf("%s: got %q", s, got)
		}
	}
}

func FuzzClassify(f *testing.F) {
	for _, s := range []string{"EIO=4&transport=polling&sid=a", "sid=%41", "%73id=a", "sid=a&sid=b", "sid=&sid=a", "&&=", "sid", "transport", "sid=%zz", "a;sid=b"} {
		f.Add("/socket.io/", s)
	}
	l := &Balancer{o: Options{Path: "/socket.io/"}}
	f.Fuzz(func(t *testing.T, path, query string) {
		k, id, ok := l.classify(&head{path: path, query: query})
		if ok && (k == session) != (id != "") {
			t.Errorf("%q?%q: kind %d, id %q", path, query, k, id)
		}
		if vs := (&url.URL{RawQuery: query}).Query()["sid"]; ok && k == session && len(vs) == 1 && vs[0] != id && !strings.ContainsAny(query, ";%") {
			t.Errorf("%q: got %q, net/url has %q", query, id, vs)
		}
	})
}
