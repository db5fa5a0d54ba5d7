package engine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atollhq/atoll/internal/sid"
)

func TestHandshakePolling(t *testing.T) {
	o := &Options{Tag: 0xabcd, PingInterval: 300 * time.Millisecond, PingTimeout: 200 * time.Millisecond}
	inMemory(t, o, nil, func(g *rig) {
		status, body, h := g.do("GET", "EIO=4&transport=polling&t=x", "")
		if status != 200 || !strings.HasPrefix(body, "0") {
			t.Fatalf("got %d %q, want 200 and an open packet", status, body)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(body[1:]), &got); err != nil {
			t.Fatal(err)
		}
		id, _ := got["sid"].(string)
		if tag, ok := sid.TagIn(id); !ok || tag != 0xabcd {
			t.Errorf("sid %q: got tag %v, want 0000abcd", id, tag)
		}
		want := map[string]any{"sid": id, "upgrades": []any{"websocket"}, "pingInterval": 300.0, "pingTimeout": 200.0, "maxPayload": 1e6}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("open packet (-want +got)\n%s", d)
		}
		for k, want := range map[string]string{"Content-Type": "text/plain; charset=UTF-8", "Cache-Control": "no-store", "Set-Cookie": ""} {
			if got := h.Get(k); got != want {
				t.Errorf("%s: got %q, want %q", k, got, want)
			}
		}
	})
}

func TestHandshakeWebSocket(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		k := g.ws("")
		var got map[string]any
		if err := json.Unmarshal([]byte(k.next()[1:]), &got); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{"sid": g.rec(0).c.ID(), "upgrades": []any{}, "pingInterval": 25000.0, "pingTimeout": 20000.0, "maxPayload": 1e6}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("open packet (-want +got)\n%s", d)
		}
		if got := g.rec(0).c.Transport(); got != WebSocket {
			t.Errorf("Transport: got %q, want websocket", got)
		}
	})
}

func TestRefusedRequests(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		id := g.openPoll()
		for _, c := range []struct {
			method, query string
			code          ErrorCode
		}{
			{"GET", "transport=polling", ErrUnsupportedVersion},
			{"GET", "EIO=abc&transport=polling", ErrUnsupportedVersion},
			{"GET", "EIO=3&transport=polling", ErrUnsupportedVersion},
			{"GET", "EIO=4&EIO=5&transport=polling", ErrUnsupportedVersion},
			{"GET", "EIO[]=4&transport=polling", ErrUnsupportedVersion},
			{"GET", "", ErrUnknownTransport},
			{"GET", "EIO=4", ErrUnknownTransport},
			{"GET", "EIO=4&transport=abc", ErrUnknownTransport},
			{"GET", "EIO=4&transport=", ErrUnknownTransport},
			{"GET", "EIO=4&transport=constructor", ErrUnknownTransport},
			{"GET", "EIO=4&transport=%ff", ErrUnknownTransport},
			{"GET", "EIO=4&transport=webtransport", ErrUnknownTransport},
			{"GET", "EIO=4&transport=%zz", ErrUnknownTransport},
			{"POST", "EIO=4&transport=polling", ErrBadHandshakeMethod},
			{"PUT", "EIO=4&transport=polling", ErrBadHandshakeMethod},
			{"HEAD", "EIO=4&transport=polling", ErrBadHandshakeMethod},
			{"OPTIONS", "EIO=4&transport=polling", ErrBadHandshakeMethod},
			{"GET", "EIO=4&transport=websocket", ErrBadRequest},
			{"GET", "EIO=4&transport=polling&sid=unknown", ErrUnknownSID},
			{"POST", "EIO=4&transport=polling&sid=__proto__", ErrUnknownSID},
			{"GET", "EIO=4&transport=polling&sid=" + id + "x", ErrUnknownSID},
			{"GET", "EIO=4&transport=websocket&sid=" + id, ErrBadRequest},
			{"PUT", poll(id), ErrBadRequest},
			{"DELETE", poll(id), ErrBadRequest},
		} {
			status, body, h := g.do(c.method, c.query, "")
			want := fmt.Sprintf(`{"code":%d,"message":%q}`, c.code, c.code.String())
			if c.method == "HEAD" {
				want = ""
			}
			if status != 400 || body != want || h.Get("Content-Type") != "application/json" {
				t.Errorf("%s ?%s: got %d %q, want 400 %q", c.method, c.query, status, body, want)
			}
		}
		if got := g.s.Stats(); got.Sessions != 1 || got.Opened != 1 || got.Refused[ErrUnknownTransport] != 8 {
			t.Errorf("got %+v, want one session and 8 unknown transports", got)
		}
	})
}

