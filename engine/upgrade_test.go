package engine

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestUpgrade(t *testing.T) {
	inMemory(t, nil, echoes, func(g *rig) {
		id := g.openPoll()
		released := make(chan string)
		go func() {
			_, body := g.get(id)
			released <- body
		}()
		synctest.Wait()
		k, start := g.ws(id), time.Now()
		k.send("2probe")
		k.want("3probe")
		if got := <-released; got != "6" || time.Since(start) != 0 {
			t.Errorf("open poll: got %q after %v, want a noop at once", got, time.Since(start))
		}
		// One more that was under way is released too, but not without pause.
		if _, body := g.get(id); body != "6" || time.Since(start) != nudgePause {
			t.Errorf("next poll: got %q after %v, want a noop after %v", body, time.Since(start), nudgePause)
		}
		if status, _ := g.post(id, "4over polling"); status != 200 {
			t.Errorf("POST before the change: got %d, want 200", status)
		}
		if _, body := g.get(id); body != "4over polling" {
			t.Errorf("got %q, want the echo over polling", body)
		}
		if got := g.rec(0).c.Transport(); got != Polling {
			t.Errorf("got transport %q, want polling until the change", got)
		}
		k.send("5", "4hello")
		k.want("4hello")
		if got := g.rec(0).c.Transport(); got != WebSocket {
			t.Errorf("got transport %q, want websocket", got)
		}

		if status, body := g.get(id); status != 400 || !strings.Contains(body, `"code":3`) {
			t.Errorf("poll after the change: got %d %q, want 400 and code 3", status, body)
		}
		if status, _ := g.post(id, "4x"); status != 400 {
			t.Errorf("POST after the change: got %d, want 400", status)
		}
		second := g.ws(id)
		second.want("close:1008")
		second.Close()
		k.send("4still")
		k.want("4still")
		if got := g.s.Stats(); got.Upgrades != 1 || got.WebSocket != 1 || got.Polling != 0 {
			t.Errorf("got %+v, want one upgrade", got)
		}
	})
}

// TestUpgradeCarriesWhatWaits queues messages while the client changes.
func TestUpgradeCarriesWhatWaits(t *testing.T) {
	inMemory(t, nil, nil, func(g *rig) {
		id := g.openPoll()
		k := g.ws(id)
		k.send("2probe")
		k.want("3probe")
		g.rec(0).c.Send(text("a"))
		g.rec(0).c.Send(text("b"))
		k.send("5")
		k.want("4a", "4b")
	})
}

func TestUpgradeRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		send []byte
	}{
		{"without probe", masked(0x81, "5")},
		{"other ping", masked(0x81, "2x")},
		{"message", masked(0x81, "4hello")},
		{"binary", masked(0x82, "2probe")},
		{"reserved bits", masked(0xf1, "2probe")},
		{"not a frame", []byte("hello, is this a chat?")},
		{"close", masked(0x88, "")},
		{"message after probe", append(masked(0x81, "2probe"), masked(0x81, "4hello")...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, nil, echoes, func(g *rig) {
				id := g.openPoll()
				k := g.ws(id)
				go k.Conn.Write(c.send)
				for got := k.next(); got != "EOF" && !strings.HasPrefix(got, "close:"); got = k.next() {
				}
				k.Close()
				g.post(id, "4polling goes on")
				if _, body := g.get(id); body != "4polling goes on" {
					t.Errorf("got %q, want the session to stay on polling", body)
				}
				// And it may try again.
				k = g.ws(id)
				k.send("2probe")
				k.want("3probe")
				k.send("5", "4x")
				k.want("4x")
			})
		})
	}
}

func TestUpgradeTimeout(t *testing.T) {
	inMemory(t, nil, echoes, func(g *rig) {
		id := g.openPoll()
		k, start := g.ws(id), time.Now()
		k.send("2probe")
		k.want("3probe", "EOF")
		if got := time.Since(start); got != 10*time.Second {
			t.Errorf("closed after %v, want 10s", got)
		}
		g.post(id, "4x")
		if _, body := g.get(id); body != "4x" {
			t.Errorf("got %q, want the session to stay on polling", body)
		}
	})
	inMemory(t, nil, echoes, func(g *rig) { // and no time-out once it is over
		id := g.openPoll()
		k := g.ws(id)
		k.send("2probe")
		k.want("3probe")
		k.send("5")
		time.Sleep(20 * time.Second)
		k.send("4x")
		k.want("4x")
	})
}

func TestDisableUpgrade(t *testing.T) {
	inMemory(t, &Options{DisableUpgrade: true}, nil, func(g *rig) {
		_, body, _ := g.do("GET", "EIO=4&transport=polling", "")
		if !strings.Contains(body, `"upgrades":[]`) {
			t.Errorf("got %q, want no upgrades", body)
		}
		if _, res := g.tryWS(g.rec(0).c.ID(), ""); res.StatusCode != 400 {
			t.Errorf("got %d, want 400", res.StatusCode)
		}
	})
}

// A poll and the packet that ends the change to WebSocket travel over two connections, and
// so do a poll and a POST that ends the session: the one that was sent first may come last.
func TestOvertaking(t *testing.T) {
	inMemory(t, nil, echoes, func(g *rig) {
		id := g.openPoll()
		k := g.ws(id)
		k.send("2probe")
		k.want("3probe")
		synctest.Wait() // the server knows that it has said so
		time.AfterFunc(2*time.Millisecond, func() { k.send("5") })
		if status, _ := g.get(id); status != 400 {
			t.Errorf("poll after the change, which is read before it: got %d, want 400", status)
		}
		k.send("4hello")
		k.want("4hello")

		id = g.openPoll()
		ended := make(chan int)
		go func() {
			status, _ := g.post(id, "1")
			ended <- status
		}()
		time.Sleep(2 * time.Millisecond)
		if status, body := g.get(id); status != 200 || body != "6" {
			t.Errorf("poll before the end of the session, which is read after it: got %d %q, want 200 6", status, body)
		}
		if status := <-ended; status != 200 {
			t.Errorf("the POST: got %d, want 200", status)
		}
		if status, _ := g.get(id); status != 400 {
			t.Errorf("poll after the end: got %d, want 400", status)
		}
	})
}
