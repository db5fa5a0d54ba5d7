//go:build unix

package proxies

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// tryHTTP2 opens a polling session over TLS and HTTP/2, and has it echo a text.
func (f *front) tryHTTP2(t testing.TB) {
	t.Helper()
	var err error // some programs serve one port before the other
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = accepts(fmt.Sprintf("127.0.0.1:%d", f.tls))(); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("HTTP/2: %v", err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	url := fmt.Sprintf("https://127.0.0.1:%d/socket.io/?EIO=4&transport=polling", f.tls)
	do := func(method, body string) string {
		t.Helper()
		req, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatalf("HTTP/2: %v", err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
			t.Fatalf("%s over HTTP/2: got %s %s %q, %v, want 200 over HTTP/2.0", method, res.Proto, res.Status, b, err)
		}
		return string(b)
	}
	var open struct{ SID string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(do("GET", ""), "0")), &open); err != nil {
		t.Fatal(err)
	}
	url += "&sid=" + open.SID
	do("POST", "40")
	if got := do("GET", ""); !strings.HasPrefix(got, "40{") {
		t.Errorf("HTTP/2: got %q, want a CONNECT", got)
	}
	text := strings.Repeat("long ", 100_000)
	do("POST", `420["echo","`+text+`"]`)
	if got, want := do("GET", ""), `430["`+text+`"]`; got != want {
		t.Errorf("HTTP/2: got %d bytes back, want %d", len(got), len(want))
	}
	do("POST", "1")
}
