package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
)

// TestForgedLinks asks for links in every way but the right one.
func TestForgedLinks(t *testing.T) {
	a, b := pair(t, "link", echo)
	ours := a.instance
	key := b.keyFor("a", ours)
	request := func(from string, instance uint64, number, key, to string) string {
		i := fmt.Sprintf("%016x", instance)
		return strings.Join([]string{from, i, number, linkCode([]byte(key), "ask", from, to, i, number)}, " ")
	}
	later := fmt.Sprint(time.Now().Add(time.Hour).UnixNano())
	good := request("a", ours, later, string(key), "b")
	x := b.view.Load().peers["a"]
	x.mu.Lock()
	link, count := x.inLink, x.inCount
	x.mu.Unlock()
	for name, header := range map[string]string{
		"nothing":               "",
		"no code":               strings.Join(strings.Split(good, " ")[:3], " "),
		"too much":              good + " x",
		"a long one":            good + strings.Repeat("a", 10_000),
		"a stranger":            request("stranger", ours, later, string(key), "b"),
		"itself":                request("b", ours, later, string(b.keyFor("b", ours)), "b"),
		"another key":           request("a", ours, later, strings.Repeat("k", 32), "b"),
		"for another node":      request("a", ours, later, string(key), "c"),
		"another instance":      request("a", ours+1, later, string(key), "b"),
		"one that was not here": request("a", ours+1, later, string(b.keyFor("a", ours+1)), "b"),
		"an earlier number":     request("a", ours, fmt.Sprint(count-1), string(key), "b"),
		"the same number":       request("a", ours, fmt.Sprint(count), string(key), "b"),
		"a number that is none": request("a", ours, "-1", string(key), "b"),
		"a changed code":        good[:len(good)-1] + "g",
		"an answer's code":      strings.Join(strings.Split(good, " ")[:3], " ") + " " + linkCode(key, "answer", "a", "b", fmt.Sprintf("%016x", ours), later),
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", linkProtocol)
		r.Header.Set(linkHeader, header)
		w := httptest.NewRecorder()
		if !b.ServeLink(w, r) {
			t.Errorf("%s: got false, want true: nobody else serves it", name)
		}
		if w.Code != http.StatusForbidden {
			t.Errorf("%s: got status %d, want 403", name, w.Code)
		}
	}
	x.mu.Lock()
	if x.inLink != link || x.inCount != count {
		t.Error("a forged request changed what is known of the node")
	}
	x.mu.Unlock()

	// The right one is good once.
	for i, want := range []int{101, 403} {
		c, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: %s\r\n\r\n", linkProtocol, linkHeader, good)
		buf := make([]byte, 12)
		if _, err := io.ReadFull(c, buf); err != nil || !strings.HasSuffix(string(buf), fmt.Sprint(want)) {
			t.Errorf("attempt %d: got %q and error %v, want status %d", i+1, buf, err, want)
		}
	}
	for _, h := range []string{"", "websocket", "h2c", "atoll-link/2"} {
		r := httptest.NewRequest("GET", "/", nil)
		if h != "" {
			r.Header.Set("Upgrade", h)
		}
		if b.ServeLink(httptest.NewRecorder(), r) {
			t.Errorf("Upgrade %q: got true, want false", h)
		}
	}
}

// TestNoLink has a node answer at a URL that does not lead to it: all goes over the carrier, and it is said once.
func TestNoLink(t *testing.T) {
	tls12 := httptest.NewUnstartedServer(nil)
	tls12.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls12.StartTLS()
	t.Cleanup(tls12.Close)
	for name, h := range map[string]http.HandlerFunc{
		"somebody else": func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"a forger": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Upgrade", linkProtocol)
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set(linkHeader, strings.Repeat("0", 64))
			w.WriteHeader(101)
		},
		"nobody":                  nil,
		"a certificate of others": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := "http://127.0.0.1:1/"
			if h != nil {
				s := httptest.NewServer(h)
				defer s.Close()
				url = s.URL
			} else if strings.HasPrefix(name, "a cert") {
				url = tls12.URL
			}
			var hub membus.Hub
			a, b := newSite(t, &hub, "a", nil, echo), newSite(t, &hub, "b", nil, echo, func(o *Options) { o.Advertise = url })
			know(t, a, b)
			for range 3 {
				failed := a.Stats().LinksFailed
				if status, _, _ := get(t, a.url+"/at/b/", nil); status != 200 {
					t.Errorf("got status %d, want 200", status)
				}
				eventually(t, "another attempt", func() bool {
					a.Ask(context.Background(), "b", "x", nil)
					return a.Stats().LinksFailed > failed
				})
			}
			if got := strings.Count(a.logs.String(), "no link"); got != 1 {
				t.Errorf("got %d complaints, want 1:\n%s", got, a.logs)
			}
			if got := b.Stats().LinksRefused; got != 0 {
				t.Errorf("got %d refused links, want none", got)
			}
		})
	}
}

