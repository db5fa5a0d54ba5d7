package sticky

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// issue writes a certificate for the given names.
func issue(t testing.TB, f CertificateFile, serial int64, names ...string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, f.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}))
}

func write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	a := CertificateFile{filepath.Join(dir, "a.pem"), filepath.Join(dir, "a.key")}
	b := CertificateFile{filepath.Join(dir, "b.pem"), filepath.Join(dir, "b.key")}
	issue(t, a, 1, "a.example", "*.a.example")
	issue(t, b, 2, "b.example")
	var said bytes.Buffer
	c, err := LoadCertificates(slog.New(slog.NewTextHandler(&said, nil)), a, b)
	if err != nil {
		t.Fatal(err)
	}
	serial := func(name string) int64 {
		t.Helper()
		// A handshake in memory.
		near, far := net.Pipe()
		defer near.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			tls.Server(far, c.TLSConfig()).Handshake()
			io.Copy(io.Discard, far)
		}()
		cl := tls.Client(near, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if err := cl.Handshake(); err != nil {
			t.Fatal(err)
		}
		n := cl.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
		near.Close()
		<-done
		return n
	}
	for name, want := range map[string]int64{"a.example": 1, "x.A.example": 1, "b.example": 2, "x.b.example": 1, "": 1, "unknown": 1} {
		if got := serial(name); got != want {
			t.Errorf("%q: got certificate %d, want %d", name, got, want)
		}
	}

	due := func() { c.next.Store(0) } // as if a second had passed
	later := func(f string) { os.Chtimes(f, time.Time{}, time.Now().Add(time.Minute)) }
	issue(t, b, 3, "b.example")
	later(b.Cert)
	if due(); serial("b.example") != 3 {
		t.Error("the new certificate is not in use")
	}
	write(t, b.Key, []byte("broken"))
	for range 3 {
		if due(); serial("b.example") != 3 {
			t.Error("a broken key replaced the certificate")
		}
	}
	if got := strings.Count(said.String(), "cannot be used"); got != 1 {
		t.Errorf("said %d times that it is broken, want once: %s", got, &said)
	}
	if err := c.Reload(); err == nil || !strings.Contains(err.Error(), "b.pem") {
		t.Errorf("Reload: got %v, want an error that names the file", err)
	}
	os.Remove(a.Cert)
	if due(); serial("a.example") != 1 {
		t.Error("a missing file took the certificate away")
	}
	if _, err := LoadCertificates(nil, a); err == nil {
		t.Error("a missing file at the start: got no error")
	}
}

// TLS with HTTP/2, HTTP/1.1 and WebSockets over one listener.
func TestServeTLS(t *testing.T) {
	dir := t.TempDir()
	f := CertificateFile{filepath.Join(dir, "a.pem"), filepath.Join(dir, "a.key")}
	issue(t, f, 1, "localhost")
	certs, err := LoadCertificates(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, "a", true)
	l, err := New(&Options{Backends: []Backend{{URL: n.url}}, Logger: slog.New(slog.DiscardHandler), Front: Front{MaxConnsPerAddress: 50}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.ServeTLS(ln, certs.TLSConfig()) }()
	base := "https://" + ln.Addr().String()
	conf := &tls.Config{InsecureSkipVerify: true}
	for _, major := range []int{1, 2} {
		tr := &http.Transport{TLSClientConfig: conf.Clone(), ForceAttemptHTTP2: major == 2}
		cl := &http.Client{Transport: tr}
		for range 3 {
			resp, err := cl.Get(base + polling)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.ProtoMajor != major || !strings.HasPrefix(string(body), "0{") {
				t.Errorf("got HTTP/%d, %s; want HTTP/%d and a session", resp.ProtoMajor, body, major)
			}
		}
		tr.CloseIdleConnections()
	}
	c, err := tls.Dial("tcp", ln.Addr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	s := upgrade(t, c, "", "over TLS")
	s.expect(t, "aover TLS")
	big := strings.Repeat("0123456789abcdef", 1<<14)
	go io.WriteString(s, big)
	s.expect(t, big)
	if got := n.proto.Load(); got != "https" {
		t.Errorf("the node was told the scheme %v, want https", got)
	}
	c.Close()
	waitFor(t, "all connections are gone", func() bool {
		l.front.mu.Lock()
		defer l.front.mu.Unlock()
		return l.front.conns == 0 && len(l.front.from) == 0
	})
	l.Close()
	if err := <-done; err != http.ErrServerClosed {
		t.Errorf("got %v, want %v", err, http.ErrServerClosed)
	}
}
