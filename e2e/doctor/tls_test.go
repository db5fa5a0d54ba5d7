//go:build unix

package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/internal/doctor"
)

// certificate writes one for 127.0.0.1 that ends so, with its key, and returns who trusts it.
func certificate(t *testing.T, end time.Time) (file, key string, trust *tls.Config) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: end,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &priv.PublicKey, priv)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errorsOf(os.WriteFile(file, public, 0o600), os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), 0o600)); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(public)
	return file, key, &tls.Config{RootCAs: pool}
}

// secured puts https before url, and returns where, and who trusts it.
func secured(t *testing.T, url string) (string, *tls.Config) {
	t.Helper()
	file, key, trust := certificate(t, time.Now().AddDate(1, 0, 0))
	pair, err := tls.LoadX509KeyPair(file, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	to := strings.TrimPrefix(url, "http://")
	var group sync.WaitGroup
	group.Go(func() {
		for {
			front, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer front.Close()
				back, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer back.Close()
				group.Go(func() {
					_, _ = io.Copy(back, front)
					back.Close()
				})
				_, _ = io.Copy(front, back)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		group.Wait()
	})
	return "https://" + l.Addr().String(), trust
}

func errorsOf(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestTLS(t *testing.T) {
	year := time.Now().AddDate(1, 0, 0)
	for _, c := range []struct {
		name      string
		end       time.Time
		stranger  bool // nobody trusts the certificate
		plaintext bool // asks over http, which is redirected
		want      []string
	}{
		{"right", year, false, false, nil},
		{"nobody trusts it", year, true, false, []string{"certificate"}},
		{"over", time.Now().Add(-24 * time.Hour), false, false, []string{"certificate"}},
		{"over soon", time.Now().Add(72 * time.Hour), false, false, []string{"certificate-ends"}},
		{"http redirects to it", year, false, true, []string{"redirect-https"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file, key, trust := certificate(t, c.end)
			secure := fmt.Sprintf("127.0.0.1:%d", freePort(t))
			url := nginx(t, farm{engine: friendly}.start(t), []string{"listen ADDRESS;",
				"listen ADDRESS; listen " + secure + " ssl http2; ssl_certificate " + file + "; ssl_certificate_key " + key + "; if ($scheme = http) { return 301 https://" + secure + "$request_uri; }"})
			if !c.plaintext {
				url = "https://" + secure
			}
			o := doctor.Options{Quick: true, TLS: trust, Origin: page, Credentials: true}
			if c.stranger {
				o.TLS = nil
			}
			r := check(t, url, o)
			if got := ids(r); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q: %+v", got, c.want, r.Findings)
			}
			if got := fact(r, "HTTP/2"); !strings.Contains(got, "works") {
				t.Errorf("HTTP/2: got %q, want that it works", got)
			}
			if !strings.HasPrefix(r.URL, "https://") {
				t.Errorf("got %s, want the address that was redirected to", r.URL)
			}
		})
	}
}
