package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/adapter/natsbus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/sid"
)

// TestManyAtOnce has thousands of polls wait at another node, of which some are given up and the others answered at once.
func TestManyAtOnce(t *testing.T) {
	for _, way := range both {
		t.Run(way, func(t *testing.T) {
			const polls = 3000
			open := make(chan struct{})
			var here, went atomic.Int32
			a, b := pair(t, way, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				here.Add(1)
				select {
				case <-open:
					io.WriteString(w, r.URL.RawQuery)
				case <-r.Context().Done():
					went.Add(1)
				}
			}))
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			var wrong atomic.Int32
			for i := range polls {
				wg.Go(func() {
					w := httptest.NewRecorder()
					r := httptest.NewRequest("GET", fmt.Sprint("/at/b/?", i), nil)
					if i%3 == 0 {
						r = r.WithContext(ctx)
					}
					a.Forward(w, r, "b")
					if want := fmt.Sprint(i); i%3 != 0 && w.Body.String() != want {
						wrong.Add(1)
						t.Logf("got answer %q, want %q", w.Body, want)
					}
				})
			}
			eventually(t, "all polls at the owner", func() bool { return here.Load() == polls })
			if got := a.Stats().Waiting; got != polls {
				t.Errorf("got %d requests under way, want %d", got, polls)
			}
			cancel()
			eventually(t, "an end of those given up", func() bool { return went.Load() == polls/3 })
			close(open)
			wg.Wait()
			if n := wrong.Load(); n > 0 {
				t.Errorf("got %d wrong answers, want none", n)
			}
			if s := a.Stats(); s.Cancelled != polls/3 {
				t.Errorf("got %d that were cancelled, want %d", s.Cancelled, polls/3)
			}
			settledDown(t, a)
			eventually(t, "an end at the owner", func() bool { return b.Stats().Serving == 0 })
		})
	}
}

// TestTooMany asks for more at once than a line carries.
func TestTooMany(t *testing.T) {
	a, b := pair(t, "link", waits(nil))
	o := a.view.Load().peers["b"].best.Load()
	o.mu.Lock()
	for i := range maxCalls - len(o.calls) {
		o.calls[uint32(1<<30+i)] = &call{}
	}
	o.mu.Unlock()
	w := httptest.NewRecorder()
	a.Forward(w, httptest.NewRequest("GET", "/", nil), "b")
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("got status %d, want 503", w.Code)
	}
	if _, err := a.Ask(t.Context(), "b", "x", nil); !errors.Is(err, ErrAway) {
		t.Errorf("Ask: got error %v, want ErrAway", err)
	}
	o.mu.Lock()
	clear(o.calls)
	o.mu.Unlock()
	if got := b.Stats().Serving; got != 0 {
		t.Errorf("got %d requests at the owner, want none", got)
	}
}

func TestAsk(t *testing.T) {
	for _, way := range both {
		a, _ := pair(t, way, echo, func(o *Options) {
			o.Answer = func(_ context.Context, from, method string, body []byte) ([]byte, error) {
				switch method {
				case "error":
					return nil, errors.New("no, " + from)
				case "panic":
					panic("x")
				case "too much":
					return make([]byte, maxAsk+1), nil
				}
				return body, nil
			}
		})
		for _, n := range []int{0, 1, 5000, maxAsk} {
			if got, err := a.Ask(t.Context(), "b", "echo", pattern(n)); err != nil || string(got) != string(pattern(n)) {
				t.Errorf("over the %s: got %d bytes and error %v, want %d", way, len(got), err, n)
			}
		}
		for method, want := range map[string]string{"error": "no, a", "panic": "forward: it panicked", "too much": "forward: the answer has 524289 bytes, and may have 524288"} {
			_, err := a.Ask(t.Context(), "b", method, nil)
			if e, ok := errors.AsType[*AnswerError](err); !ok || e.Text != want {
				t.Errorf("over the %s, %s: got error %v, want an AnswerError %q", way, method, err, want)
			}
		}
		if _, err := a.Ask(t.Context(), "nobody", "echo", nil); !errors.Is(err, ErrAway) {
			t.Errorf("nobody: got error %v, want ErrAway", err)
		}
		if _, err := a.Ask(t.Context(), "b", "echo", make([]byte, maxAsk+1)); err == nil {
			t.Error("too much: got no error, want one")
		}
		a.Close()
		if _, err := a.Ask(t.Context(), "b", "echo", nil); !errors.Is(err, ErrAway) && !errors.Is(err, ErrClosed) {
			t.Errorf("closed: got error %v, want ErrClosed", err)
		}
	}
}

