package sticky

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/internal/sid"
)

// still returns a balancer over n nodes that do nothing but take connections. They are up.
func still(t testing.TB, n int, o *Options) *Balancer {
	t.Helper()
	if o == nil {
		o = new(Options)
	}
	for i := range n {
		o.Backends = append(o.Backends, Backend{URL: fmt.Sprintf("10.0.0.%d:3000", i+1)})
	}
	o.Health.Path = tcpOnly
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := newBalancer(o, func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		b.Close()
		return a, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	l.settled(t.Context())
	return l
}

// opening returns a request that opens a session.
func opening(l *Balancer, remote string, header http.Header) *call {
	return &call{l: l, kind: handshake, ctx: context.Background(), head: head{
		method: "GET", path: "/socket.io/", query: "EIO=4&transport=polling&room=" + header.Get("Room"), remote: netip.MustParseAddrPort(remote),
		header: func(name string) []string { return header[name] },
	}}
}

// goes returns the host of the node that c goes to; the session stays in opening if it is kept.
func goes(t testing.TB, c *call, keep bool) string {
	t.Helper()
	if !c.next() {
		t.Fatalf("no node: %v", c.trail.denied)
	}
	c.opened = !keep
	c.unpin()
	return c.b.url.Host
}

// Of keys on n nodes, those of a node that goes away move, and no others; and exactly those come back.
func TestHashMovesFewKeys(t *testing.T) {
	const n, keys = 8, 4_000
	l := still(t, n, &Options{Affinity: []Affinity{Query("room")}})
	where := func() (all []string) {
		for i := range keys {
			c := opening(l, "1.2.3.4:5", http.Header{"Room": {fmt.Sprint("room ", i)}})
			all = append(all, goes(t, c, false))
		}
		return all
	}
	before := where()
	share := map[string]int{}
	for _, b := range before {
		share[b]++
	}
	for b, k := range share {
		if math.Abs(float64(k)-keys/n) > keys/n/5 {
			t.Errorf("%s has %d keys, want %d", b, k, keys/n)
		}
	}
	gone := l.view.Load().list[3]
	l.Drain(gone.url.Host, true)
	moved, elsewhere := 0, map[string]int{}
	for i, b := range where() {
		if b != before[i] {
			moved++
			elsewhere[b]++
			if before[i] != gone.url.Host {
				t.Fatalf("key %d moved from %s, which is there, to %s", i, before[i], b)
			}
		}
	}
	if moved != share[gone.url.Host] {
		t.Errorf("%d keys moved, want %d", moved, share[gone.url.Host])
	}
	if len(elsewhere) != n-1 {
		t.Errorf("they went to %v, want all others", elsewhere)
	}
	l.Drain(gone.url.Host, false)
	if !slices.Equal(where(), before) {
		t.Error("not all keys came back")
	}
	// In another order, and with another balancer, it is the same.
	o := &Options{Affinity: []Affinity{Query("room")}}
	for i := range n {
		o.Backends = append(o.Backends, Backend{URL: fmt.Sprintf("http://10.0.0.%d:3000", n-i)})
	}
	l = still(t, 0, o)
	if !slices.Equal(where(), before) {
		t.Error("another balancer has other places")
	}
}

func TestHashByWeight(t *testing.T) {
	l := still(t, 0, &Options{Policy: Hash, Backends: []Backend{{URL: "a:1", Weight: 3}, {URL: "b:1"}}})
	n := 0
	for i := range 4000 {
		if goes(t, opening(l, fmt.Sprintf("10.%d.%d.1:99", i/200, i%200), nil), false) == "a:1" {
			n++
		}
	}
	if n < 2880 || n > 3120 {
		t.Errorf("%d of 4000 keys at the node with weight 3 of 4, want 3000", n)
	}
}

// An office behind one address does not fill one node alone.
func TestHashLoad(t *testing.T) {
	l := still(t, 4, &Options{Policy: Hash, HashLoad: 1.25})
	for range 100 {
		goes(t, opening(l, "192.0.2.1:1000", nil), true)
	}
	for _, b := range l.view.Load().list {
		if n := b.load(); n > 32 {
			t.Errorf("%s has %d sessions of 100, want at most 32", b.url.Host, n)
		}
	}
}

func TestWeights(t *testing.T) {
	for _, p := range []Policy{LeastConnections, RoundRobin, Random} {
		t.Run(p.String(), func(t *testing.T) {
			l := still(t, 0, &Options{Policy: p, Backends: []Backend{{URL: "a:1", Weight: 5}, {URL: "b:1", Weight: 2}, {URL: "c:1"}}})
			counts := map[string]int{}
			var order strings.Builder
			for range 800 {
				host := goes(t, opening(l, "1.1.1.1:1", nil), true)
				counts[host]++
				order.WriteString(host[:1])
			}
			slack := 1
			if p == Random {
				slack = 80
			}
			for host, want := range map[string]int{"a:1": 500, "b:1": 200, "c:1": 100} {
				if got := counts[host]; got < want-slack || got > want+slack {
					t.Errorf("%s has %d, want %d", host, got, want)
				}
			}
			if p == RoundRobin && strings.Contains(order.String(), "aaaa") {
				t.Errorf("turns are not smooth: %.24s", order.String())
			}
		})
	}
}

func TestClientAddress(t *testing.T) {
	l := still(t, 1, &Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}})
	for _, c := range []struct{ remote, chain, want string }{
		{"192.0.2.7:1", "", "192.0.2.7"},
		{"192.0.2.7:1", "198.51.100.1", "192.0.2.7"}, // nobody trusts it
		{"10.0.0.1:1", "", "10.0.0.1"},
		{"10.0.0.1:1", "198.51.100.1", "198.51.100.1"},
		{"10.0.0.1:1", "203.0.113.9, 198.51.100.1, 10.0.0.2", "198.51.100.1"}, // the first is what the client wrote
		{"10.0.0.1:1", "203.0.113.9|10.0.0.3|198.51.100.1:4711", "198.51.100.1"},
		{"10.0.0.1:1", "203.0.113.9, nonsense, 10.0.0.2", "10.0.0.2"},
		{"10.0.0.1:1", "10.0.0.3, 10.0.0.2", "10.0.0.3"},
		{"[fd00::1]:1", "[2001:db8::5]:80", "2001:db8::5"},
		{"[::ffff:10.0.0.1]:1", "2001:db8::6", "2001:db8::6"},
	} {
		h := http.Header{}
		if c.chain != "" {
			h["X-Forwarded-For"] = strings.Split(c.chain, "|")
		}
		if got := l.clientOf(&opening(l, c.remote, h).head); got.String() != c.want {
			t.Errorf("%s with %q: got %v, want %s", c.remote, c.chain, got, c.want)
		}
	}
}

