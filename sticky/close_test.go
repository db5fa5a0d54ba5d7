package sticky

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestCloseCutsStalledClients has clients that neither read nor write: Close must not wait for them.
func TestCloseCutsStalledClients(t *testing.T) {
	const handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, tc := range []struct{ name, request string }{
		{"download", "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"upload", "POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc"},
		{"declined WebSocket", "GET /large HTTP/1.1\r\nHost: x\r\n" + handshake + "\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/large" {
					return
				}
				io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusForbidden)
				for chunk := make([]byte, 1<<20); r.Context().Err() == nil; {
					if _, err := w.Write(chunk); err != nil {
						return
					}
				}
			}))
			defer back.Close()
			l, srv := balance(t, nil, back.URL)
			c, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close() // before the clean-up of balance, which waits
			fmt.Fprint(c, tc.request)
			waitFor(t, "the request is under way", func() bool { return l.Status().Backends[0].Requests == 1 })
			time.Sleep(200 * time.Millisecond) // and stalls
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
				defer cancel()
				l.Shutdown(ctx)
			}()
			select {
			case <-closed:
			case <-time.After(8 * time.Second): // UpgradeTimeout is longer
				t.Error("Shutdown waits for a client that stalls")
			}
		})
	}
}

// TestWebSocketTLSAborted has clients that leave while a node is silent behind TLS. It is for the race detector.
func TestWebSocketTLSAborted(t *testing.T) {
	back := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/socket.io/") {
			<-r.Context().Done()
		}
	}))
	defer back.Close()
	conf := back.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	conf.ServerName = "example.com"
	_, srv := balance(t, &Options{TLS: conf, UpgradeTimeout: 100 * time.Millisecond}, back.URL)
	if s := dialSocket(t, srv.URL, "", ""); s.resp.StatusCode != http.StatusBadGateway {
		t.Errorf("got status %d, want 502", s.resp.StatusCode)
	}
}

// A strict listener counts how often somebody who closes may wait longer than he should.
type strict struct {
	net.Listener
	closing atomic.Bool
	waits   atomic.Int32
}

type strictConn struct {
	net.Conn
	s      *strict
	closed atomic.Bool
}

func (s *strict) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &strictConn{Conn: c, s: s}, nil
}

func (c *strictConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

func (c *strictConn) SetWriteDeadline(t time.Time) error {
	if c.s.closing.Load() && !c.closed.Load() && time.Until(t) > 3*lastWords {
		c.s.waits.Add(1)
	}
	return c.Conn.SetWriteDeadline(t)
}

// TestCloseTLS has clients of all kinds: Close must say goodbye to none of them, which takes TLS five seconds
// if a client has stalled.
func TestCloseTLS(t *testing.T) {
	dir := t.TempDir()
	f := CertificateFile{filepath.Join(dir, "a.pem"), filepath.Join(dir, "a.key")}
	issue(t, f, 1, "localhost")
	certs, err := LoadCertificates(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, "a", true)
	for _, own := range []bool{true, false} {
		l, err := New(&Options{
			Backends: []Backend{{URL: n.url}}, Logger: slog.New(slog.DiscardHandler), Front: Front{MaxConns: 4},
			Fallback: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for chunk := make([]byte, 1<<20); r.URL.Path == "/large"; {
					if _, err := w.Write(chunk); err != nil {
						return
					}
				}
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &strict{Listener: ln}
		done := make(chan error, 1)
		conf := certs.TLSConfig()
		if own {
			go func() { done <- l.ServeTLS(s, conf) }()
		} else {
			conf.NextProtos = []string{"h2", "http/1.1"}
			go func() { done <- l.Serve(tls.NewListener(s, conf)) }()
		}
		base := "https://" + ln.Addr().String()
		get := func(major int, path string) {
			t.Helper()
			tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: major == 2}
			t.Cleanup(tr.CloseIdleConnections)
			resp, err := (&http.Client{Transport: tr}).Get(base + path)
			if err != nil {
				t.Fatal(err)
			}
			if path == "/large" {
				t.Cleanup(func() { resp.Body.Close() })
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.ProtoMajor != major {
				t.Errorf("got %s, want HTTP/%d", resp.Proto, major)
			}
		}
		get(1, polling)
		get(1, "/small")
		get(2, polling)
		get(1, "/large")
		conns := func() int { l.front.mu.Lock(); defer l.front.mu.Unlock(); return l.front.conns }
		if got := conns(); got != 4 {
			t.Errorf("ServeTLS %t: got %d connections, want 4, one of them with HTTP/2", own, got)
		}
		if c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true}); err == nil {
			c.Close()
			t.Errorf("ServeTLS %t: there is a fifth connection, want 4 at most", own)
		}
		s.closing.Store(true)
		l.Close()
		if got := s.waits.Load(); got != 0 {
			t.Errorf("ServeTLS %t: Close may have waited for %d clients", own, got)
		}
		waitFor(t, "net/http has said of all connections that they are closed", func() bool { return conns() == 0 })
		if err := <-done; err != http.ErrServerClosed {
			t.Errorf("got %v, want %v", err, http.ErrServerClosed)
		}
	}
}

func TestServeTLSWithoutCertificate(t *testing.T) {
	l, err := New(&Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, conf := range []*tls.Config{nil, {}} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.ServeTLS(ln, conf); err == nil || !strings.Contains(err.Error(), "ServeTLS needs") {
			t.Errorf("%v: got %v, want an error that says what is missing", conf, err)
		}
		if _, err := ln.Accept(); err == nil {
			t.Error("the listener is still open")
		}
	}
}
