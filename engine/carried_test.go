package engine

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// A way is a Carrier that a test breaks.
type way struct{ broken atomic.Bool }

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
			{"a large answer", "&t=a", strings.Repeat("x", maxCarried+1)},
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
