package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
)

// pages serves what is not for the Socket.IO server of the processes: the health of all, and their pages, which
// each process has, in turn.
func (r *runner) pages() http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: "processes"}) // dispatch knows which
			p.Out.Host = p.In.Host
			p.SetXForwarded()
		},
		Transport: dispatch{r, &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}},
		ErrorLog:  slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "no process answers", http.StatusBadGateway)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/health" {
			r.tellHealth(w)
			return
		}
		proxy.ServeHTTP(w, q)
	})
}

// tellHealth says whether new clients are welcome.
func (r *runner) tellHealth(w http.ResponseWriter) {
	r.mu.Lock()
	n, draining := len(r.addrs), r.draining
	r.mu.Unlock()
	status, code := "ok", http.StatusOK
	switch {
	case draining:
		status, code = "draining", http.StatusServiceUnavailable
	case n == 0:
		status, code = "no process serves", http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	fmt.Fprintf(w, "{\"status\":%q,\"processes\":%d}\n", status, n) // whoever asked may have left
}

// order returns the processes in the order in which a page is asked for: those last that are about to end.
func (r *runner) order() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for i := range r.addrs {
		if a := r.addrs[(r.turn+i)%len(r.addrs)]; !slices.Contains(r.going, a) {
			list = append(list, a)
		}
	}
	r.turn++
	return append(list, r.going...)
}

// A dispatch sends a request to one process, and to the next where no connection could be made.
type dispatch struct {
	r  *runner
	to *http.Transport
}

func (d dispatch) RoundTrip(q *http.Request) (*http.Response, error) {
	err := errors.New("no process serves")
	for _, addr := range d.r.order() {
		out := q.Clone(q.Context())
		out.URL.Host = addr
		var res *http.Response
		if res, err = d.to.RoundTrip(out); err == nil {
			return res, nil
		}
		if e, ok := errors.AsType[*net.OpError](err); !ok || e.Op != "dial" || q.ContentLength != 0 {
			break
		}
	}
	return nil, err
}
