package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/atollhq/atoll/sticky"
)

// listenFlags say where to serve.
type listenFlags struct {
	host, cert, key string
	port            int
}

func (l *listenFlags) register(f *pflag.FlagSet, port int) {
	f.IntVarP(&l.port, "port", "p", port, "port to listen on; 0 for any free one")
	f.StringVar(&l.host, "host", "127.0.0.1", "address to listen on; 0.0.0.0 for all")
	f.StringVar(&l.cert, "tls-cert", "", "serve https with this certificate, a PEM file")
	f.StringVar(&l.key, "tls-key", "", "and its key")
}

func (l *listenFlags) listen() (net.Listener, string, error) {
	var conf *tls.Config
	scheme := "http"
	if (l.cert == "") != (l.key == "") {
		return nil, "", usagef("--tls-cert and --tls-key go together")
	}
	if l.cert != "" {
		certs, err := sticky.LoadCertificates(slog.Default(), sticky.CertificateFile{Cert: l.cert, Key: l.key}) // follows the files
		if err != nil {
			return nil, "", fmt.Errorf("cannot use the certificate: %w", err)
		}
		conf, scheme = certs.TLSConfig(), "https"
		conf.NextProtos = []string{"http/1.1"}
	}
	if l.port < 0 || l.port > 65535 {
		return nil, "", usagef("there is no port %d: choose one from 1 to 65535", l.port)
	}
	addr := net.JoinHostPort(l.host, strconv.Itoa(l.port))
	ln, err := inherited()
	if ln == nil && err == nil {
		ln, err = net.Listen("tcp", addr)
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, "", fmt.Errorf("port %d is taken by another program: choose another with --port", l.port)
	case errors.Is(err, syscall.EACCES):
		return nil, "", fmt.Errorf("port %d needs rights that you do not have: choose one above 1023 with --port", l.port)
	case err != nil:
		return nil, "", fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	host, port, _ := net.SplitHostPort(ln.Addr().String())
	if ip, err := netip.ParseAddr(host); err == nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		host = "localhost"
	}
	if conf != nil {
		ln = tls.NewListener(ln, conf)
	}
	return ln, scheme + "://" + net.JoinHostPort(host, port), nil
}

// serve serves until ctx ends, then shuts down, and returns when all is over. Where shutdown is
// nil, it waits for the requests in work.
func (l *listenFlags) serve(ctx context.Context, h http.Handler, ready func(url string), shutdown func(context.Context) error) error {
	return l.serveUntil(ctx, webServer(h), ready, nil, shutdown)
}

// webServer returns a server of net/http.
func webServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: headerLimit,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
}

// A listener is an *http.Server or a *sticky.Balancer.
type listener interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// serveUntil is serve with any server, and with something that is done first, while all is still served, when ctx has ended. A
// second signal ends the context of both.
func (l *listenFlags) serveUntil(ctx context.Context, server listener, ready func(url string), drain, shutdown func(context.Context) error) error {
	ln, url, err := l.listen()
	if err != nil {
		return err
	}
	hurry := hurry(ctx)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	ready(url)
	tellSystemd("READY=1")
	select {
	case err := <-served:
		return fmt.Errorf("the web server has ended: %w", err)
	case <-ctx.Done():
	}
	tellSystemd("STOPPING=1")
	end, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-hurry:
			cut(errors.New("a second signal"))
		case <-over:
		}
	}()
	if drain != nil {
		if err := drain(end); err != nil {
			slog.Warn("not all clients have gone", "err", err)
		}
	}
	end, cancel := context.WithTimeout(end, endGrace)
	defer cancel()
	if shutdown == nil {
		shutdown = server.Shutdown // what is in work is done, and nothing else goes on
	}
	if err := shutdown(end); err != nil {
		slog.Warn("sessions were cut", "err", err)
	}
	_ = server.Close()
	<-served
	return nil
}

const (
	endGrace    = 10 * time.Second // for sessions to end when the program is told to
	headerLimit = 64 << 10         // bytes
)
