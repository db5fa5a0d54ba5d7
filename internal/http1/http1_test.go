package http1

import (
	"bytes"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
)

// decode takes a chunked body apart that comes in pieces of n bytes.
func decode(body []byte, n int) (data, rest []byte, done bool, err error) {
	var c Chunks
	for len(body) > 0 {
		piece := body[:min(n, len(body))]
		body = body[len(piece):]
		for {
			d, r, e := c.Next(piece)
			if e != nil {
				return nil, nil, false, e
			}
			data = append(data, d...)
			piece = r
			if len(d) == 0 {
				break
			}
		}
		if c.Done() {
			return data, append(piece[:len(piece):len(piece)], body...), true, nil
		}
	}
	return data, nil, false, nil
}

// FuzzChunks: however a body comes in pieces, it is the same, and net/http/httputil agrees.
func FuzzChunks(f *testing.F) {
	for _, s := range []string{"4\r\nbody\r\n0\r\n\r\nrest", "0\r\nA: b\r\n\r\n", "1;x=y\r\na\r\n0\r\n\r\n", "ffffffffffffffff\r\n", "4\nbody", "0\r\n\n", ""} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		data, rest, done, err := decode(body, len(body)+1)
		data1, rest1, done1, err1 := decode(body, max(n, 1))
		if done != done1 || (err == nil) != (err1 == nil) || err == nil && !bytes.Equal(data, data1) || done && !bytes.Equal(rest, rest1) {
			t.Fatalf("%q: got %q, %q, %t, %v; in pieces %q, %q, %t, %v", body, data, rest, done, err, data1, rest1, done1, err1)
		}
		if !done {
			return
		}
		want, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body)))
		if err != nil || !bytes.Equal(want, data) {
			t.Fatalf("%q: got %q, net/http has %q, %v", body, data, want, err)
		}
		again, _, ok, err := decode(append(AppendChunk(nil, append([]byte("x"), data...)), LastChunk...), 1000)
		if string(again) != "x"+string(data) || !ok || err != nil {
			t.Fatalf("%q framed again: got %q, %t, %v", data, again, ok, err)
		}
	})
}

func TestEnd(t *testing.T) {
	const head = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	for n := range len(head) {
		if got := End([]byte(head[:n]), max(0, n-1)); got != 0 {
			t.Errorf("%q: got %d, want 0", head[:n], got)
		}
	}
	if got := End([]byte(head+"rest"), len(head)-1); got != len(head) {
		t.Errorf("got %d, want %d", got, len(head))
	}
	for _, bad := range []string{"\n", "GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost: h\n\r\n", "GET / HTTP/1.1\r\n\n"} {
		if got := End([]byte(bad), 0); got > 0 || got == 0 && !strings.HasSuffix(bad, "\n\r\n") {
			t.Errorf("%q: got %d, want -1", bad, got)
		}
	}
}

func TestRequest(t *testing.T) {
	var r Request
	text := "GET http://H.example:80/a?b HTTP/1.1\r\nhost: h.example:80\r\nCONNECTION: keep-alive, Upgrade, x-hop\r\nUpgrade: foo, WebSocket\r\nX-Hop: 1\r\nX-End: 2\r\nx-end:\t3 \r\n\r\n"
	if err := r.Parse([]byte(text), 100); err != nil {
		t.Fatal(err)
	}
	if string(r.Target) != "/a?b" || string(r.Host) != "H.example:80" || !r.WebSocket || r.Length != -1 {
		t.Errorf("got %s of %s, WebSocket %t, length %d", r.Target, r.Host, r.WebSocket, r.Length)
	}
	var kept []string
	for i := range r.Fields {
		if !r.ForHop(&r.Fields[i]) {
			kept = append(kept, string(r.Fields[i].Name)+"="+string(r.Fields[i].Value))
		}
	}
	if got, want := strings.Join(kept, " "), "host=h.example:80 X-End=2 x-end=3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := strings.Join(r.Values("X-End"), ","); got != "2,3" {
		t.Errorf("got %s, want 2,3", got)
	}
	if allocs := testing.AllocsPerRun(10, func() { r.Parse([]byte(hello), 100) }); allocs > 1 {
		t.Errorf("got %v allocations for a request, want none but that of the test", allocs)
	}
}

const hello = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nA: b\r\n\r\n"