func TestLinkTLS(t *testing.T) {
	var hub membus.Hub
	a := newSite(t, &hub, "a", nil, echo, func(o *Options) { o.TLS = &tls.Config{RootCAs: x509.NewCertPool()} })
	b := newSite(t, &hub, "b", nil, echo)
	know(t, a, b)
	s := httptest.NewTLSServer(http.HandlerFunc(b.serve))
	defer s.Close()
	a.o.TLS.RootCAs.AddCert(s.Certificate())
	if status, _, _ := getWith(t, s.Client(), s.URL+"/"); status != 200 {
		t.Fatalf("got status %d, want 200", status)
	}
	if got, want := b.place.urls(), s.URL+"/"; len(got) != 1 || got[0] != want {
		t.Fatalf("learned %q, want %q", got, want)
	}
	eventually(t, "a link", func() bool {
		a.Ask(context.Background(), "b", "x", nil)
		return a.Stats().LinksMade == 1
	})
	if status, _, h := get(t, a.url+"/at/b/", nil); status != 200 || h.Get("X-From") != "a" {
		t.Errorf("got status %d, want 200", status)
	}
}

func getWith(t *testing.T, c *http.Client, url string) (int, string, http.Header) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b), res.Header
}

func TestLearn(t *testing.T) {
	local := func(a net.Addr) func(*http.Request) *http.Request {
		return func(r *http.Request) *http.Request {
			return r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, a))
		}
	}
	at := func(ip string, port int) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: port} }
	for _, c := range []struct {
		addr net.Addr
		tls  bool
		uri  string
		want string
	}{
		{at("10.0.0.7", 3000), false, "/socket.io/?EIO=4&x=/y", "http://10.0.0.7:3000/socket.io/"},
		{at("10.0.0.7", 3000), true, "/a%2Fb/", "https://10.0.0.7:3000/a%2Fb/"},
		{at("2001:db8::1", 80), false, "/", "http://[2001:db8::1]:80/"},
		{at("::ffff:10.0.0.7", 80), false, "/", "http://10.0.0.7:80/"},
		{at("127.0.0.1", 80), false, "/s", "http://127.0.0.1:80/s"},
		{at("::1", 80), false, "/s", "http://[::1]:80/s"},
		{at("0.0.0.0", 80), false, "/", ""},
		{at("::", 80), false, "/", ""},
		{at("fe80::1", 80), false, "/", ""},
		{at("169.254.1.1", 80), false, "/", ""},
		{at("10.0.0.7", 0), false, "/", ""},
		{&net.UnixAddr{Name: "/tmp/x", Net: "unix"}, false, "/", ""},
		{nil, false, "/", ""},
		{at("10.0.0.7", 80), false, "/" + strings.Repeat("x", maxURL), "http://10.0.0.7:80/"},
	} {
		p := &Peers{}
		r := httptest.NewRequest("GET", c.uri, nil)
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if c.addr != nil {
			r = local(c.addr)(r)
		}
		p.Learn(r)
		if got := strings.Join(p.place.urls(), " "); got != c.want {
			t.Errorf("%v %.40s: learned %q, want %q", c.addr, c.uri, got, c.want)
		}
	}

	p := &Peers{}
	r := httptest.NewRequest("GET", "/p", nil)
	for range 10 {
		p.Learn(local(at("127.0.0.1", 80))(r))
	}
	for range learnEvery {
		p.Learn(local(at("10.0.0.7", 81))(r))
	}
	p.Learn(local(at("10.0.0.8", 82))(r))
	if got, want := strings.Join(p.place.urls(), " "), "http://10.0.0.7:81/p http://127.0.0.1:80/p"; got != want {
		t.Errorf("learned %q, want %q", got, want)
	}
}

func TestPick(t *testing.T) {
	p := &Peers{machine: "here"}
	c := card{urls: []string{
		"http://10.0.0.7:1/", "http://127.0.0.1:2/", "http://localhost:3/", "http://[::1]:4/", "https://a.example/x", "ftp://b/", "http://", "://", "http://0.0.0.0:5/",
	}}
	for machine, want := range map[string]string{
		"here":  "http://10.0.0.7:1/ http://127.0.0.1:2/ http://localhost:3/ http://[::1]:4/ https://a.example/x",
		"there": "http://10.0.0.7:1/ https://a.example/x",
		"":      "http://10.0.0.7:1/ https://a.example/x",
	} {
		c.machine = machine
		var got []string
		for _, u := range p.pick(&c) {
			got = append(got, u.String())
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("a node on %q: got %q, want %q", machine, got, want)
		}
	}
	for _, s := range []string{"10.0.0.7:3000", "ftp://x/", "http://", "%", "http://0.0.0.0:3000/", "http://[::]/", "http://:3000/"} {
		if (&place{}).init(s) == nil {
			t.Errorf("Options.Advertise %q: got no error, want one", s)
		}
	}
}