// TestHops passes a request on from node to node, twice at most. It may come back: its session may have moved.
func TestHops(t *testing.T) {
	var hub membus.Hub
	sites := map[string]*site{}
	for _, name := range []string{"a", "b", "c", "d"} {
		var s *site
		s = newSite(t, &hub, name, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Add("X-Way", fmt.Sprint(name, Hops(r.Context())))
			if next, rest, _ := strings.Cut(r.URL.Query().Get("then"), ","); next != "" {
				q := r.URL.Query()
				q.Set("then", rest)
				r.URL.RawQuery = q.Encode()
				r.RequestURI = r.URL.RequestURI()
				s.Forward(w, r, next)
				return
			}
			io.WriteString(w, name)
		}))
		sites[name] = s
	}
	know(t, sites["a"], sites["b"], sites["c"], sites["d"])
	for then, want := range map[string]string{
		"b": "200 b", "b,c": "200 c", "b,c,d": "400 gone", "b,a": "200 a", "b,c,a": "400 gone", "b,b": "400 gone", "a": "400 gone", "x": "400 gone",
	} {
		status, body, _ := get(t, sites["a"].url+"/?then="+then, nil)
		if got := fmt.Sprint(status, " ", body); got != want {
			t.Errorf("from a to %s: got %q, want %q", then, got, want)
		}
	}
}

func TestOwner(t *testing.T) {
	var hub membus.Hub
	a, b := newSite(t, &hub, "a", nil, echo), newSite(t, &hub, "b", nil, echo)
	know(t, a, b)
	if node, ok := a.Owner(sid.TagOf("b")); !ok || node != "b" {
		t.Errorf("got %q and %v, want b", node, ok)
	}
	for _, x := range []string{"a", "c"} {
		if node, ok := a.Owner(sid.TagOf(x)); ok {
			t.Errorf("the tag of %s: got %q, want none", x, node)
		}
	}
	b.node.Close()
	eventually(t, "no owner any more", func() bool { _, ok := a.Owner(sid.TagOf("b")); return !ok })
	if n := testing.AllocsPerRun(100, func() { a.Owner(sid.TagOf("b")) }); n > 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

// TestNATS goes over the carrier of embedded NATS servers.
func TestNATS(t *testing.T) {
	dir := t.TempDir()
	peers := map[string]*Peers{}
	for _, name := range []string{"a", "b"} {
		quiet := slog.New(slog.DiscardHandler)
		e, err := natsbus.Embed(t.Context(), &natsbus.EmbedOptions{Dir: dir, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		node, err := cluster.Join(t.Context(), e.Bus(), &cluster.Options{ID: name, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close()
		p, err := New(&Options{Node: node, Serve: http.HandlerFunc(various), Gone: gone, Logger: quiet, Advertise: "-"})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		peers[name] = p
	}
	eventually(t, "nodes that know each other", func() bool {
		return len(peers["a"].view.Load().peers) == 1 && len(peers["b"].view.Load().peers) == 1
	})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			n := i * i * 100
			w := httptest.NewRecorder()
			peers["a"].Forward(w, httptest.NewRequest("GET", fmt.Sprint("/at/b/large?n=", n), nil), "b")
			if w.Code != 200 || w.Body.String() != string(pattern(n)) {
				t.Errorf("got status %d and %d bytes, want %d", w.Code, w.Body.Len(), n)
			}
		})
	}
	wg.Wait()
	before := peers["a"].Stats()
	const count = 100
	for range count {
		w := httptest.NewRecorder()
		peers["a"].Forward(w, httptest.NewRequest("GET", "/at/b/none", nil), "b")
		if w.Code != 200 {
			t.Errorf("got status %d, want 200", w.Code)
		}
	}
	after := peers["a"].Stats()
	if out, in := after.CarrierOut-before.CarrierOut, after.CarrierIn-before.CarrierIn; out > count+5 || in > count+5 {
		t.Errorf("for %d requests: got %d messages there and %d back, want one each", count, out, in)
	}
}

// TestClose closes both ends with something under way, several times.
func TestClose(t *testing.T) {
	a, b := pair(t, "link", waits(nil))
	done := make(chan struct{})
	go func() {
		defer close(done)
		wantAnswer(t, a, 400, "gone")
	}()
	eventually(t, "a request at the owner", func() bool { return b.Stats().Serving == 1 })
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { a.Close(); b.Close() })
	}
	wg.Wait()
	<-done
	began := time.Now()
	wantAnswer(t, a, 400, "gone")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("after Close: got the answer after %v, want it at once", took)
	}
	if p, err := New(&Options{Node: a.node, Serve: echo}); err != nil {
		t.Errorf("New after Close: %v", err)
	} else {
		p.Close()
	}
	for _, o := range []*Options{nil, {}, {Node: a.node}, {Serve: echo}, {Node: a.node, Serve: echo, Advertise: "x"}} {
		if p, err := New(o); err == nil {
			p.Close()
			t.Errorf("New(%+v): got no error, want one", o)
		}
	}
}
