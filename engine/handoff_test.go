package engine

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// waiter lets Flush wait until a message "go" comes, if a message "wait" came.
func waiter(handoff bool) func(r *recorder) {
	return func(r *recorder) {
		goOn := make(chan struct{})
		var wait atomic.Bool
		r.message = func(r *recorder, data string, _ bool) {
			switch data {
			case "wait":
				wait.Store(true)
			case "go":
				close(goOn)
			default:
				r.c.Send(text(data))
			}
		}
		r.flush = func(r *recorder) {
			if !wait.CompareAndSwap(true, false) {
				return
			}
			r.c.Send(text("waiting"))
			if handoff {
				r.c.Handoff()
			}
			<-goOn
			r.c.Send(text("done"))
		}
	}
}

// TestHandoff lets a Flush wait for a later message of the same client, over both transports,
// with and without the handler saying so.
func TestHandoff(t *testing.T) {
	for _, handoff := range []bool{true, false} {
		t.Run(fmt.Sprintf("WebSocket, said %v", handoff), func(t *testing.T) {
			inMemory(t, nil, waiter(handoff), func(g *rig) {
				k, start := g.openWS(), time.Now()
				k.send("4wait")
				k.want("4waiting")
				if got := time.Since(start); handoff && got != 0 || !handoff && got > 15*time.Millisecond {
					t.Errorf("what it sent before took %v", got)
				}
				k.send("4other")
				k.want("4other")
				k.send("4go")
				k.want("4done")
				k.send("4still")
				k.want("4still")
				if got := g.s.Stats().Handoffs; got != 1 {
					t.Errorf("got %d handoffs, want 1", got)
				}
			})
		})
		t.Run(fmt.Sprintf("polling, said %v", handoff), func(t *testing.T) {
			inMemory(t, nil, waiter(handoff), func(g *rig) {
				id, start := g.openPoll(), time.Now()
				status, body, _ := g.do("POST", poll(id), "4wait")
				if status != 200 || body != "ok" {
					t.Errorf("got %d %q, want 200 ok while the handler waits", status, body)
				}
				if got := time.Since(start); handoff && got != 0 || got > 250*time.Millisecond {
					t.Errorf("answered after %v", got)
				}
				if _, body := g.get(id); body != "4waiting" {
					t.Errorf("got %q, want what was sent before", body)
				}
				g.post(id, "4other")
				if _, body := g.get(id); body != "4other" {
					t.Errorf("got %q, want other", body)
				}
				g.post(id, "4go")
				synctest.Wait()
				if _, body := g.get(id); body != "4done" {
					t.Errorf("got %q, want done", body)
				}
				// The next slow handler does not cost the connection.
				start = time.Now()
				if _, _, h := g.do("POST", poll(id), "4x"); h.Get("Connection") == "close" || time.Since(start) != 0 {
					t.Errorf("got %q after %v, want an answer at once on a connection that stays", h.Get("Connection"), time.Since(start))
				}
				if _, body := g.get(id); body != "4x" {
					t.Errorf("got %q, want x", body)
				}
			})
		})
	}
}

// TestSlowPostSends checks that what a handler of a POST has sent leaves before the POST is answered.
func TestSlowPostSends(t *testing.T) {
	inMemory(t, nil, func(r *recorder) {
		r.flush = func(r *recorder) {
			r.c.Send(text("first"))
			time.Sleep(100 * time.Millisecond)
			r.c.Send(text("second"))
		}
	}, func(g *rig) {
		id, start := g.openPoll(), time.Now()
		posted := make(chan time.Duration)
		go func() {
			g.post(id, "4x")
			posted <- time.Since(start)
		}()
		if _, body := g.get(id); body != "4first" || time.Since(start) > 15*time.Millisecond {
			t.Errorf("got %q after %v, want the first message in a few milliseconds", body, time.Since(start))
		}
		if _, body := g.get(id); body != "4second" {
			t.Errorf("got %q, want the second message", body)
		}
		if got := <-posted; got != 100*time.Millisecond {
			t.Errorf("the POST took %v, want 100ms", got)
		}
		if got := g.s.Stats().Handoffs; got != 0 {
			t.Errorf("got %d handoffs, want none", got)
		}
	})
}

