package engine

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A way is a Carrier that a test breaks.
type way struct {
	broken  atomic.Bool
	leaving chan struct{}
}

func (w *way) Leaving() <-chan struct{} { return w.leaving }

func (w *way) Broken() bool { return w.broken.Load() }

type wayKey struct{}

// carriedRig is a rig whose polls can be sent by a way.
func carriedRig(t *testing.T) *rig {
	return newRig(t, &Options{Carrier: func(r *http.Request) Carrier {
		if w, ok := r.Context().Value(wayKey{}).(*way); ok {
			return w
		}
		return nil
	}}, nil)
}

// A brought is a GET that was brought by a way, and its answer once it has ended.
type brought struct {
	w      *way
	cancel context.CancelFunc
	rec    *httptest.ResponseRecorder
	over   chan struct{}
}

// A gated is a ResponseWriter that takes nothing before the gate is closed.
type gated struct {
	*httptest.ResponseRecorder
	gate chan struct{}
}

func (g *gated) Write(b []byte) (int, error) {
	<-g.gate
	return g.ResponseRecorder.Write(b)
}

var noGate = make(chan struct{})

func init() { close(noGate) }

func (g *rig) bring(w *way, sid, more string) *brought { return g.bringThrough(noGate, w, sid, more) }

func (g *rig) bringThrough(gate chan struct{}, w *way, sid, more string) *brought {
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), wayKey{}, w))
	b := &brought{w: w, cancel: cancel, rec: httptest.NewRecorder(), over: make(chan struct{})}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/socket.io/?"+poll(sid)+more, nil)
	go func() {
		defer close(b.over)
		g.s.ServeHTTP(&gated{b.rec, gate}, r)
	}()
	synctest.Wait()
	return b
}

// fail breaks the way, with what is under way on it.
func (b *brought) fail() {
	b.w.broken.Store(true)
	b.cancel()
	synctest.Wait()
}

func (b *brought) want(t *testing.T, want string) {
	t.Helper()
	<-b.over
	if got := strings.TrimSpace(b.rec.Body.String()); b.rec.Code != http.StatusOK || got != want {
		t.Errorf("got %d %q, want 200 %q", b.rec.Code, got, want)
	}
}

func TestPollThatItsCarrierBrokeOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := carriedRig(t)
		defer g.s.Close()
		sid := g.openPoll()
		first := g.bring(&way{}, sid, "&t=a")
		first.fail()
		<-first.over
		second := g.bring(&way{}, sid, "&t=a")
		g.rec(0).c.Send(text("1"))
		second.want(t, "41")

		// One whose client went, over a way that works, is the end of the session as ever.
		third := g.bring(&way{}, sid, "&t=b")
		third.cancel()
		if got := g.rec(0).wait(t); got.Reason != ReasonTransportError {
			t.Errorf("got %v, want %v", got, ReasonTransportError)
		}
	})
}

// The copy of a poll may be there before its carrier is known to be broken.
func TestPollThatIsRepeatedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := carriedRig(t)
		defer g.s.Close()
		sid := g.openPoll()
		first := g.bring(&way{}, sid, "&t=a")
		second := g.bring(&way{}, sid, "&t=a")
		<-first.over
		first.fail()
		g.rec(0).c.Send(text("1"))
		second.want(t, "41")

		// Two polls of the client itself overlap: the end of the session.
		g.bring(&way{}, sid, "&t=b")
		g.bring(&way{}, sid, "&t=c")
		if got := g.rec(0).wait(t); got.Err != errPollOverlap {
			t.Errorf("got %v, want %v", got, errPollOverlap)
		}
	})
}

// The copy of a poll may be there while the answer to the first is being written.
func TestPollThatIsRepeatedWhileItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := carriedRig(t)
		defer g.s.Close()
		sid := g.openPoll()
		gate := make(chan struct{})
		first := g.bringThrough(gate, &way{}, sid, "&t=a")
		g.rec(0).c.Send(text("1"))
		synctest.Wait()
		first.w.broken.Store(true)
		second := g.bring(&way{}, sid, "&t=a")
		close(gate)
		synctest.Wait()
		g.rec(0).c.Send(text("2"))
		second.want(t, "41")
		g.bring(&way{}, sid, "&t=b").want(t, "42")
	})
}

// The client may ask for the next while the answer is being written again.
func TestAnswerThatIsOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := carriedRig(t)
		defer g.s.Close()
		sid := g.openPoll()
		for _, data := range []string{"1", strings.Repeat("1", 5000)} {
			stamp := "&t=a" + strconv.Itoa(len(data))
			g.rec(0).c.Send(text(data))
			first := g.bring(&way{}, sid, stamp)
			first.want(t, "4"+data)
			first.fail()
			gate := make(chan struct{})
			second := g.bringThrough(gate, &way{}, sid, stamp)
			next := strings.Repeat("2", len(data))
			g.rec(0).c.Send(text(next))
			g.bring(&way{}, sid, stamp+"b").want(t, "4"+next)
			close(gate)
			second.want(t, "4"+data)
		}
	})
}

// A session may move away while one of its polls is there twice: the second is answered, and the client told to ask again.
func TestMovesWhileItsPollIsRepeated(t *testing.T) {
	for range 30 { // of three goroutines, each must come first once
		synctest.Test(t, func(t *testing.T) {
			g := carriedRig(t)
			defer g.s.Close()
			g.s.o.Hold = func() time.Duration { return holdFor }
			sid := g.openPoll()
			first := g.bring(&way{}, sid, "&t=a")
			goOn := make(chan struct{})
			g.s.o.Headers = func(http.Header, *http.Request, bool) { <-goOn }
			second := g.bring(&way{}, sid, "&t=a")
			released := make(chan bool, 1)
			go func() {
				_, ok := g.s.Release(context.Background(), sid)
				released <- ok
			}()
			synctest.Wait()
			close(goOn)
			second.want(t, "6")
			<-first.over
			if !<-released {
				t.Error("the session was not released")
			}
		})
	}
}

func TestAnswerThatDidNotArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := carriedRig(t)
		defer g.s.Close()
		sid := g.openPoll()
		g.rec(0).c.Send(text("1"), text("2"))
		first := g.bring(&way{}, sid, "&t=a")
		first.want(t, "41\x1e42")
		first.fail()
		g.rec(0).c.Send(text("3"))
		g.bring(&way{}, sid, "&t=a").want(t, "41\x1e42") // what the client did not get
		g.bring(&way{}, sid, "&t=a").want(t, "41\x1e42") // and again
		g.bring(&way{}, sid, "&t=b").want(t, "43")

		// A poll straight from the client ends the keeping.
		g.rec(0).c.Send(text("4"))
		if _, got := g.get(sid); got != "44" {
			t.Errorf("got %q, want 44", got)
		}
	})
}

// Where the client does not mark its requests, nobody knows whether a GET is the next or a repetition.
func TestAnswerThatMayHaveArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct{ name, stamp, data string }{
			{"no stamp", "", "1"},
			{"a stamp that may be coarse", "&t=1700000000", "1"},
			{"a large answer", "&t=a", strings.Repeat("x", 2_000_001)},
		} {
			g := carriedRig(t)
			sid := g.openPoll()
			g.rec(0).c.Send(text(c.data))
			first := g.bring(&way{}, sid, c.stamp)
			first.want(t, "4"+c.data)
			first.fail()
			second := g.bring(&way{}, sid, c.stamp)
			<-second.over
			if second.rec.Code != http.StatusBadRequest {
				t.Errorf("%s: got %d, want 400", c.name, second.rec.Code)
			}
			if got := g.rec(0).wait(t); got.Err != errAnswerLost {
				t.Errorf("%s: got %v, want %v", c.name, got, errAnswerLost)
			}
			// Over a way that works, the next poll looks the same, and is served.
			sid = g.openPoll()
			for _, data := range []string{"1", "2"} {
				g.rec(1).c.Send(text(data))
				g.bring(new(way), sid, "").want(t, "4"+data)
			}
			g.s.Close()
		}
	})
}

// A breaking is a ResponseWriter that takes something, and then finds its way broken.
type breaking struct {
	*httptest.ResponseRecorder
	w *way
}

func (b *breaking) Write(p []byte) (int, error) {
	n, _ := b.ResponseRecorder.Write(p[:len(p)/2])
	b.w.broken.Store(true)
	return n, errors.New("the way broke")
}

// A long answer is written while its way breaks, and again when that has been noticed.
func TestLongAnswerThatDidNotArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := carriedRig(t)
		defer g.s.Close()
		sid := g.openPoll()
		for i, n := range []int{10, 50 << 10, 63 << 10, 70 << 10, 1_900_000} {
			stamp := "&t=a" + strconv.Itoa(i)
			data := strings.Repeat("x", n)
			g.rec(0).c.Send(text(data))
			for range 2 {
				w := new(way)
				ctx := context.WithValue(t.Context(), wayKey{}, w)
				r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/socket.io/?"+poll(sid)+stamp, nil)
				g.s.ServeHTTP(&breaking{httptest.NewRecorder(), w}, r)
			}
			g.bring(&way{}, sid, stamp).want(t, "4"+data)
		}
		if got := g.s.kept.Load(); got < 1_900_000 || got > 1_910_000 {
			t.Errorf("got %d bytes kept, want the last answer", got)
		}
		g.rec(0).c.Send(text("1"))
		g.bring(&way{}, sid, "&t=b").want(t, "41")
		if got := g.s.kept.Load(); got != 0 {
			t.Errorf("got %d bytes kept, want none", got)
		}

		// One that fails on a way that works is the end of the session.
		g.rec(0).c.Send(text(strings.Repeat("x", 50<<10)))
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), wayKey{}, new(way)), http.MethodGet, "/socket.io/?"+poll(sid)+"&t=c", nil)
		g.s.ServeHTTP(&breaking{httptest.NewRecorder(), new(way)}, r)
		if got := g.rec(0).wait(t); got.Reason != ReasonTransportError {
			t.Errorf("got %v, want %v", got, ReasonTransportError)
		}
		if got := g.s.kept.Load(); got != 0 {
			t.Errorf("got %d bytes kept for a session that has ended, want none", got)
		}
	})
}

// All answers that are kept have a limit together, and are forgotten with their sessions.
func TestKeptAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := carriedRig(t)
		defer g.s.Close()
		const n, room = 100_000, 3
		g.s.kept.Store(maxKept - room*(n+1))
		sids := make([]string, 2*room)
		for i := range sids {
			sids[i] = g.openPoll()
			g.rec(i).c.Send(text(strings.Repeat("x", n)))
			g.bring(&way{}, sids[i], "&t=a").want(t, "4"+strings.Repeat("x", n))
		}
		if got := g.s.kept.Load(); got != maxKept {
			t.Errorf("got %d bytes kept, want %d", got, maxKept)
		}
		g.s.kept.Add(-(maxKept - room*(n+1)))
		g.rec(0).c.Send(text("1"))
		if _, got := g.get(sids[0]); got != "41" { // straight from the client
			t.Errorf("got %q, want 41", got)
		}
		g.bring(&way{}, sids[1], "&t=b").cancel()
		for i := range sids {
			g.rec(i).c.Cut(nil)
		}
		synctest.Wait()
		if got := g.s.kept.Load(); got != 0 {
			t.Errorf("got %d bytes kept, want none", got)
		}
	})
}