func TestNoAddress(t *testing.T) {
	l := still(t, 4, &Options{Policy: Hash})
	seen := map[string]bool{}
	for range 8 {
		c := opening(l, "192.0.2.1:1", nil)
		c.head.remote = netip.AddrPort{}
		seen[goes(t, c, true)] = true
	}
	if len(seen) != 4 {
		t.Errorf("clients without an address went to %v, want all four nodes", seen)
	}
}

func TestAffinityKeys(t *testing.T) {
	l := still(t, 1, nil)
	for _, c := range []struct {
		affinity, remote string
		header           http.Header
		want             string
	}{
		{"address", "192.0.2.77:1", nil, "192.0.2.77/32"},
		{"address=24/56", "192.0.2.77:1", nil, "192.0.2.0/24"},
		{"address", "[2001:db8:1:2:3::4]:1", nil, "2001:db8:1:2::/64"},
		{"address=24/48", "[2001:db8:1:2:3::4]:1", nil, "2001:db8:1::/48"},
		{"header=x-user", "192.0.2.77:1", http.Header{"X-User": {"ada", "b"}}, "ada"},
		{"header=x-user", "192.0.2.77:1", nil, ""},
		{"query=room", "192.0.2.77:1", http.Header{"Room": {"a%20b"}}, "a b"},
		{"query=room", "192.0.2.77:1", nil, ""},
	} {
		a, err := ParseAffinity(c.affinity)
		if err != nil {
			t.Errorf("%s: %v", c.affinity, err)
			continue
		}
		if _, got := a.lead(l, l.view.Load(), &opening(l, c.remote, c.header).head); got != c.want {
			t.Errorf("%s: got %q, want %q", c.affinity, got, c.want)
		}
	}
	for _, bad := range []string{"", "cookies", "address=33/64", "address=24", "header=", "header=a b", "query", "node-cookie=a;b"} {
		if _, err := ParseAffinity(bad); err == nil {
			t.Errorf("ParseAffinity(%q): no error", bad)
		}
	}
}

