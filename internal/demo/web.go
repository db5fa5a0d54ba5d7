package demo

import (
	"bytes"
	"embed"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/atollhq/atoll/internal/demo/jsclient"
)

//go:embed page/*.html page/*.css page/*.js page/*.svg
var page embed.FS

// security says what the page may do. It loads nothing from elsewhere.
var security = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	"X-Content-Type-Options":  "nosniff",
	"Referrer-Policy":         "no-referrer",
	"Cache-Control":           "no-cache",
}

// web is everything that a browser asks for: the page, the official client, the buttons,
// the view of the cluster, and through the balancer the chat.
type web struct {
	balancer http.Handler
	observe  http.Handler
	sup      *Supervisor
}

func (w *web) handler(loopbackOnly bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", w.balancer)
	mux.HandleFunc("GET /socket.io/socket.io.js", jsclient.Serve)
	mux.Handle("/observe/socket.io/", w.observe)
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, r *http.Request) { servePage(rw, r, "index.html") })
	mux.HandleFunc("GET /favicon.ico", func(rw http.ResponseWriter, r *http.Request) { servePage(rw, r, "icon.svg") })
	mux.HandleFunc("GET /assets/{file}", func(rw http.ResponseWriter, r *http.Request) { servePage(rw, r, r.PathValue("file")) })

	// Only the page itself may press the buttons, not another site that is open beside it.
	buttons := http.NewCrossOriginProtection()
	mux.Handle("POST /demo/nodes/{name}/kill", buttons.Handler(w.button(w.sup.Kill)))
	mux.Handle("POST /demo/nodes/{name}/start", buttons.Handler(w.button(w.sup.Start)))
	if loopbackOnly {
		return localNames(mux)
	}
	return mux
}

func (w *web) button(act func(name string) error) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		err := act(r.PathValue("name"))
		switch {
		case err == nil:
			rw.WriteHeader(http.StatusNoContent)
		case errors.Is(err, errUnknownNode):
			http.Error(rw, err.Error(), http.StatusNotFound)
		case errors.Is(err, errIsDown), errors.Is(err, errIsUp), errors.Is(err, errClosing):
			http.Error(rw, err.Error(), http.StatusConflict)
		default:
			http.Error(rw, err.Error(), http.StatusInternalServerError)
		}
	})
}

func servePage(rw http.ResponseWriter, r *http.Request, file string) {
	data, err := fs.ReadFile(page, path.Join("page", file))
	if err != nil {
		http.NotFound(rw, r)
		return
	}
	for k, v := range security {
		rw.Header().Set(k, v)
	}
	http.ServeContent(rw, r, file, time.Time{}, bytes.NewReader(data))
}

// localNames refuses requests that were sent to a name which only happens to lead to
// this machine: a site could otherwise give its own name our address, and be "the same
// origin" as the demo.
func localNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.Trim(host, "[]")
		if _, err := netip.ParseAddr(host); err != nil && host != "localhost" && !strings.HasSuffix(host, ".localhost") {
			http.Error(rw, "The demo answers to localhost and to addresses only. To serve it under another name, start it with --host.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(rw, r)
	})
}
