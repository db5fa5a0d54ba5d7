package httpemit_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/emitter/httpemit"
)

// Who may not emit, and who may, hold a connection no longer than MaxTime with a body that does not come.
func TestSlowBody(t *testing.T) {
	h, err := httpemit.New(emitter.New(&sink{}, nil), &httpemit.Options{Tokens: []string{token}, MaxTime: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	for _, c := range []struct{ token, want string }{{"nobody", "401"}, {token, "400"}} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", c.token)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.Contains(line, c.want) {
			t.Errorf("got %q, %v, want status %s", line, err, c.want)
		}
	}
}

// A client that leaves, and one that waits for too short, say nothing of the medium.
func TestHealthIsOfTheMedium(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := httpemit.New(emitter.New(&sink{wait: true}, nil), &httpemit.Options{Tokens: []string{token}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer time.AfterFunc(time.Second, cancel).Stop()
		r := httptest.NewRequestWithContext(ctx, "POST", "/", strings.NewReader(`{"event":"x"}`))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", jsonType)
		h.ServeHTTP(httptest.NewRecorder(), r)
		w := httptest.NewRecorder()
		h.Health().ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
		if w.Code != http.StatusOK {
			t.Errorf("health after a client has left: got %d %s, want 200", w.Code, w.Body)
		}
	})
}