// A client with cookies comes back to its node, by polling and by WebSocket, as long as that is up.
func TestCookieAffinity(t *testing.T) {
	l, base, ns := nodes(t, true, &Options{Policy: RoundRobin, Affinity: []Affinity{Cookie{Secret: "x"}}})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	open := func() *http.Response {
		resp, err := client.Get(base + polling)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	resp := open()
	set := resp.Header["Set-Cookie"]
	if len(set) != 1 || !strings.Contains(set[0], "; Path=/socket.io/; HttpOnly; SameSite=Lax") {
		t.Fatalf("got cookies %q", set)
	}
	for _, n := range ns {
		if strings.Contains(set[0], n.addr) || n.addr == "" {
			t.Errorf("cookie %q tells %q", set[0], n.addr)
		}
	}
	home := resp.Header.Get(tagHeader)
	for range 5 {
		if resp := open(); resp.Header.Get(tagHeader) != home || len(resp.Header["Set-Cookie"]) > 0 {
			t.Errorf("got node %s and cookies %q, want %s and none", resp.Header.Get(tagHeader), resp.Header["Set-Cookie"], home)
		}
	}
	cookie, _, _ := strings.Cut(set[0], ";")
	ws := dialSocket(t, base, "", "", "Cookie: other=1; "+cookie)
	name := make([]byte, 1)
	if _, err := io.ReadFull(ws.br, name); err != nil || sid.TagOf(string(name)).String() != home || len(ws.resp.Header["Set-Cookie"]) > 0 {
		t.Errorf("WebSocket: got node %q and cookies %q", name, ws.resp.Header["Set-Cookie"])
	}
	ws = dialSocket(t, base, "", "", "Cookie: atoll-node=0123456789abcdef")
	if len(ws.resp.Header["Set-Cookie"]) != 1 {
		t.Errorf("WebSocket without a proper cookie: got %q", ws.resp.Header["Set-Cookie"])
	}
	for _, b := range l.Status().Backends {
		if b.Tag == home {
			l.Drain(b.URL, true)
		}
	}
	resp = open()
	other := resp.Header.Get(tagHeader)
	if other == home || len(resp.Header["Set-Cookie"]) != 1 {
		t.Errorf("node drains: got node %s and cookies %q", other, resp.Header["Set-Cookie"])
	}
	for _, b := range l.Status().Backends {
		l.Drain(b.URL, false)
	}
	if got := open().Header.Get(tagHeader); got != other {
		t.Errorf("node is back: got node %s, want to stay on %s", got, other)
	}
}

// The cookie of other servers is learned, and read where it is the id of a session that lives.
func TestNodeCookie(t *testing.T) {
	l := still(t, 3, &Options{Policy: RoundRobin, Affinity: []Affinity{NodeCookie("io")}})
	list := l.view.Load().list
	l.learn(list[2], []string{"theme=dark", `io="abc%2Fd"; Path=/; HttpOnly`})
	e := l.table.add("a-session-id", list[1])
	defer l.table.unpin(e)
	for range 3 {
		for cookie, want := range map[string]*backend{`io=abc%2Fd`: list[2], "x=y; io=a-session-id": list[1]} {
			if got := goes(t, opening(l, "1.1.1.1:1", http.Header{"Cookie": {cookie}}), false); got != want.url.Host {
				t.Errorf("%s: got %s, want %s", cookie, got, want.url.Host)
			}
		}
	}
}

// In front of servers whose ids name no node, a balancer that was restarted finds their sessions by affinity.
func TestAffinityFindsSessions(t *testing.T) {
	o := func() *Options { return &Options{Affinity: []Affinity{ClientAddress{}}} }
	_, base, ns := nodes(t, false, o())
	id := openSession(t, base)
	home := talk(t, base, id, "hello")
	var urls []string
	for _, n := range ns {
		urls = append(urls, n.url)
	}
	_, srv := balance(t, o(), urls...)
	if got := talk(t, srv.URL, id, "again"); got != home {
		t.Errorf("got %s, want %s", got, home)
	}
}

func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := still(t, 2, &Options{SlowStart: 10 * time.Second})
		a, b := l.view.Load().list[0], l.view.Load().list[1]
		a.sessions.Store(100)
		b.upAt.Store(time.Now().UnixNano())
		time.Sleep(2 * time.Second)
		for range 100 {
			goes(t, opening(l, "1.1.1.1:1", nil), true)
		}
		if got := b.load(); got < 20 || got > 50 {
			t.Errorf("the new node got %d of 100 at a fifth of its start, want about 33", got)
		}
		time.Sleep(10 * time.Second)
		for range 200 {
			goes(t, opening(l, "1.1.1.1:1", nil), true)
		}
		if d := a.load() - b.load(); d < -1 || d > 1 {
			t.Errorf("got %d and %d, want the same", a.load(), b.load())
		}
		l.Close()
	})
}

func BenchmarkPick(b *testing.B) {
	for name, o := range map[string]*Options{
		"least-connections": {}, "round-robin": {Policy: RoundRobin}, "hash": {Policy: Hash}, "cookie": {Affinity: []Affinity{Cookie{}}},
	} {
		b.Run(name, func(b *testing.B) {
			l := still(b, 10, o)
			c := opening(l, "192.0.2.1:1", http.Header{"Cookie": {"atoll-node=0123456789abcdef"}})
			for b.Loop() {
				c.b = nil
				c.next()
				c.unpin()
			}
		})
	}
}
