package forward

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/internal/memnet"
)

// A world is nodes under simulated time, whose links are pipes.
type world struct {
	hub       membus.Hub
	mu        sync.Mutex
	listeners map[string]*memnet.Listener
	dialled   []time.Time
	refuse    bool
	wrap      func(net.Conn) net.Conn
}

func (x *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address)
	x.mu.Lock()
	x.dialled = append(x.dialled, time.Now())
	l, refuse, wrap := x.listeners[host], x.refuse, x.wrap
	x.mu.Unlock()
	if l == nil || refuse {
		return nil, errors.New("refused")
	}
	c, err := l.Dial(ctx, network, address)
	if err == nil && wrap != nil {
		c = wrap(c)
	}
	return c, err
}

func (x *world) dials() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.dialled)
}

// node makes a node, which is reached at its name.
func (x *world) node(t *testing.T, name string, h http.Handler, change ...func(*Options)) *site {
	l := memnet.Listen()
	x.mu.Lock()
	if x.listeners == nil {
		x.listeners = make(map[string]*memnet.Listener)
	}
	x.listeners[name] = l
	x.mu.Unlock()
	first := func(o *Options) { o.Dial, o.Advertise = x.dial, "http://"+name+"/" }
	return newSite(t, &x.hub, name, l, h, append([]func(*Options){first}, change...)...)
}

// ask has a forward a request to b, and returns the answer's status and body.
func ask(ctx context.Context, a *site, node string) (int, string) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/at/"+node+"/", nil).WithContext(ctx)
	a.Forward(w, r, node)
	return w.Code, w.Body.String()
}

func simulate(t *testing.T, name string, f func(t *testing.T, x *world)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, &world{}) })
	})
}

// answers answers at once, or waits where the request says so.
var answers = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Write([]byte("here"))
})

// waits answers when its channel is closed.
func waits(c <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-c:
			w.Write([]byte("late"))
		case <-r.Context().Done():
		}
	})
}

func wantAnswer(t *testing.T, a *site, status int, body string) {
	t.Helper()
	if s, b := ask(t.Context(), a, "b"); s != status || b != body {
		t.Errorf("got %d %q, want %d %q", s, b, status, body)
	}
}

// A deaf connection hears nothing while it is told so.
type deaf struct {
	net.Conn
	now *atomic.Bool
}

func (d deaf) Read(b []byte) (int, error) {
	for {
		n, err := d.Conn.Read(b)
		if err != nil || !d.now.Load() {
			return n, err
		}
	}
}

func TestTime(t *testing.T) {
	simulate(t, "a link on which nothing comes", func(t *testing.T, x *world) {
		var silent atomic.Bool
		x.wrap = func(c net.Conn) net.Conn { return deaf{c, &silent} }
		c := make(chan struct{})
		a, b := x.node(t, "a", answers), x.node(t, "b", waits(c))
		know(t, a, b)
		linkUp(t, a)
		go func() { time.Sleep(time.Minute); close(c) }()
		if s, body := ask(t.Context(), a, "b"); s != 200 || body != "late" { // pings keep it
			t.Errorf("after a minute: got %d %q, want the answer", s, body)
		}
		silent.Store(true)
		began := time.Now()
		wantAnswer(t, a, 400, "gone")
		if took := time.Since(began); took < 3*time.Second || took > 15*time.Second {
			t.Errorf("got the end after %v, want it when two pings could have been answered", took)
		}
		silent.Store(false)
		wantAnswer(t, a, 200, "late")
	})
	simulate(t, "idle", func(t *testing.T, x *world) {
		idle := func(o *Options) { o.Idle = 2 * time.Minute }
		a, b := x.node(t, "a", answers, idle), x.node(t, "b", answers, idle)
		know(t, a, b)
		linkUp(t, a)
		for range 3 {
			time.Sleep(110 * time.Second)
			wantAnswer(t, a, 200, "here")
		}
		if got := x.dials(); got != 1 {
			t.Errorf("got %d links made while it was used, want 1", got)
		}
		time.Sleep(125 * time.Second)
		synctest.Wait()
		if s, u := a.Stats(), b.Stats(); s.Links+s.Carriers+u.Links+u.Carriers != 0 || s.Breaks+u.Breaks != 0 {
			t.Errorf("after two minutes: got %+v and %+v, want no line", s, u)
		}
		wantAnswer(t, a, 200, "here")
		linkUp(t, a)
		if got := x.dials(); got != 2 {
			t.Errorf("got %d links made, want 2", got)
		}
	})
	simulate(t, "a link that cannot be made", func(t *testing.T, x *world) {
		a, b := x.node(t, "a", answers), x.node(t, "b", answers)
		know(t, a, b)
		x.refuse = true
		for range 600 { // a minute
			wantAnswer(t, a, 200, "here")
			time.Sleep(100 * time.Millisecond)
		}
		if got := x.dials(); got < 7 || got > 12 {
			t.Errorf("in a minute: got %d attempts, want some ten, with longer and longer pauses", got)
		}
		x.refuse = false
		for range 200 {
			wantAnswer(t, a, 200, "here")
			time.Sleep(100 * time.Millisecond)
		}
		if s := a.Stats(); s.LinksMade != 1 || s.Gone != 0 {
			t.Errorf("got %+v, want a link and no request that failed", s)
		}
		n := x.dials()
		x.listeners["b"].Close()
		a.view.Load().peers["b"].link.out.close(nil)
		synctest.Wait()
		for range 20 {
			wantAnswer(t, a, 200, "here")
		}
		if got := x.dials() - n; got > 1 {
			t.Errorf("a link broke: got %d attempts at once, want 1", got)
		}
	})
	simulate(t, "a node that does not forward", func(t *testing.T, x *world) {
		a, b := x.node(t, "a", answers), x.node(t, "b", answers)
		know(t, a, b)
		b.node.Direct(nil)
		began := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { wantAnswer(t, a, 400, "gone") })
		}
		wg.Wait()
		if took := time.Since(began); took != greetWithin {
			t.Errorf("the first requests: got the end after %v, want %v", took, greetWithin)
		}
		began = time.Now()
		wantAnswer(t, a, 400, "gone")
		if took := time.Since(began); took != 0 {
			t.Errorf("the next: got the end after %v, want it at once", took)
		}
		if err := b.node.Direct(b.mail.put); err != nil {
			t.Fatal(err)
		}
		time.Sleep(firstPause)
		wantAnswer(t, a, 200, "here")
	})
}