func TestQuery(t *testing.T) {
	for raw, want := range map[string]query{
		"":                                {},
		"&&=&":                            {},
		"EIO=4&transport=polling&sid=a-_": {"4", "polling", "a-_"},
		"sid=a&sid=b":                     {sid: "b"},
		"sid=a%2Db+c":                     {sid: "a-b c"},
		"transport=polling#":              {transport: "polling#"},
		"x=%&EIO=4":                       {eio: "4"},
		"EIO":                             {},
	} {
		if got := parseQuery(raw); got != want {
			t.Errorf("%q: got %+v, want %+v", raw, got, want)
		}
	}
}

func TestTransports(t *testing.T) {
	inMemory(t, &Options{Transports: []string{WebSocket}}, nil, func(g *rig) {
		if status, body, _ := g.do("GET", "EIO=4&transport=polling", ""); status != 400 || !strings.Contains(body, `"code":0`) {
			t.Errorf("polling: got %d %q, want 400 and code 0", status, body)
		}
		g.openWS()
	})
	inMemory(t, &Options{Transports: []string{Polling}}, nil, func(g *rig) {
		if _, body, _ := g.do("GET", "EIO=4&transport=polling", ""); !strings.Contains(body, `"upgrades":[]`) {
			t.Errorf("got %q, want no upgrades", body)
		}
		if _, res := g.tryWS("", ""); res.StatusCode != 400 {
			t.Errorf("WebSocket: got %d, want 400", res.StatusCode)
		}
	})
}

func TestWebSocketRequests(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		for _, c := range []struct {
			change, to string
			status     int
		}{
			{"", "", 101},
			{"Connection: Upgrade", "Connection: keep-alive, Upgrade", 101},
			{"Connection: Upgrade", "connection: upgrade", 101},
			{"Upgrade: websocket", "upgrade: WebSocket", 101},
			{"Upgrade: websocket", "X: y", 400}, // as nginx sends it
			{"Upgrade: websocket", "Upgrade: h2c", 400},
			{"Connection: Upgrade", "Connection: close", 400},
			{"Version: 13", "Version: 8", 400},
			{"Sec-WebSocket-Version: 13\r\n", "", 400},
			{"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", 400},
			{"dGhlIHNhbXBsZSBub25jZQ==", "!", 400},
			{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400},
		} {
			conn, err := g.dial()
			if err != nil {
				t.Fatal(err)
			}
			req := fmt.Sprintf("GET /any/path/?EIO=4&transport=websocket HTTP/1.1\r\n"+wsRequest+"\r\n", "x")
			changed := strings.Replace(req, c.change, c.to, 1)
			go conn.Write([]byte(changed))
			k := &wsClient{TB: t, Conn: conn}
			res := k.response()
			if res.StatusCode != c.status {
				t.Errorf("%q for %q: got %d, want %d", c.to, c.change, res.StatusCode, c.status)
			}
			conn.Close()
		}
	})
}

// TestHTTP10 sends what simple proxies and health checks send.
func TestHTTP10(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		conn, err := g.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go conn.Write([]byte("GET /?EIO=4&transport=polling HTTP/1.0\r\nconnection: upgrade\r\nhost: x\r\n\r\n"))
		k := &wsClient{TB: t, Conn: conn}
		if res := k.response(); res.StatusCode != 200 {
			t.Errorf("got %d, want 200", res.StatusCode)
		}
	})
}

