package sticky

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A CertificateFile is a certificate with its chain, and its key, both in PEM. They may be one file.
type CertificateFile struct {
	Cert string
	Key  string // if empty, Cert
}

// Certificates are those of a TLS server, read from files, and read again when the files change. A pair that
// cannot be read, or does not fit together, does not replace the one before; the log says so. They need no
// goroutine: the files are looked at when a client comes, once in a second at most. Any number
// of goroutines may use them.
type Certificates struct {
	log   *slog.Logger
	next  atomic.Int64 // when the files are to be looked at, in nanoseconds
	mu    sync.Mutex   // held while that is done
	pairs []*pair
	now   atomic.Pointer[chosen]
}

// A pair is what is known of the files of one certificate. Certificates.mu guards it.
type pair struct {
	CertificateFile
	cert  *tls.Certificate
	stamp [2]stamp // of the files when they were last read, with or without success
}

type stamp struct {
	mod  time.Time
	size int64
}

// chosen finds certificates by name. It is never changed.
type chosen struct {
	all    []*tls.Certificate
	byName map[string][]*tls.Certificate // names in lower case, with * for one label
}

// LoadCertificates reads the given certificates. A client gets the first that is for the name it asks
// for (SNI) and that it can use; where none is, the first that it can use. If log is nil, it is slog.Default().
func LoadCertificates(log *slog.Logger, files ...CertificateFile) (*Certificates, error) {
	if len(files) == 0 {
		return nil, errors.New("sticky: no certificate is given")
	}
	if log == nil {
		log = slog.Default()
	}
	c := &Certificates{log: log}
	for _, f := range files {
		f.Key = orElse(f.Key, f.Cert)
		c.pairs = append(c.pairs, &pair{CertificateFile: f})
	}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// TLSConfig returns a new configuration with c, for [Balancer.ServeTLS] or an [http.Server]: TLS 1.2 and
// above, HTTP/2 and HTTP/1.1.
func (c *Certificates) TLSConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: c.GetCertificate}
}

// Reload reads all files now. It returns what is wrong with any of them; the others are in use then.
func (c *Certificates) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read(true)
}

// GetCertificate is for [tls.Config].
func (c *Certificates) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if now := time.Now().UnixNano(); now >= c.next.Load() && c.mu.TryLock() {
		if err := c.read(false); err != nil {
			c.log.Error("sticky: a certificate has changed and cannot be used; the one before stays", "err", err)
		}
		c.mu.Unlock()
	}
	v := c.now.Load()
	name := strings.TrimSuffix(strings.ToLower(hello.ServerName), ".")
	list := v.byName[name]
	if _, rest, ok := strings.Cut(name, "."); ok {
		list = append(list[:len(list):len(list)], v.byName["*."+rest]...)
	}
	for _, cert := range append(list[:len(list):len(list)], v.all...) {
		if usable(hello, cert) {
			return cert, nil
		}
	}
	return v.all[0], nil
}

// usable reports whether the client can use cert, whatever it is for.
func usable(hello *tls.ClientHelloInfo, cert *tls.Certificate) bool {
	h := *hello
	h.ServerName = ""
	return h.SupportsCertificate(cert) == nil
}

// read reads the files that have changed, or all. c.mu is held.
func (c *Certificates) read(all bool) error {
	c.next.Store(time.Now().Add(time.Second).UnixNano())
	var errs []error
	changed := false
	for _, p := range c.pairs {
		stamps, err := p.stamps()
		if err == nil && !all && stamps == p.stamp {
			continue
		}
		if err != nil && !all && p.stamp == ([2]stamp{}) {
			continue // was said
		}
		p.stamp = stamps
		if err == nil {
			err = p.load()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("sticky: certificate %s: %w", p.Cert, err))
			continue
		}
		if changed = true; !all {
			c.log.Info("sticky: a certificate was read again", "file", p.Cert, "until", p.cert.Leaf.NotAfter)
		}
	}
	if changed {
		c.choose()
	}
	return errors.Join(errs...)
}

// stamps returns zero values with an error.
func (p *pair) stamps() (s [2]stamp, err error) {
	for i, name := range []string{p.Cert, p.Key} {
		info, err := os.Stat(name)
		if err != nil {
			return [2]stamp{}, err
		}
		s[i] = stamp{info.ModTime(), info.Size()}
	}
	return s, nil
}

func (p *pair) load() error {
	cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err != nil {
		return err
	}
	if cert.Leaf == nil {
		if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return err
		}
	}
	if time.Now().After(cert.Leaf.NotAfter) && p.cert != nil {
		return fmt.Errorf("it has expired at %v", cert.Leaf.NotAfter)
	}
	p.cert = &cert
	return nil
}

// choose makes what the pairs hold what clients get. c.mu is held.
func (c *Certificates) choose() {
	v := &chosen{byName: make(map[string][]*tls.Certificate)}
	for _, p := range c.pairs {
		if p.cert == nil {
			continue
		}
		v.all = append(v.all, p.cert)
		names := p.cert.Leaf.DNSNames
		if len(names) == 0 && len(p.cert.Leaf.IPAddresses) == 0 {
			names = []string{p.cert.Leaf.Subject.CommonName}
		}
		for _, n := range names {
			n = strings.ToLower(n)
			v.byName[n] = append(v.byName[n], p.cert)
		}
	}
	c.now.Store(v)
}
