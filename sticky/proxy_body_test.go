package sticky

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// clientOf2 returns a client that speaks HTTP/2 without TLS.
func clientOf2(t *testing.T) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// Bodies over HTTP/2 that are not for Path may take any time, but not stop.
func TestStalledBodies(t *testing.T) {
	const stall = time.Second
	var large atomic.Int32 // answers that were cut
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			for chunk := make([]byte, 1<<20); ; {
				if _, err := w.Write(chunk); err != nil {
					large.Add(1)
					return
				}
			}
		case "/slow":
			io.Copy(io.Discard, r.Body)
			time.Sleep(stall * 3 / 2)
			io.WriteString(w, "first ")
			http.NewResponseController(w).Flush()
			time.Sleep(stall * 3 / 2)
			io.WriteString(w, "second")
		default:
			io.Copy(io.Discard, r.Body)
		}
	}))
	t.Cleanup(back.Close)
	_, srv := balance(t, &Options{Health: Health{Path: "-"}, StallTimeout: stall, Front: Front{H2C: true}}, back.URL)
	cl := clientOf2(t)

	t.Run("request", func(t *testing.T) {
		t.Parallel()
		pr, pw := io.Pipe()
		defer pw.Close()
		go pw.Write([]byte("a piece"))
		resp, err := cl.Post(srv.URL+"/x", "text/plain", pr)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != http.StatusRequestTimeout || resp.ProtoMajor != 2 {
			t.Errorf("got %s %d, want 408 over HTTP/2", resp.Proto, resp.StatusCode)
		}
	})
	t.Run("answer", func(t *testing.T) {
		t.Parallel()
		resp, err := cl.Get(srv.URL + "/large")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		waitFor(t, "the node is not kept waiting any more", func() bool { return large.Load() == 1 })
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("got the whole of an answer that has no end")
		}
	})
	// A node that takes its time is no stalled client.
	t.Run("slow node", func(t *testing.T) {
		t.Parallel()
		resp, err := cl.Post(srv.URL+"/slow", "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); string(body) != "first second" || err != nil {
			t.Errorf("got %q, %v; want all of it", body, err)
		}
	})
}

// As the handler of a server, too.
func TestStalledBodiesOfHandler(t *testing.T) {
	const stall = time.Second
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(stall * 3 / 2)
	}))
	t.Cleanup(back.Close)
	l, _ := balance(t, &Options{Health: Health{Path: "-"}, StallTimeout: stall}, back.URL)
	srv := httptest.NewServer(l)
	t.Cleanup(srv.Close)
	a, b := dialLine(t, &served{srv.URL, srv.Listener}), dialLine(t, &served{srv.URL, srv.Listener})
	const post = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"
	a.say(post + "a")
	b.say(post+"body").hear("POST", 200)
	b.say(post+"body").hear("POST", 200)
	// The status is that for a client that has gone, or for a body that does not come.
	resp, err := http.ReadResponse(a.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusRequestTimeout && resp.StatusCode != http.StatusBadGateway {
		t.Errorf("got %d, want 408", resp.StatusCode)
	}
	a.over()
}
