package engine

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const holdFor = 50 * time.Millisecond

func holding() *Options { return &Options{Hold: func() time.Duration { return holdFor }} }

func TestHold(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(g *rig, id string) // of the hold
		want string                  // what the handler has heard then
	}{
		{"time", func(*rig, string) { time.Sleep(holdFor - time.Millisecond) }, "a b b:\x01"},
		{"probe", func(g *rig, id string) { g.ws(id).send("2probe") }, "a b b:\x01"},
		{"send", func(g *rig, _ string) { g.rec(0).c.Send(text("x")) }, "a b b:\x01"},
		{"close packet", func(g *rig, id string) { g.post(id, "1") }, "a b b:\x01"},
		{"leave", func(g *rig, _ string) { g.rec(0).c.Leave(nil) }, "a b b:\x01"},
		{"too much", func(g *rig, id string) { g.post(id, "4"+strings.Repeat("c", maxHeld)) }, "a b b:\x01 " + strings.Repeat("c", maxHeld)},
		{"too many", func(g *rig, id string) { g.post(id, strings.Repeat("4\x1e", maxHeld/heldOverhead)+"4") }, "a b b:\x01 " + strings.Repeat(" ", maxHeld/heldOverhead)},
		{"close", func(g *rig, _ string) { g.rec(0).c.Close(nil) }, ""},
		{"a second poll", func(g *rig, id string) { go g.get(id); synctest.Wait(); g.get(id) }, ""}, // which ends the session
	} {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, holding(), nil, func(g *rig) {
				id := g.openPoll()
				time.Sleep(time.Minute / 4) // the time counts from the first message
				if status, body := g.post(id, "4a"); status != 200 || body != "ok" {
					t.Errorf("POST: got %d %q, want 200 ok", status, body)
				}
				time.Sleep(time.Millisecond)
				g.post(id, "4b\x1ebAQ==")
				synctest.Wait()
				if got := g.rec(0).messages(); got != "" {
					t.Errorf("got messages %q, want none yet", got)
				}
				c.end(g, id)
				synctest.Wait()
				if got := g.rec(0).messages(); got != c.want {
					t.Errorf("got messages %.60q, want %.60q", got, c.want)
				}
				if got := g.rec(0).flushed() > 0; got != (c.want != "") {
					t.Errorf("got flushed %v, want %v", got, c.want != "")
				}
				if c.name == "time" || c.name == "send" {
					g.post(id, "4later")
					if got, want := g.rec(0).messages(), c.want+" later"; got != want {
						t.Errorf("got messages %q, want %q", got, want)
					}
				}
			})
		})
	}
}

// TestNoHold has sessions that nothing is kept back of.
func TestNoHold(t *testing.T) {
	for name, o := range map[string]*Options{
		"not wanted":       {Hold: func() time.Duration { return 0 }},
		"no WebSocket":     {Hold: holding().Hold, Transports: []string{Polling}},
		"no upgrade":       {Hold: holding().Hold, DisableUpgrade: true},
		"server speaks up": holding(),
	} {
		t.Run(name, func(t *testing.T) {
			setup := func(r *recorder) {
				if name == "server speaks up" {
					r.c.Send(text("hello"))
				}
			}
			inMemory(t, o, setup, func(g *rig) {
				g.do("GET", "EIO=4&transport=polling", "")
				id := g.rec(0).c.ID()
				g.post(id, "4a")
				if got := g.rec(0).messages(); got != "a" {
					t.Errorf("got messages %q, want a at once", got)
				}
				if _, ok := g.s.Release(t.Context(), id); ok {
					t.Error("the session was released, want not: it is not fresh")
				}
			})
		})
	}
}
