package client_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll/client"
)

const openPacket = `0{"sid":"abc","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`

// A script is a server of long-polling that gives out bodies, one for each poll, and then fails.
type script struct{ bodies [][]byte }

var errScript = errors.New("the script is over")

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPost {
		io.Copy(io.Discard, r.Body)
		return reply(200, []byte("ok")), nil
	}
	if len(s.bodies) == 0 {
		return nil, errScript
	}
	body := s.bodies[0]
	s.bodies = s.bodies[1:]
	return reply(200, bytes.Clone(body)), nil
}

func reply(status int, body []byte) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}
}

// speaks returns a dialer of WebSockets on which the server sends stream and closes.
func speaks(stream []byte) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		c, s := net.Pipe()
		go func() {
			defer s.Close()
			r, err := http.ReadRequest(bufio.NewReader(s))
			if err != nil {
				return
			}
			sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
			go io.Copy(io.Discard, s)
			fmt.Fprintf(s, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n%s",
				base64.StdEncoding.EncodeToString(sum[:]), stream)
		}()
		return c, nil
	}
}

func textFrame(s string) string {
	switch n := len(s); {
	case n < 126:
		return "\x81" + string([]byte{byte(n)}) + s
	default:
		return "\x81\x7e" + string([]byte{byte(n >> 8), byte(n)}) + s
	}
}

// meet lets a client meet a server that says what it is given, over both transports.
func meet(t *testing.T, polling [][]byte, stream []byte) {
	o := client.Options{DisableReconnect: true, MaxRead: 1 << 16, Logger: slog.New(slog.DiscardHandler)}
	o.Transport, o.DialContext = &script{polling}, speaks(stream)
	for _, transport := range []string{client.Polling, client.WebSocket} {
		o.Transports = []string{transport}
		s, err := client.New("http://hostile", &o)
		if err != nil {
			t.Fatal(err)
		}
		s.OnAny(func(_ context.Context, e *client.Event) error {
			var v any
			e.Args.Decode(0, &v)
			if e.WantsReply() {
				e.Reply(e.Args)
			}
			return nil
		})
		ended := make(chan struct{}, 1)
		s.OnDisconnect(func(*client.DisconnectError) { ended <- struct{}{} })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if s.Connect(ctx) == nil {
			select {
			case <-ended:
			case <-ctx.Done():
				t.Errorf("%s: got a client that goes on", transport)
			}
		} else if ctx.Err() != nil {
			t.Errorf("%s: got a client that waits", transport)
		}
		cancel()
		s.Close()
	}
}

var hostile = []string{
	"", "0", "x", "4", "40", "b!!!", "b", "6", "1", "2", "2probe", "3", "5", "\x1e", "40{\"sid\":\"s\"}",
	openPacket, openPacket + "\x1e40{\"sid\":\"s\"}", openPacket + "\x1e40{\"sid\":\"s\"}\x1e42[\"a\",1]\x1e420[\"b\",{}]\x1e430[1]\x1e41",
	openPacket + "\x1e40{\"sid\":\"s\"}\x1e451-[\"a\",{\"_placeholder\":true,\"num\":0}]\x1ebAQID", openPacket + "\x1e40{\"sid\":\"s\"}\x1e461-0[{\"_placeholder\":true,\"num\":9}]",
	openPacket + "\x1e44{\"message\":\"no\",\"data\":[1]}", openPacket + "\x1e44\"no\"", openPacket + "\x1e44{\"message\":5}", openPacket + "\x1e40", openPacket + "\x1e40{\"sid\":5}",
	openPacket + "\x1e40{\"sid\":\"s\"}\x1e40{\"sid\":\"t\"}\x1e42[\"disconnect\"]", openPacket + "\x1e\x1e", openPacket + "\x1e4\xff",
	`0{}`, `0null`, `0[]`, `0{"sid":""}`, `0{"sid":"x","pingInterval":-1,"pingTimeout":-9223372036854775808,"maxPayload":-5}`,
	`0{"sid":"x","pingInterval":9223372036854775807,"pingTimeout":9223372036854775807,"maxPayload":1}` + "\x1e40{\"sid\":\"s\"}\x1e420[\"a\"]",
	`0{"sid":"` + strings.Repeat("x", 2000) + `"}`, strings.Repeat("6", 1<<17),
}

