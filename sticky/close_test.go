package sticky

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
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
