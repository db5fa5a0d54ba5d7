package httpemit_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/emitter/httpemit"
)

func TestOptions(t *testing.T) {
	em := emitter.New(&sink{}, nil)
	for want, o := range map[string]*httpemit.Options{
		"no token":             nil,
		"at least 16":          {Tokens: []string{token, "short"}},
		"no header can carry":  {Tokens: []string{token, "sixteen bytes and\na line"}},
		"both":                 {Tokens: []string{token}, Open: true},
		"no header can carry ": {Tokens: []string{"schlüsselbund von daheim"}},
	} {
		if _, err := httpemit.New(em, o); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%+v: got %v, want %s", o, err, want)
		}
	}
}

func TestTokens(t *testing.T) {
	one, two := strings.Repeat("1", 32), strings.Repeat("2", 32)
	h, err := httpemit.New(emitter.New(&sink{}, nil), &httpemit.Options{Tokens: []string{one}})
	if err != nil {
		t.Fatal(err)
	}
	try := func(method, auth, contentType string) int {
		r := httptest.NewRequest(method, "/emit", strings.NewReader(`{"event":"x"}`))
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == 401 && w.Header().Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s %q: got no WWW-Authenticate", method, auth)
		}
		return w.Code
	}
	check := func(auth string, want int) {
		t.Helper()
		if got := try("POST", auth, jsonType); got != want {
			t.Errorf("%q: got %d, want %d", auth, got, want)
		}
	}
	check("Bearer "+one, 200)
	check("bearer  "+one, 200)
	check("Bearer "+two, 401)
	check("Bearer "+one[1:], 401)
	check("Bearer", 401)
	check("Basic "+one, 401)
	check("", 401)
	if err := h.SetTokens(one, two); err != nil {
		t.Fatal(err)
	}
	check("Bearer "+one, 200)
	check("Bearer "+two, 200)
	if err := h.SetTokens("short"); err == nil {
		t.Error("SetTokens: got no error, want one")
	}
	if err := h.SetTokens(); err == nil {
		t.Error("SetTokens: got no error, want one")
	}
	check("Bearer "+two, 200)
	if err := h.SetTokens(two); err != nil {
		t.Fatal(err)
	}
	check("Bearer "+one, 401)
	if got := try("GET", "Bearer "+two, jsonType); got != 405 {
		t.Errorf("GET: got %d, want 405", got)
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "a/b/c"} {
		if got := try("POST", "Bearer "+two, kind); got != 415 {
			t.Errorf("%q: got %d, want 415", kind, got)
		}
	}
	if got := try("POST", "Bearer "+two, "application/json; charset=utf-8"); got != 200 {
		t.Errorf("with a charset: got %d, want 200", got)
	}
}

// TestOpen: without a token only this machine may emit, and no page of the web that a browser on it shows.
func TestOpen(t *testing.T) {
	h, err := httpemit.New(emitter.New(&sink{}, nil), &httpemit.Options{Open: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, host string
		want       int
	}{
		{"127.0.0.1:5000", "localhost:8080", 200},
		{"127.0.0.1:5000", "127.0.0.1", 200},
		{"[::1]:5000", "[::1]:80", 200},
		{"[::1]:5000", "[::1]", 200},
		{"[::ffff:127.0.0.1]:5000", "LOCALHOST", 200},
		{"127.0.0.1:5000", "rebound.example:8080", 401},
		{"127.0.0.1:5000", "localhost.example", 401},
		{"127.0.0.1:5000", "", 401},
		{"10.0.0.1:5000", "localhost:8080", 401},
		{"", "localhost", 401},
	} {
		r := httptest.NewRequest("POST", "/emit", strings.NewReader(`{"event":"x"}`))
		r.RemoteAddr, r.Host = c.from, c.host
		r.Header.Set("Content-Type", jsonType)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("from %s to %s: got %d, want %d", c.from, c.host, w.Code, c.want)
		}
	}
	if err := h.SetTokens(token); err == nil {
		t.Error("SetTokens: got no error, want one")
	}
}
