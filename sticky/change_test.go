package sticky

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// hosts returns the hosts of l's nodes in order, those marked that are being taken away.
func hosts(l *Balancer) (all []string) {
	for _, b := range l.Status().Backends {
		host := b.URL[len("http://"):]
		if b.Leaving {
			host += " leaving"
		}
		all = append(all, host)
	}
	return all
}

func TestReplaceBackends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := still(t, 3, nil)
		busy := l.view.Load().list[0]
		busy.sessions.Add(1)
		cut := make(chan error, 1)
		f := &flight{cut: func(_ uint64, err error) { cut <- err }}
		if !busy.enter(f) {
			t.Fatal("cannot enter")
		}
		if err := l.ReplaceBackends(time.Minute, Backend{URL: "10.0.0.3:3000"}); err != nil {
			t.Fatal(err)
		}
		if got, want := hosts(l), []string{"10.0.0.3:3000", "10.0.0.1:3000 leaving", "10.0.0.2:3000 leaving"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		for range 3 {
			if got := goes(t, opening(l, "1.1.1.1:1", nil), false); got != "10.0.0.3:3000" {
				t.Errorf("new session on %s", got)
			}
		}
		time.Sleep(2 * time.Second)
		if got, want := hosts(l), []string{"10.0.0.3:3000", "10.0.0.1:3000 leaving"}; !slices.Equal(got, want) {
			t.Errorf("after two seconds: got %q, want %q", got, want)
		}
		// It comes back, and is taken away again.
		l.ReplaceBackends(time.Minute, Backend{URL: "10.0.0.3:3000"}, Backend{URL: "10.0.0.1:3000"})
		time.Sleep(2 * time.Minute)
		if busy.now() != Up || len(cut) > 0 {
			t.Errorf("came back: got state %v, want up", busy.now())
		}
		l.ReplaceBackends(time.Minute, Backend{URL: "10.0.0.3:3000"})
		time.Sleep(58 * time.Second)
		if len(cut) > 0 {
			t.Error("cut off too early")
		}
		time.Sleep(4 * time.Second)
		if got, want := hosts(l), []string{"10.0.0.3:3000"}; !slices.Equal(got, want) || len(cut) != 1 {
			t.Errorf("in the end: got %q, %d flights cut; want %q, 1", got, len(cut), want)
		}
		l.Close()
	})
}

func TestReconfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := still(t, 2, nil)
		next := Options{
			Backends: []Backend{{URL: "10.0.0.2:3000", Weight: 7, Name: "two"}, {URL: "10.0.0.9:3000"}}, Policy: RoundRobin,
			Affinity: []Affinity{Header("x-user")}, Limits: Limits{SessionsPerNode: 5}, Health: Health{Path: tcpOnly, Interval: time.Minute},
			TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Path: "/chat/", DialTimeout: time.Second,
		}
		restart, err := l.Reconfigure(&next)
		if err != nil || !slices.Equal(restart, []string{"Path", "DialTimeout"}) {
			t.Errorf("got %q, %v", restart, err)
		}
		s := l.Status()
		if got, want := hosts(l), []string{"10.0.0.2:3000", "10.0.0.9:3000", "10.0.0.1:3000 leaving"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if b := s.Backends[0]; s.Policy != "round-robin" || b.Weight != 7 || b.Name != "two" || b.MaxSessions != 5 || !l.trusts(netip.MustParseAddr("10.1.1.1")) {
			t.Errorf("got %+v", s)
		}
		for _, bad := range []Options{
			{Policy: 99}, {Backends: []Backend{{URL: "ftp://x"}}}, {Backends: []Backend{{URL: "a:1"}, {URL: "http://a:1"}}},
			{Affinity: []Affinity{Cookie{SameSite: 4}}}, {Limits: Limits{Opening: Rate{PerSecond: -1}}}, {HashLoad: 0.5},
			{Backends: []Backend{{URL: "a:1", Weight: 1001}}}, {Passive: Passive{Share: 2}},
		} {
			if _, err := l.Reconfigure(&bad); err == nil {
				t.Errorf("%+v: no error", bad)
			}
		}
		if got := l.Status(); got.Policy != "round-robin" || len(got.Backends) != 3 {
			t.Errorf("a bad configuration has changed it to %+v", got)
		}
		l.Close()
		if _, err := l.Reconfigure(&next); err == nil {
			t.Error("closed: no error")
		}
	})
}

type fakeDNS struct {
	mu    sync.Mutex
	addrs []netip.Addr
	srv   []*net.SRV
	err   error
}

func (f *fakeDNS) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.addrs, f.err
}

func (f *fakeDNS) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return "", f.srv, f.err
}

func TestDiscoverDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fakeDNS{addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("::1")}}
		b := &fakeDNS{srv: []*net.SRV{{Target: "n1.example.", Port: 81, Priority: 1, Weight: 5}, {Target: "n2.example.", Port: 82, Priority: 2}}}
		l := still(t, 1, &Options{Discover: []Discovery{DNS{Name: "x", Port: 3000, ask: a}, DNS{Name: "_http._tcp.x", Interval: time.Second, ask: b}}})
		synctest.Wait()
		want := []string{"10.0.0.1:3000", "10.0.0.2:3000", "[::1]:3000", "n1.example:81"}
		if got := hosts(l); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := l.Status().Backends[3].Weight; got != 5 {
			t.Errorf("got weight %d, want 5", got)
		}
		l.view.Load().list[2].sessions.Add(1)
		a.mu.Lock()
		a.addrs = a.addrs[:1]
		a.mu.Unlock()
		b.mu.Lock()
		b.err = errors.New("no such host")
		b.mu.Unlock()
		time.Sleep(7 * time.Second)
		want[2] = "n1.example:81"
		want[3] = "[::1]:3000 leaving"
		if got := hosts(l); !slices.Equal(got, want) {
			t.Errorf("after a change and an error: got %q, want %q", got, want)
		}
		if err := l.SetBackends(); err != nil { // those that were found stay
			t.Error(err)
		}
		if got, want := hosts(l), []string{"10.0.0.2:3000", "n1.example:81"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		l.Close()
	})
	for _, bad := range []Discovery{DNS{}, DNS{Name: "x"}, DNS{Name: "x", Port: 1, Scheme: "ftp"}, File{}} {
		if l, err := New(&Options{Discover: []Discovery{bad}}); err == nil {
			l.Close()
			t.Errorf("%+v: no error", bad)
		}
	}
}

func TestDiscoverFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nodes")
	write := func(text string) {
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write("10.0.0.1:1 weight=3 max=9 name=one # the first\n\nhttps://n:2 drain\n")
	l := still(t, 0, &Options{Discover: []Discovery{File{Path: path, Interval: 5 * time.Millisecond}}, RemoveAfter: -1})
	s := l.Status().Backends
	if len(s) != 2 || s[0].Weight != 3 || s[0].MaxSessions != 9 || s[0].Name != "one" || s[1].State == Up || s[1].URL != "https://n:2" {
		t.Fatalf("got %+v", s)
	}
	write("10.0.0.1:1 wait=3\n")
	time.Sleep(20 * time.Millisecond)
	if got := len(l.Status().Backends); got != 2 {
		t.Errorf("a bad file left %d nodes, want 2", got)
	}
	write("10.0.0.7:1\n")
	waitFor(t, "the file is read", func() bool { return slices.Equal(hosts(l), []string{"10.0.0.7:1"}) })
	for _, bad := range []string{"a:1 x", "a:1 weight=x", "ftp://a", "a:1 weight=2000"} {
		if _, err := ParseBackends([]byte("\n" + bad)); err == nil || err.Error()[:7] != "line 2:" {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// Whatever changes, it does so beside clients, and none of them is refused: one node is always there.
func TestChangesBesideClients(t *testing.T) {
	l, base, ns := nodes(t, true, &Options{Affinity: []Affinity{Cookie{}}, AccessLog: func(*Access) {}})
	always := Backend{URL: ns[0].url}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, change := range []func(n int) error{
		func(n int) error {
			list := []Backend{always, {URL: ns[1].url, Weight: 1 + n%5}, {URL: ns[2].url, Drain: n%3 == 0}}
			return l.ReplaceBackends(time.Minute, list[:1+n%3]...)
		},
		func(n int) error {
			_, err := l.Reconfigure(&Options{
				Backends: []Backend{always, {URL: ns[2].url}}, Health: Health{Timeout: patience}, Policy: Policy(n % 4), SlowStart: time.Duration(n%2) * time.Second,
				Affinity: []Affinity{Header("x-user"), ClientAddress{}}[n%3/2:],
			})
			return err
		},
		func(n int) error {
			l.Drain(ns[1].url, n%2 == 0)
			l.retire(time.Now())
			l.Status()
			l.writeMetrics(io.Discard)
			return nil
		},
	} {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				if err := change(n); err != nil {
					t.Errorf("change %d: %v", i, err)
					return
				}
			}
		})
	}
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for range 50 {
				if resp, body, err := try("GET", base+polling, ""); err != nil || resp.StatusCode != 200 {
					t.Errorf("got %v, %v, %s", resp, err, body)
					return
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	wg.Wait()
}