func TestHostileServer(t *testing.T) {
	for _, h := range hostile {
		var stream strings.Builder
		for m := range strings.SplitSeq(h, "\x1e") {
			if b, ok := strings.CutPrefix(m, "b"); ok {
				data, _ := base64.StdEncoding.DecodeString(b)
				stream.WriteString("\x82" + string([]byte{byte(len(data))}) + string(data))
			} else if len(m) < 1<<16 {
				stream.WriteString(textFrame(m))
			} else {
				stream.WriteString("\x81\x7f\x00\x00\x00\x00\x00\x02\x00\x00")
			}
		}
		meet(t, [][]byte{[]byte(h)}, []byte(stream.String()))
		meet(t, [][]byte{[]byte(openPacket), []byte(`40{"sid":"s"}`), []byte(h)}, []byte(textFrame(openPacket)+textFrame(`40{"sid":"s"}`)+h))
	}
}

func FuzzServer(f *testing.F) {
	for _, h := range hostile {
		f.Add([]byte(h), []byte(textFrame(h[:min(len(h), 1000)])))
	}
	f.Add([]byte(nil), []byte("\x89\x02hi\x8a\x00\x88\x02\x03\xe8"))
	f.Add([]byte(nil), []byte("\x88\x04\x03\xf3no\x01\x01a\x80\x01b\x83\x00"))
	f.Fuzz(func(t *testing.T, polls, stream []byte) {
		start := textFrame(openPacket) + textFrame(`40{"sid":"s"}`)
		meet(t, [][]byte{[]byte(openPacket + "\x1e40{\"sid\":\"s\"}"), polls}, append([]byte(start), stream...))
	})
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		status int
		body   string
		want   client.StatusError
	}{
		{503, "<html>", client.StatusError{Status: 503}},
		{400, `{"code":1,"message":"Session ID unknown"}`, client.StatusError{Status: 400, Code: 1, Message: "Session ID unknown"}},
		{302, "", client.StatusError{Status: 302}},
		{204, "", client.StatusError{Status: 204}},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tt.status == 302 {
				w.Header().Set("Location", "/elsewhere")
			}
			w.WriteHeader(tt.status)
			io.WriteString(w, tt.body)
		}))
		for _, transport := range []string{client.Polling, client.WebSocket} {
			_, err := client.Dial(soon(t), srv.URL, &client.Options{Transports: []string{transport}})
			if e, ok := errors.AsType[*client.StatusError](err); !ok || *e != tt.want {
				t.Errorf("%s: got %v, want %v", transport, err, &tt.want)
			}
		}
		srv.Close()
	}
}

// Certificates are verified, unless the user says otherwise.
func TestTLS(t *testing.T) {
	srv := serverFor(nil)
	defer srv.Close()
	ts := httptest.NewUnstartedServer(srv)
	ts.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	ts.StartTLS()
	defer ts.Close()
	pool := x509.NewCertPool()
	pool.AddCert(ts.Certificate())
	for _, transports := range [][]string{{client.Polling}, {client.WebSocket}, nil} {
		for _, scheme := range []string{"https", "wss"} {
			url := scheme + strings.TrimPrefix(ts.URL, "https")
			o := client.Options{Transports: transports}
			if _, err := client.Dial(soon(t), url, &o); err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("%v: got %v, want an error about the certificate", transports, err)
			}
			o.TLS = &tls.Config{RootCAs: pool}
			s := dial(t, url, &o)
			if a, err := s.Ask(soon(t), "echo", 1); err != nil || a.Len() != 1 {
				t.Errorf("%v: got %v, %v", transports, a, err)
			}
			s.Close()
		}
	}
}
