package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/atollhq/atoll/internal/balanceconf"
	"github.com/atollhq/atoll/sticky"
)

// A balanceRun is a balancer that runs.
type balanceRun struct {
	flags *balanceFlags
	file  *balanceconf.File // in force; the goroutine of attend has it
	b     *sticky.Balancer
	seen  string               // the stamp of the configuration; taken before it is read
	log   *sticky.LogFile      // nil where there is none
	certs *sticky.Certificates // nil without TLS

	again, rotate chan os.Signal
}

// run balances until ctx ends.
func (b *balanceFlags) run(ctx context.Context, out io.Writer) (err error) {
	seen := stampOf(b.config)
	f, o, err := b.load()
	if err != nil {
		return usageError{err}
	}
	certs, err := certificates(f)
	if err != nil {
		return err
	}
	if b.check {
		fmt.Fprintf(out, "The configuration makes sense: %s.\n", summary(o))
		return nil
	}
	r := &balanceRun{flags: b, file: f, seen: seen, certs: certs, again: make(chan os.Signal, 1), rotate: make(chan os.Signal, 1)}
	watchSignals(r.again, r.rotate)
	defer signal.Stop(r.again)
	defer signal.Stop(r.rotate)
	o.Logger = slog.Default()
	if f.AccessLog.Path != "" {
		r.log, err = sticky.OpenLog(f.In(f.AccessLog.Path), sticky.LogFormat(f.AccessLog.Format), f.AccessLog.Sessions)
		if err != nil {
			return usageError{err}
		}
		defer r.log.Close()
		o.AccessLog = r.log.Log
	}
	ln, url, err := (&listenFlags{host: b.host, port: b.port}).listen()
	if err != nil {
		return err
	}
	defer ln.Close()
	if r.b, err = sticky.New(o); err != nil {
		return usageError{err}
	}
	defer r.b.Close()
	stop, adminURL, err := r.admin()
	if err != nil {
		return err
	}
	defer stop()

	var wg sync.WaitGroup
	defer wg.Wait()
	attending, end := context.WithCancel(ctx)
	defer end()
	wg.Go(func() { r.attend(attending) })
	served := make(chan error, 1)
	if r.certs != nil {
		url = "https" + strings.TrimPrefix(url, "http")
		go func() { served <- r.b.ServeTLS(ln, r.certs.TLSConfig()) }()
	} else {
		go func() { served <- r.b.Serve(ln) }()
	}
	fmt.Fprintf(out, "Balancing %s over %s. Ctrl-C ends it.\n", url, summary(o))
	if adminURL != "" {
		fmt.Fprintf(out, "Status page: %s\n", adminURL)
	}
	select {
	case err := <-served:
		return fmt.Errorf("the balancer does not accept connections any more: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := shut(ctx, f)
	defer cancel()
	if err := r.b.Shutdown(grace); err != nil {
		slog.Warn("sessions were cut", "err", err)
	}
	<-served
	return nil
}

// certificates reads those that f names. It returns nil where there are none.
func certificates(f *balanceconf.File) (*sticky.Certificates, error) {
	var files []sticky.CertificateFile
	for _, c := range f.Listen.TLS {
		files = append(files, sticky.CertificateFile{Cert: f.In(c.Cert), Key: f.In(c.Key)})
	}
	if len(files) == 0 {
		return nil, nil
	}
	c, err := sticky.LoadCertificates(slog.Default(), files...)
	if err != nil {
		return nil, fmt.Errorf("cannot use the certificate: %w", err)
	}
	return c, nil
}

// admin serves the pages for people and programs that look after the balancer, where that is wanted.
func (r *balanceRun) admin() (stop func(), url string, err error) {
	a := r.file.Admin
	if a.Listen == "" {
		if a.Changes {
			return nil, "", usagef("the pages that changes are allowed on have no address: say it with --admin, such as --admin 127.0.0.1:9000")
		}
		return func() {}, "", nil
	}
	ln, err := net.Listen("tcp", a.Listen)
	if err != nil {
		return nil, "", fmt.Errorf("cannot serve the status page on %s: %w", a.Listen, err)
	}
	server := &http.Server{
		Handler:           r.b.Admin(&sticky.AdminOptions{Changes: a.Changes, Hosts: a.Hosts}),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: headerLimit,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("the status page has ended", "err", err)
		}
	}()
	return func() {
		server.Close()
		<-done
	}, "http://" + ln.Addr().String(), nil
}

// attend follows the configuration file and signals until ctx ends.
func (r *balanceRun) attend(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.rotate:
			if r.log == nil {
				slog.Info("there is no access log to open anew")
			} else if err := r.log.Reopen(); err != nil {
				slog.Error("the access log goes on where it was", "err", err)
			}
			continue
		case <-r.again:
			if r.certs != nil {
				if err := r.certs.Reload(); err != nil {
					slog.Error("certificates stay as they are", "err", err)
				}
			}
			r.seen = stampOf(r.flags.config)
		case <-t.C:
			now := stampOf(r.flags.config)
			if now == r.seen || now == "" {
				continue
			}
			r.seen = now
		}
		r.reload()
	}
}

// stampOf returns what tells whether a file has changed, or an empty string where there is none.
func stampOf(path string) string {
	if path == "" {
		return ""
	}
	fi, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprint(fi.ModTime().UnixNano(), " ", fi.Size())
}

// reload takes over what the configuration says now. A bad one changes nothing.
func (r *balanceRun) reload() {
	if r.flags.config == "" {
		slog.Info("there is no configuration file to read again")
		return
	}
	flags := *r.flags // what of them comes from the file is not to stay
	f, o, err := flags.load()
	var restart []string
	if err == nil {
		restart, err = r.b.Reconfigure(o)
	} else {
		r.b.ReloadFailed()
	}
	if err != nil {
		slog.Error("the configuration stays as it was: the new one makes no sense", "err", err)
		return
	}
	for _, c := range []struct {
		name     string
		old, new any
	}{
		{"listen", r.file.Listen, f.Listen}, {"admin", r.file.Admin, f.Admin}, {"access_log", r.file.AccessLog, f.AccessLog},
		{"discover", r.file.Discover, f.Discover}, {"backend_tls", r.file.BackendTLS, f.BackendTLS},
	} {
		if !reflect.DeepEqual(c.old, c.new) {
			restart = append(restart, c.name)
		}
	}
	slog.Info("the configuration was read again", "nodes", len(o.Backends), "policy", o.Policy)
	if len(restart) > 0 {
		slog.Warn("some of what has changed takes a restart", "what", strings.Join(restart, ", "))
	}
}
