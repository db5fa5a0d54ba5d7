package forward

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/cluster"
)

// A site is a node for tests with a server: what comes there for /at/NODE/… is forwarded to NODE, and all else served.
type site struct {
	*Peers
	name string
	node *cluster.Node
	bus  *membus.Bus
	hub  *membus.Hub
	web  *http.Server
	url  string // of its server
	logs *logs
}

// logs collects what is logged.
type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// echo says what came.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	from, _ := From(r.Context())
	w.Header().Set("X-From", from)
	fmt.Fprintf(w, "%s %s %s %v %d", r.Method, r.RequestURI, r.Header.Get("X-Test"), err, len(b))
})

// gone is what Options.Gone answers.
func gone(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusBadRequest)
	io.WriteString(w, "gone")
}

// newSite makes a node that listens on l, or on a port of its own if l is nil.
func newSite(t testing.TB, hub *membus.Hub, name string, l net.Listener, h http.Handler, change ...func(*Options)) *site {
	t.Helper()
	s := &site{name: name, hub: hub, bus: membus.New(hub, &membus.Options{Name: name}), logs: &logs{}}
	var err error
	quiet := slog.New(slog.NewTextHandler(s.logs, nil))
	s.node, err = cluster.Join(context.Background(), s.bus, &cluster.Options{ID: name, Name: name, Logger: quiet, Settle: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	o := &Options{Node: s.node, Serve: h, Gone: gone, Logger: quiet}
	for _, f := range change {
		f(o)
	}
	if s.Peers, err = New(o); err != nil {
		t.Fatal(err)
	}
	if l == nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	s.url = "http://" + l.Addr().String()
	s.web = &http.Server{Handler: http.HandlerFunc(s.serve), ErrorLog: slog.NewLogLogger(quiet.Handler(), slog.LevelWarn)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.web.Serve(l)
	}()
	t.Cleanup(func() {
		s.Peers.Close()
		s.web.Close()
		<-done
		s.node.Close()
		s.bus.Close()
	})
	return s
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	if s.ServeLink(w, r) {
		return
	}
	s.Learn(r)
	if r.URL.Path == "/learn" {
		return
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, "/at/"); ok {
		node, _, _ := strings.Cut(rest, "/")
		s.Forward(w, r, node)
		return
	}
	s.o.Serve.ServeHTTP(w, r)
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("got no: %s", what)
		}
	}
}

// know waits until all know each other.
func know(t testing.TB, sites ...*site) {
	t.Helper()
	eventually(t, "nodes that know each other", func() bool {
		for _, s := range sites {
			if len(s.view.Load().peers) != len(sites)-1 {
				return false
			}
		}
		return true
	})
}

// linked has a make a link to b.
func linked(t testing.TB, a, b *site) {
	t.Helper()
	get(t, b.url+"/learn", nil) // it learns where it is
	eventually(t, "a link", func() bool {
		a.Ask(context.Background(), b.name, "nothing", nil)
		return a.view.Load().peers[b.name].best.Load() != nil
	})
}

// get returns the answer to a GET.
func get(t testing.TB, url string, header http.Header) (status int, body string, h http.Header) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	return do(t, r)
}

func do(t testing.TB, r *http.Request) (status int, body string, h http.Header) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	res, err := c.Do(r)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return res.StatusCode, fmt.Sprintf("%s and then %v", b, err), res.Header
	}
	return res.StatusCode, string(b), res.Header
}
