package sticky

import (
	_ "embed"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// AdminOptions configure [Balancer.Admin]. A nil *AdminOptions has all the defaults.
type AdminOptions struct {
	// Changes allows POST to /drain and /undrain, and shows the buttons for them. By default, the pages only tell.
	Changes bool
	// Hosts are the names by which the pages may be changed, besides localhost and any IP address: without this
	// check, a page of the Internet could give its own name the address of the balancer.
	Hosts []string
}

// Admin returns a handler for people and programs that look after l:
//
//	/             a page with the nodes, which keeps itself up to date
//	/status.json  the [Status]
//	/metrics      as [Balancer.Metrics]
//	/health       200 while a node takes new sessions, else 503
//	/drain        by POST, with backend=URL or NAME in the form or the query: [Balancer.Drain]
//	/undrain      likewise
//
// It asks for no password: serve it where only those come who may see it, such as on the loopback interface. A POST that
// a page of another origin causes is refused.
func (l *Balancer) Admin(o *AdminOptions) http.Handler {
	if o == nil {
		o = new(AdminOptions)
	}
	a := &admin{l: l, o: *o}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.page)
	mux.HandleFunc("GET /status.json", a.status)
	mux.HandleFunc("GET /health", a.health)
	mux.Handle("/metrics", l.Metrics())
	if o.Changes {
		mux.HandleFunc("POST /drain", a.drain)
		mux.HandleFunc("POST /undrain", a.drain)
	}
	guarded := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		guarded.ServeHTTP(w, r)
	})
}

type admin struct {
	l *Balancer
	o AdminOptions
}

func (a *admin) status(w http.ResponseWriter, _ *http.Request) { a.l.serveStatus(w) }

func (a *admin) health(w http.ResponseWriter, _ *http.Request) {
	for _, b := range a.l.view.Load().list {
		if b.now() == Up {
			w.Write([]byte("ok\n"))
			return
		}
	}
	http.Error(w, "no node takes new sessions", http.StatusServiceUnavailable)
}

func (a *admin) drain(w http.ResponseWriter, r *http.Request) {
	if !a.named(r.Host) {
		http.Error(w, "the balancer is not known by this name: use its IP address, or allow the name (AdminOptions.Hosts, admin.hosts)", http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	on := r.URL.Path == "/drain"
	if name := r.FormValue("backend"); name == "" || !a.l.Drain(name, on) {
		http.Error(w, "no such backend: say backend=URL or backend=NAME", http.StatusNotFound)
		return
	}
	a.l.o.Logger.Info("sticky: draining was changed", "node", r.FormValue("backend"), "draining", on)
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Location", "./") // wherever the pages are mounted
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	a.status(w, r)
}

// named reports whether host, of a Host header, is a name by which changes may be made.
func (a *admin) named(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return strings.EqualFold(host, "localhost") || slices.ContainsFunc(a.o.Hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

//go:embed admin.html
var adminText string

var adminPage = template.Must(template.New("admin").Funcs(template.FuncMap{
	"ago":   func(t time.Time) string { return roughly(time.Since(t)) },
	"count": func(n any) string { return grouped(fmt.Sprint(n)) },
}).Parse(adminText))

// roughly writes a time as a person would say it: two units at most.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// grouped sets a comma before each three digits of a number that has more.
func grouped(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func (a *admin) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	s, up := a.l.Status(), 0
	for _, b := range s.Backends {
		if b.State == Up {
			up++
		}
	}
	_ = adminPage.Execute(w, struct {
		Status
		Up      int
		Changes bool
	}{s, up, a.o.Changes}) // whoever asked has left
}