func TestHandshakeIsKept(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		g.do("GET", "EIO=4&transport=polling&a=b%20c", "", "X-Many", "1", "X-Many", "2", "Cookie", "x=y")
		h := g.rec(0).c.Handshake()
		if got := h.Header["X-Many"]; !cmp.Equal(got, []string{"1", "2"}) {
			t.Errorf("X-Many: got %q, want 1 and 2", got)
		}
		if got := h.URL.Query().Get("a"); got != "b c" {
			t.Errorf("query: got %q, want %q", got, "b c")
		}
		if h.Host != "memory" || h.URL.Path != "/engine.io/" || h.Protocol != 4 || h.Secure || !h.Time.Equal(time.Now()) || h.Header.Get("Cookie") != "x=y" {
			t.Errorf("got %+v", h)
		}
	})
}

func TestCookie(t *testing.T) {
	for _, c := range []struct {
		template http.Cookie
		want     string
	}{
		{http.Cookie{}, "io=%s; Path=/; HttpOnly; SameSite=Lax"},
		{http.Cookie{Name: "app", Path: "/x", MaxAge: 60, Secure: true, SameSite: http.SameSiteNoneMode}, "app=%s; Max-Age=60; Path=/x; HttpOnly; Secure; SameSite=None"},
		{http.Cookie{Domain: "a.test", MaxAge: -1, Partitioned: true, Secure: true, SameSite: http.SameSiteDefaultMode}, "io=%s; Max-Age=0; Domain=a.test; Path=/; HttpOnly; Secure; Partitioned"},
		{http.Cookie{Expires: time.Unix(2e9, 0), SameSite: http.SameSiteStrictMode}, "io=%s; Path=/; Expires=Wed, 18 May 2033 03:33:20 GMT; HttpOnly; SameSite=Strict"},
	} {
		inMemory(t, &Options{Cookie: &c.template}, echoes, func(g *rig) {
			_, _, h := g.do("GET", "EIO=4&transport=polling", "")
			id := g.rec(0).c.ID()
			if got, want := h.Get("Set-Cookie"), fmt.Sprintf(c.want, id); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			g.post(id, "4x")
			if _, _, h := g.do("GET", poll(id), ""); h.Get("Set-Cookie") != "" {
				t.Errorf("second request: got %q, want no cookie", h.Get("Set-Cookie"))
			}
			_, res := g.tryWS("", "")
			if got := res.Header.Get("Set-Cookie"); got != "" {
				t.Errorf("WebSocket: got %q, want no cookie", got)
			}
		})
	}
}

// TestNoHijack asks for WebSockets where the connection cannot be had.
func TestNoHijack(t *testing.T) {
	g := makeRig(t, nil, nil)
	ask := func(query string) int {
		r := httptest.NewRequest("GET", "/?EIO=4&transport=websocket"+query, nil)
		r.Header.Set("Upgrade", "websocket")
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Sec-WebSocket-Version", "13")
		r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		w := httptest.NewRecorder()
		g.s.ServeHTTP(w, r)
		return w.Code
	}
	if got := ask(""); got != 400 {
		t.Errorf("got %d, want 400", got)
	}
	if got := g.rec(0).wait(t); got.Reason != ReasonTransportError {
		t.Errorf("got %v, want transport error", got)
	}
	w := httptest.NewRecorder()
	g.s.ServeHTTP(w, httptest.NewRequest("GET", "/?EIO=4&transport=polling", nil))
	if got := ask("&sid=" + g.rec(1).c.ID()); got != 400 {
		t.Errorf("upgrade: got %d, want 400", got)
	}
	if got := g.s.Stats().Sessions; got != 1 {
		t.Errorf("got %d sessions, want the polling one", got)
	}
	g.s.Close()
}
