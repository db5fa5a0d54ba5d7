package natsbus

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
)

// Nodes that are killed and started again, the first one first.
func TestProcessesAreKilled(t *testing.T) {
	dir := t.TempDir()
	first := clustertest.Start(t, "first", dir)
	second := clustertest.Start(t, "second", dir)
	bus, err := dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	n, err := cluster.Join(t.Context(), bus, &cluster.Options{Heartbeat: 100 * time.Millisecond, DeadAfter: 600 * time.Millisecond, Logger: silent})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	peers := func(want ...string) {
		t.Helper()
		eventually(t, "peers "+strings.Join(want, " "), func() bool {
			var got []string
			for _, p := range n.Peers() {
				got = append(got, p.Name)
			}
			slices.Sort(got)
			return slices.Equal(got, want)
		})
	}
	peers("first", "second")
	first.Kill()
	third := clustertest.Start(t, "third", dir)
	peers("second", "third")
	second.Kill()
	third.Kill()
	peers()
	clustertest.Start(t, "first", dir)
	peers("first")
}

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	o := EmbedOptions{Dir: t.TempDir(), TLS: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}}
	a, b, c := mustEmbed(t, o), mustEmbed(t, o), mustEmbed(t, o)
	meshed(t, a, b, c)
	o.TLS = nil
	if d := mustEmbed(t, o); len(d.Peers()) > 0 {
		t.Errorf("a node without TLS: got %d routes, want none", len(d.Peers()))
	}
}
