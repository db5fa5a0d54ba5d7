package forward

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

const accepted = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

// upgrading has f talk to who asks for a change of protocol.
func upgrading(t testing.TB, f func(c net.Conn)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			io.WriteString(w, "plain")
			return
		}
		c, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("Hijack: %v", err)
			return
		}
		if n := brw.Reader.Buffered(); n != 0 {
			t.Errorf("got %d bytes read ahead, want none", n)
		}
		if _, err := io.WriteString(c, accepted); err != nil {
			t.Errorf("Write: %v", err)
		}
		go f(c) // as the engine does: the handler returns
	})
}

// upgrade asks for a change of protocol, with early behind the request.
func upgrade(t testing.TB, url, early string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n%s", path, early)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("the answer to an upgrade: %v", err)
	}
	return c, r, res
}

func TestPassThrough(t *testing.T) {
	for _, way := range both {
		t.Run(way+"/echo of much, both ways at once", func(t *testing.T) {
			ended := make(chan error, 1)
			a, _ := pair(t, way, upgrading(t, func(c net.Conn) {
				_, err := io.Copy(c, c)
				c.Close()
				ended <- err
			}))
			c, r, res := upgrade(t, a.url+"/at/b/", "early")
			if res.StatusCode != 101 {
				t.Fatalf("got status %d, want 101", res.StatusCode)
			}
			data := pattern(3 << 20)
			var wg sync.WaitGroup
			wg.Go(func() {
				c.Write(data)
				c.(*net.TCPConn).CloseWrite()
			})
			got, err := io.ReadAll(r)
			wg.Wait()
			if want := append([]byte("early"), data...); err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes and error %v, want the %d that were sent", len(got), err, len(want))
			}
			if err := <-ended; err != nil {
				t.Errorf("at the owner: got error %v, want the end of what the client sends", err)
			}
			settledDown(t, a)
		})
		t.Run(way+"/refused", func(t *testing.T) {
			a, _ := pair(t, way, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Upgrade", r.Header.Get("Connection")+" "+r.Header.Get("Upgrade"))
				http.Error(w, "no", http.StatusBadRequest)
			}))
			_, r, res := upgrade(t, a.url+"/at/b/", "")
			if got, want := res.Header.Get("X-Upgrade"), "keep-alive, Upgrade websocket"; res.StatusCode != 400 || got != want {
				t.Errorf("got status %d and header %q, want 400 and %q", res.StatusCode, got, want)
			}
			if b, _ := io.ReadAll(io.LimitReader(r, 2)); string(b) != "no" {
				t.Errorf("got body %q, want no", b)
			}
			settledDown(t, a)
		})
		t.Run(way+"/the client breaks off", func(t *testing.T) {
			ended := make(chan error, 1)
			a, _ := pair(t, way, upgrading(t, func(c net.Conn) {
				_, err := io.Copy(io.Discard, c)
				c.Close()
				ended <- err
			}))
			c, _, _ := upgrade(t, a.url+"/at/b/", "x")
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
			<-ended
			settledDown(t, a)
		})
		t.Run(way+"/the owner closes", func(t *testing.T) {
			data := pattern(500_000)
			a, _ := pair(t, way, upgrading(t, func(c net.Conn) {
				c.Write(data)
				c.Close()
				if _, err := c.Write(data); err == nil {
					t.Error("Write after Close: got no error")
				}
				if _, err := c.Read(data); !errors.Is(err, net.ErrClosed) {
					t.Errorf("Read after Close: got error %v, want net.ErrClosed", err)
				}
			}))
			_, r, _ := upgrade(t, a.url+"/at/b/", "")
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("got %d bytes and error %v, want %d", len(got), err, len(data))
			}
			settledDown(t, a)
		})
		t.Run(way+"/deadlines, and a client that does not read", func(t *testing.T) {
			errs := make(chan error, 10)
			a, b := pair(t, way, upgrading(t, func(c net.Conn) {
				defer c.Close()
				c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				_, err := c.Read(make([]byte, 1))
				errs <- err
				c.SetReadDeadline(time.Time{})
				c.SetDeadline(time.Unix(1, 0))
				_, err = c.Read(make([]byte, 1))
				errs <- err
				_, err = c.Write([]byte("x"))
				errs <- err
				c.SetDeadline(time.Time{})
				n := 0
				for { // until all is full on the way, and then the others go on
					c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
					k, err := c.Write(make([]byte, 100_000))
					if n += k; err != nil {
						errs <- err
						break
					}
				}
				if n < window {
					t.Errorf("got %d bytes written, want %d at least", n, window)
				}
				errs <- nil
				c.Read(make([]byte, 1))
			}))
			c, _, _ := upgrade(t, a.url+"/at/b/", "")
			for range 4 {
				if err := <-errs; !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("got error %v, want os.ErrDeadlineExceeded", err)
				}
			}
			<-errs
			for range 20 {
				if status, body, _ := get(t, a.url+"/at/b/", nil); status != 200 || body != "plain" {
					t.Errorf("beside a slow client: got %d %q, want 200", status, body)
				}
			}
			c.Close()
			settledDown(t, a)
			eventually(t, "an end at the owner", func() bool { return b.Stats().Serving == 0 })
		})
	}
}

// settledDown waits until s passes nothing through and waits for nothing.
func settledDown(t testing.TB, s *site) {
	t.Helper()
	eventually(t, "an end of all", func() bool { x := s.Stats(); return x.Passing == 0 && x.Waiting == 0 })
	if n := unread(s); n != 0 {
		t.Errorf("got %d bytes that nobody has read, want none", n)
	}
}
