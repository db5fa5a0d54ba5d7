package sticky

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := still(t, 2, &Options{Limits: Limits{
			Sessions: 50, SessionsPerNode: 30, Opening: Rate{PerSecond: 10, Burst: 20}, OpeningPerAddress: Rate{PerSecond: 1, Burst: 3},
		}})
		open := func(remote string) reason {
			c := opening(l, remote, nil)
			if !c.next() {
				return c.trail.denied
			}
			c.opened = false
			return granted
		}
		for i := range 4 {
			want := granted
			if i == 3 {
				want = tooFastAddress
			}
			if got := open(fmt.Sprintf("[2001:db8::%d]:1", i+1)); got != want {
				t.Errorf("session %d of a /64: got %q, want %q", i, got, want)
			}
		}
		if got := open("[2001:db8:0:1::1]:1"); got != granted {
			t.Errorf("another /64: got %q", got)
		}
		time.Sleep(time.Second)
		if a, b := open("[2001:db8::7]:1"), open("[2001:db8::8]:1"); a != granted || b != tooFastAddress {
			t.Errorf("after a second: got %q and %q, want one more", a, b)
		}
		time.Sleep(time.Minute)
		for i := range 21 {
			want := granted
			if i == 20 {
				want = tooFast
			}
			if got := open(fmt.Sprintf("10.0.0.%d:1", i)); got != want {
				t.Errorf("session %d in a burst: got %q, want %q", i, got, want)
			}
		}
		n := int(l.count(l.view.Load()))
		for i := n; i < 50; i++ {
			time.Sleep(time.Second)
			if got := open(fmt.Sprintf("10.0.1.%d:1", i)); got != granted {
				t.Fatalf("session %d: got %q", i, got)
			}
		}
		time.Sleep(time.Second)
		if got := open("10.0.2.1:1"); got != tooManySessions {
			t.Errorf("session 51: got %q, want %q", got, tooManySessions)
		}
		list := l.view.Load().list
		list[0].opening.Store(30)
		list[1].opening.Store(3)
		for i := range 4 {
			time.Sleep(time.Second)
			if c := opening(l, fmt.Sprintf("10.0.3.%d:1", i), nil); goes(t, c, false) != "10.0.0.2:3000" {
				t.Errorf("session on %s, which is full", c.b.url.Host)
			}
		}
		l.Close()
	})
}

// Who has used up a slow rate does not pay for it under a faster one, nor where the clock is put back.
func TestRateChanges(t *testing.T) {
	var all bucket
	each := newBuckets(10)
	a, now := netip.MustParseAddr("192.0.2.1"), time.Unix(2e9, 0)
	slow, fast := Rate{PerSecond: 0.001, Burst: 100}, Rate{PerSecond: 100, Burst: 1}
	for range 100 {
		if !all.take(slow, now) || !each.take(a, slow, now) {
			t.Fatal("a burst is not allowed")
		}
	}
	if all.take(fast, now) || each.take(a, fast, now) {
		t.Error("got a token of none")
	}
	now = now.Add(10 * time.Millisecond)
	if !all.take(fast, now) || !each.take(a, fast, now) {
		t.Error("got no token of the faster rate")
	}
	now = now.Add(-time.Hour)
	all.take(fast, now)
	each.take(a, fast, now)
	now = now.Add(10 * time.Millisecond)
	if !all.take(fast, now) || !each.take(a, fast, now) {
		t.Error("got no token after the clock was put back")
	}
}

// What is refused says so in the way that clients understand, and counts.
func TestLimitsAnswer(t *testing.T) {
	l, base, _ := nodes(t, true, &Options{Limits: Limits{Sessions: 1}})
	id := openSession(t, base)
	for range 2 {
		resp, body := do(t, "GET", base+polling, "")
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "as are allowed") {
			t.Errorf("got %d %q", resp.StatusCode, body)
		}
	}
	talk(t, base, id, "unharmed")
	if got := l.Status().Limited; got != 2 {
		t.Errorf("got %d refused, want 2", got)
	}
}

func TestRetryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := still(t, 2, nil)
		retry := func() bool {
			c := opening(l, "1.1.1.1:1", nil)
			first := c.next()
			second := c.next()
			c.unpin()
			if !first {
				t.Fatal("no node")
			}
			return second
		}
		n := 0
		for range 1000 {
			if retry() {
				n++
			}
		}
		if n < 200 || n > 230 {
			t.Errorf("%d of 1000 were tried again, want a fifth and the reserve", n)
		}
		time.Sleep(10 * time.Second)
		if !retry() {
			t.Error("the reserve did not come back")
		}
		if _, err := l.Reconfigure(&Options{RetryShare: -1, Backends: []Backend{{URL: "a:1"}, {URL: "b:1"}}, Health: Health{Path: tcpOnly}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if retry() {
			t.Error("tried again, want never")
		}
		l.Close()
	})
}

// A node that fails what it is asked gets no new sessions for a moment; but never all.
func TestSuspicion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := still(t, 2, &Options{Policy: RoundRobin})
		list := l.view.Load().list
		spread := func() (n int) {
			for range 10 {
				if goes(t, opening(l, "1.1.1.1:1", nil), false) == list[0].url.Host {
					n++
				}
			}
			return n
		}
		fail := func(b *backend, n, of int) {
			b.requests.Add(uint64(of))
			for range n {
				b.failed(errors.New("reset"))
			}
		}
		fail(list[0], 4, 4)
		time.Sleep(11 * time.Second)
		fail(list[0], 4, 4)
		if got := spread(); got != 5 {
			t.Errorf("few errors: got %d of 10, want 5", got)
		}
		fail(list[0], 1, 1)
		if got := spread(); got != 0 || list[0].now() != Up {
			t.Errorf("5 errors: got %d of 10, want none", got)
		}
		fail(list[1], 5, 5)
		if got := spread(); got != 5 {
			t.Errorf("all fail: got %d of 10, want 5", got)
		}
		time.Sleep(2*time.Second + 1)
		if got := spread(); got != 5 {
			t.Errorf("after the pause: got %d of 10, want 5", got)
		}
		fail(list[0], 5, 5)
		time.Sleep(3 * time.Second)
		if got := spread(); got != 0 {
			t.Errorf("again: got %d of 10 after 3 s, want none for 4 s", got)
		}
		time.Sleep(time.Minute)
		c := &call{l: l, kind: plain, b: list[0]}
		for range 9 {
			c.answers(503)
		}
		if got := spread(); got != 5 {
			t.Errorf("pages with 503: got %d of 10, want 5", got)
		}
		for range 20 {
			fail(list[0], 1, 50)
		}
		if got := spread(); got != 5 {
			t.Errorf("few of many: got %d of 10, want 5", got)
		}
		l.Close()
	})
}
