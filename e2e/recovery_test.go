//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/recovery"
)

// TestRecovery cuts the official client off five times in a row, over each transport. It has everything that
// it was sent, once and in order, and is who it was, also where nothing was sent at all.
func TestRecovery(t *testing.T) {
	const cuts = 5
	js := startPeer(t)
	srv := atoll.NewServer(&atoll.Options{Recovery: &recovery.Options{}, Logger: quiet})
	ns := srv.Of("/")
	ns.OnConnect(func(_ context.Context, s *atoll.Socket) error {
		var g greeting
		if err := s.Auth(&g); err != nil {
			return err
		}
		if !s.Recovered() {
			s.Join(g.Rooms...)
		}
		return nil
	})
	web := httptest.NewServer(srv)
	t.Cleanup(func() {
		srv.Close()
		web.Close()
	})
	proxy := clustertest.NewProxy(t, strings.TrimPrefix(web.URL, "http://"))

	for _, transport := range []string{"websocket", "polling"} {
		for _, silent := range []bool{false, true} {
			name := transport
			if silent {
				name += ", nothing sent"
			}
			t.Run(name, func(t *testing.T) {
				var me struct{ SID string }
				at := object{"name": name, "url": "http://" + proxy.Addr(), "transports": []string{transport}, "auth": object{"rooms": []string{name}}}
				if err := json.Unmarshal(js.do(t, "stay", at), &me); err != nil {
					t.Fatal(err)
				}
				defer js.do(t, "hangUp", object{"name": name})
				var want []string
				emit := func(event string) {
					t.Helper()
					want = append(want, event)
					if err := ns.To(name).Emit(t.Context(), event, len(want)); err != nil {
						t.Error(err)
					}
				}
				for i := range cuts {
					if !silent {
						emit(fmt.Sprint("before", i)) // perhaps it arrives before the cut
					}
					proxy.Hold()
					eventually(t, fmt.Sprintf("cut %d", i+1), func() bool { // between two polls there may be nothing to cut
						proxy.CutAll()
						return lost(js, name) == i+1
					})
					if !silent {
						emit(fmt.Sprint("away", i))
						if err := ns.To(me.SID).Emit(t.Context(), "own"); err != nil {
							t.Error(err)
						}
						want = append(want, "own")
					}
					proxy.Release()
					back := func() bool { n, _ := returns(t, js, name, me.SID); return n == i+1 }
					eventually(t, fmt.Sprintf("return %d", i+1), back)
				}
				emit("last")
				got := func() []string { _, events := returns(t, js, name, me.SID); return events }
				eventually(t, "last event", func() bool { return slices.Contains(got(), "last") })
				if events := got(); !slices.Equal(events, want) {
					t.Errorf("got events %q, want %q", events, want)
				}
				if n := srv.Stats().Recovery.Refused; n != 0 {
					t.Errorf("got %d clients refused, want none", n)
				}
			})
		}
	}
}

// returns says how often a client came back, each time recovered under its id, and which events it has got.
func returns(t *testing.T, js *peer, name, id string) (n int, events []string) {
	t.Helper()
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, r := range js.reports {
		switch {
		case r.Client != name || r.Disconnect != "":
		case r.Event != "connect":
			events = append(events, r.Event)
		default:
			n++
			if want := fmt.Sprintf("connect(%q, true)", id); r.String() != want {
				t.Fatalf("return %d: got %s, want %s", n, r, want)
			}
		}
	}
	return n, events
}

// lost says how often a client was cut off.
func lost(js *peer, name string) (n int) {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, r := range js.reports {
		if r.Client == name && r.Disconnect != "" {
			n++
		}
	}
	return n
}