// TestHandoffEnds closes sessions whose handlers wait.
func TestHandoffEnds(t *testing.T) {
	inMemory(t, nil, waiter(false), func(g *rig) {
		k := g.openWS()
		k.send("4wait")
		k.want("4waiting")
		k.Close()
		if got := g.rec(0).wait(t); got.Reason != ReasonTransportClose {
			t.Errorf("got %v, want transport close", got)
		}
		// A close frame in the batch whose handler waits is seen too.
		k = g.openWS()
		k.write(append(masked(0x81, "4wait"), masked(0x88, "\x03\xe8")...))
		got := k.next()
		if got == "4waiting" { // it need not leave any more
			got = k.next()
		}
		if got != "close:1000" {
			t.Errorf("got %q, want a close frame", got)
		}
		k.want("EOF")
		if got := g.rec(1).wait(t); got.Code != 1000 {
			t.Errorf("got %v, want code 1000", got)
		}
		for i := range 2 {
			g.rec(i).message(g.rec(i), "go", false)
		}
	})
}

// TestPingsWhileAHandlerWaits keeps a session for long past its ping timeout.
func TestPingsWhileAHandlerWaits(t *testing.T) {
	inMemory(t, nil, waiter(false), func(g *rig) {
		k := g.openWS()
		k.send("4wait")
		k.want("4waiting")
		for range 5 {
			k.want("2")
			k.send("3")
		}
		k.send("4go")
		k.want("4done")
	})
}

// TestUpgradeWhileAHandlerWaits changes to WebSocket while a POST's handler runs.
func TestUpgradeWhileAHandlerWaits(t *testing.T) {
	inMemory(t, &Options{HandlerGrace: time.Hour}, waiter(false), func(g *rig) {
		id := g.openPoll()
		posted := make(chan string)
		go func() {
			_, body := g.post(id, "4wait")
			posted <- body
		}()
		synctest.Wait()
		k := g.ws(id)
		k.send("2probe")
		k.want("3probe")
		k.send("5", "4other")
		k.want("4waiting", "4other")
		if got := <-posted; got != "ok" {
			t.Errorf("POST: got %q, want ok", got)
		}
		k.send("4go")
		k.want("4done")
	})
}

// TestManyHandlersWait has more of them than the watch has seats.
func TestManyHandlersWait(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 1,500 connections")
	}
	release := make(chan struct{})
	var waiting sync.WaitGroup
	const n = 1500
	waiting.Add(n)
	g := newRealRig(t, nil, func(r *recorder) {
		r.flush = func(*recorder) {
			waiting.Done()
			<-release
		}
	})
	ks := make([]*wsClient, n)
	for i := range ks {
		ks[i] = g.openWS()
	}
	for _, k := range ks {
		k.send("4x")
	}
	waiting.Wait()
	eventually(t, "all relieved", func() bool { return g.s.Stats().Handoffs == n })
	close(release)
	for _, k := range ks {
		k.Close()
	}
	eventually(t, "all gone", func() bool { return g.s.Stats().Sessions == 0 })
}

// TestMessagesInOrder sends while handlers are slow and relieved at random times.
func TestMessagesInOrder(t *testing.T) {
	inMemory(t, nil, func(r *recorder) {
		r.flush = func(r *recorder) {
			time.Sleep(time.Duration(r.flushed()%4) * 7 * time.Millisecond)
		}
	}, func(g *rig) {
		k := g.openWS()
		var want []string
		for i := range 300 {
			want = append(want, fmt.Sprint(i))
			k.send("4" + fmt.Sprint(i))
			time.Sleep(time.Duration(i%3) * time.Millisecond)
		}
		synctest.Wait()
		if got := g.rec(0).messages(); got != strings.Join(want, " ") {
			t.Errorf("got %s", got)
		}
		if g.s.Stats().Handoffs == 0 {
			t.Error("got no handoff, want some")
		}
		time.Sleep(time.Second)
	})
}

func TestWatchEnds(t *testing.T) {
	inMemory(t, nil, echoes, func(g *rig) {
		k := g.openWS()
		for range 3 {
			k.send("4x")
			k.want("4x")
			if !g.s.watch.on.Load() {
				t.Error("watch does not run after a handler ran")
			}
			time.Sleep(100 * time.Millisecond)
			if g.s.watch.on.Load() {
				t.Error("watch runs with no handler")
			}
		}
	})
}