// TestBye has a node end forwarding, and begin again, while it stays in the cluster.
func TestBye(t *testing.T) {
	for _, way := range both {
		simulate(t, way, func(t *testing.T, x *world) {
			a, b := x.node(t, "a", answers), x.node(t, "b", answers, func(o *Options) {
				if way == "carrier" {
					o.Advertise = "-"
				}
			})
			know(t, a, b)
			wantAnswer(t, a, 200, "here")
			if way == "link" {
				linkUp(t, a)
			}
			b.Close()
			synctest.Wait()
			began := time.Now()
			for range 3 {
				wantAnswer(t, a, 400, "gone")
			}
			if took := time.Since(began); took != 0 {
				t.Errorf("got the end after %v, want it at once", took)
			}
			var err error
			if b.Peers, err = New(&b.o); err != nil {
				t.Fatal(err)
			}
			time.Sleep(firstPause)
			wantAnswer(t, a, 200, "here")
		})
	}
}

// linkUp waits until a has a link to b.
func linkUp(t *testing.T, a *site) {
	t.Helper()
	for range 100 {
		a.Ask(t.Context(), "b", "x", nil)
		synctest.Wait()
		if a.view.Load().peers["b"].best.Load() != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("got no link")
}

// TestCarrierFaults loses, repeats and mixes up messages between nodes without links.
func TestCarrierFaults(t *testing.T) {
	never := func(o *Options) { o.Advertise = "-" }
	node := func(f func(from, to string) membus.Fault) func(from, to, topic string) membus.Fault {
		return func(from, to, topic string) membus.Fault {
			if !strings.Contains(topic, ".node.") || from == to {
				return membus.Fault{}
			}
			return f(from, to)
		}
	}
	for _, lossy := range []string{"a", "b"} {
		simulate(t, "the last message of "+lossy+" is lost", func(t *testing.T, x *world) {
			a, b := x.node(t, "a", answers, never), x.node(t, "b", answers, never)
			know(t, a, b)
			wantAnswer(t, a, 200, "here")
			var once atomic.Bool
			x.hub.SetFault(node(func(from, to string) membus.Fault { return membus.Fault{Drop: from == lossy && !once.Swap(true)} }))
			began := time.Now()
			wantAnswer(t, a, 400, "gone")
			if took := time.Since(began); took > 6*time.Second {
				t.Errorf("got the end after %v, want it with the next ping", took)
			}
			wantAnswer(t, a, 200, "here")
			if s := b.Stats(); s.Serving != 0 {
				t.Errorf("got %d requests under way at the owner, want none", s.Serving)
			}
		})
	}
	simulate(t, "everything comes three times, and late", func(t *testing.T, x *world) {
		a, b := x.node(t, "a", answers, never), x.node(t, "b", answers, never)
		know(t, a, b)
		x.hub.SetFault(node(func(_, _ string) membus.Fault { return membus.Fault{Repeat: 2, Delay: 30 * time.Millisecond} }))
		for range 50 {
			wantAnswer(t, a, 200, "here")
		}
		if s := b.Stats(); s.In != 50 || s.Breaks != 0 {
			t.Errorf("got %+v, want 50 requests", s)
		}
	})
	simulate(t, "messages overtake each other", func(t *testing.T, x *world) {
		a, b := x.node(t, "a", answers, never), x.node(t, "b", answers, never)
		know(t, a, b)
		var n atomic.Int64
		x.hub.SetFault(node(func(_, _ string) membus.Fault {
			return membus.Fault{Delay: time.Duration(n.Add(1)%3) * 10 * time.Millisecond, Aside: true}
		}))
		var ok, lost atomic.Int32
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for range 20 {
					if s, _ := ask(t.Context(), a, "b"); s == 200 {
						ok.Add(1)
					} else {
						lost.Add(1)
					}
				}
			})
		}
		wg.Wait()
		x.hub.SetFault(nil)
		time.Sleep(time.Second)
		wantAnswer(t, a, 200, "here")
		if s := b.Stats(); int32(s.In) < ok.Load()+1 || s.In > uint64(201) {
			t.Errorf("got %d served, %d answered and %d lost: none may be served twice", s.In, ok.Load(), lost.Load())
		}
	})
	simulate(t, "the bus goes away", func(t *testing.T, x *world) {
		c := make(chan struct{})
		a, b := x.node(t, "a", answers, never), x.node(t, "b", waits(c), never)
		know(t, a, b)
		go func() {
			time.Sleep(1500 * time.Millisecond)
			x.hub.SetDown(true)
		}()
		began := time.Now()
		wantAnswer(t, a, 400, "gone")
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("got the end after %v, want it when the owner is dead, or with the next ping", took)
		}
		wantAnswer(t, a, 400, "gone")
		x.hub.SetDown(false)
		close(c)
		time.Sleep(5 * time.Second)
		wantAnswer(t, a, 200, "late")
	})
}
