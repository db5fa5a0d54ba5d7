package atoll_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/client"
)

func isWebSocket(r *http.Request) bool { return r.URL.Query().Get("transport") == "websocket" }

// TestSessionMoves has the WebSockets of clients arrive on another node than their polling.
func TestSessionMoves(t *testing.T) {
	f := newFleet(t, &fleetOptions{nodes: 3, setup: echoes, server: func(o *atoll.Options) { o.Forward.Hold = 20 * time.Second }})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	talk := func(n int, transports ...string) *talker {
		t.Helper()
		tk := f.talker(&client.Options{Transports: transports})
		if err := tk.talk(ctx, n, 0); err != nil {
			t.Error(err)
		}
		tk.mu.Lock()
		defer tk.mu.Unlock()
		if len(tk.wrong) > 0 {
			t.Error(strings.Join(tk.wrong, "; "))
		}
		return tk
	}
	// Nothing has come to a wrong node so far: the first session is not held, and its WebSocket is passed through.
	var open atomic.Int64
	f.send(func(r *http.Request) int {
		if isWebSocket(r) {
			return 1
		}
		return 0
	})
	first := talk(10, client.Polling, client.WebSocket)
	eventually(t, "the first client has a WebSocket", func() bool { return f.nodes[0].Stats().Engine.WebSocket == 1 })
	if a, b := f.nodes[0].Stats(), f.nodes[1].Stats(); first.Transport() != client.WebSocket || b.Forward.PassedOut != 1 || a.Forward.PassedIn != 1 || b.Forward.MovedIn != 0 {
		t.Errorf("got %+v and %+v, want a WebSocket passed through", a.Forward, b.Forward)
	}
	// Now it is known. The next ones go where their WebSocket is, whichever way their polls take.
	f.send(func(r *http.Request) int {
		switch {
		case isWebSocket(r):
			return 1
		case r.URL.Query().Get("sid") == "":
			return 0
		}
		return int(open.Add(1) % 3)
	})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			talk(10, client.Polling, client.WebSocket)
		})
	}
	wg.Wait()
	eventually(t, "all have WebSockets", func() bool { return f.nodes[1].Stats().Engine.WebSocket == 20 })
	a, b := f.nodes[0].Stats(), f.nodes[1].Stats()
	if a.Forward.MovedOut != 20 || b.Forward.MovedIn != 20 || b.Sockets != 20 || b.Forward.PassedOut != 1 {
		t.Errorf("got %+v and %+v, want 20 sessions that moved, and none passed through but the first", a.Forward, b.Forward)
	}
	if got := f.bad.Load(); got != 0 {
		t.Errorf("got %d refused requests, want none", got)
	}
	// One whose WebSocket comes to nothing goes on by polling.
	f.send(func(r *http.Request) int {
		if isWebSocket(r) {
			return 2
		}
		return 0
	})
	q := f.handshake()
	moved := f.nodes[0].Stats().Forward.MovedOut
	f.ask("POST", q, "40")
	f.breakOff(q)
	if got := f.nodes[0].Stats().Forward.MovedOut; got != moved+1 {
		t.Fatalf("got %d sessions moved, want one more than %d", got, moved)
	}
	for i, want := range []string{`40{"sid":`, `42["said",1]`} {
		if i == 1 {
			f.ask("POST", q, `42["say",1]`)
		}
		got := "6"
		for got == "6" {
			_, got = f.ask("GET", q, "")
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	// Its new node ends it, and the old one hears of it.
	f.ask("POST", q, "1")
	for range 2 {
		if status, body := f.ask("GET", q, ""); status != 400 || !strings.HasPrefix(body, `{"code":1`) {
			t.Errorf("after its end: got %d %q, want 400 and code 1", status, body)
		}
	}
}

// TestForwardWithoutEvidence measures, in simulated time, for whom connecting takes longer: nobody, as long as no request has
// come to a wrong node, and nobody after a minute without.
func TestForwardWithoutEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub membus.Hub
		n := atolltest.Cluster(t, &hub, 2, func(_ string, srv *atoll.Server) { echoes(0, srv) })
		time.Sleep(3 * time.Second)
		connect := func() time.Duration {
			start := time.Now()
			n[0].Dial(t, "/", &client.Options{Transports: []string{client.Polling}})
			return time.Since(start)
		}
		if got := connect(); got != 0 {
			t.Errorf("connecting took %v, want no time", got)
		}
		sock := n[0].Dial(t, "/", &client.Options{Transports: []string{client.Polling}})
		query := "EIO=4&transport=polling&sid=" + sock.SessionID()
		other := &rawClient{t, n[1].Server, "http://atoll.test/socket.io/?" + query}
		if got := other.send(`2["say",1]`); got != "ok" {
			t.Errorf("on the wrong node: got %q, want ok", got)
		}
		if got := connect(); got != 50*time.Millisecond {
			t.Errorf("connecting took %v, want it held for 50ms", got)
		}
		time.Sleep(61 * time.Second)
		if got := connect(); got != 0 {
			t.Errorf("connecting took %v after a minute, want no time", got)
		}
	})
}
