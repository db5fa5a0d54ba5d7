package atoll_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/client"
)

// TestNodeDies kills a node that has no sessions, and then one that has, under clients of all kinds whose requests go
// anywhere.
func TestNodeDies(t *testing.T) {
	f := newFleet(t, &fleetOptions{nodes: 3, setup: echoes})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f.send(func(r *http.Request) int { // sessions begin on two of them, and WebSockets end there
		if r.URL.Query().Get("sid") == "" || isWebSocket(r) {
			return rand.IntN(2)
		}
		return rand.IntN(3)
	})
	var talkers []*talker
	var wg sync.WaitGroup
	for _, m := range modes {
		for range 15 {
			tk := f.talker(&client.Options{Transports: m.transports, ReconnectDelay: 10 * time.Millisecond})
			talkers = append(talkers, tk)
			wg.Go(func() {
				if err := tk.talk(ctx, 5, 0); err != nil {
					t.Errorf("%s: %v", m.name, err)
				}
			})
		}
	}
	wg.Wait()

	// Those that have a request under way at the dead node lose it, as with any server; all others notice nothing.
	f.nodes[2].kill()
	lost := 0
	for _, tk := range talkers {
		wg.Go(func() { tk.more(ctx, 20) })
	}
	wg.Wait()
	for _, tk := range talkers {
		tk.mu.Lock()
		if tk.lost > 0 {
			lost++
		} else if tk.next != 25 || len(tk.wrong) > 0 {
			t.Errorf("heard %d of 25: %s", tk.next, strings.Join(tk.wrong, "; "))
		}
		tk.mu.Unlock()
	}
	if under := int(f.nodes[2].broken.Load()); lost > under {
		t.Errorf("%d clients were disconnected, want at most the %d with a request under way at the dead node", lost, under)
	}

	// A poll of a session that dies, waiting by way of another node, is answered at once, and so is what comes later.
	f.send(func(r *http.Request) int {
		if r.URL.Query().Get("sid") == "" {
			return 1
		}
		return 0
	})
	q := f.handshake()
	before := f.nodes[1].Stats().Forward.In
	answers := make(chan string)
	go func() {
		for range 2 {
			_, body := f.ask("GET", q, "")
			answers <- body
		}
	}()
	eventually(t, "the poll arrives", func() bool { return f.nodes[1].Stats().Forward.In > before })
	start := time.Now()
	f.nodes[1].kill()
	for range 2 {
		if got := <-answers; !strings.HasPrefix(got, `{"code":1,`) {
			t.Errorf("poll of a session that died: got %q, want code 1", got)
		}
	}
	if took := time.Since(start); took > 10*time.Second { // nothing is waited for; the machine may be slow
		t.Errorf("it took %v to notice the death, want no time", took)
	}
	// All are served again.
	f.send(nil)
	for _, tk := range talkers {
		wg.Go(func() {
			if err := tk.back(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.nodes[0].Stats().Sockets; n < int64(len(talkers)) {
		t.Errorf("got %d sockets on the last node, want %d", n, len(talkers))
	}
}

// more says n more numbers, and waits until all came back, or the client was disconnected meanwhile.
func (t *talker) more(ctx context.Context, n int) {
	t.mu.Lock()
	from := t.next
	t.expected, t.heard = from+n, make(chan struct{})
	heard := t.heard
	t.mu.Unlock()
	for i := range n {
		if t.Emit(ctx, "say", from+i) != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	for {
		select {
		case <-heard:
			return
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Millisecond):
			t.mu.Lock()
			over := t.lost > 0
			t.mu.Unlock()
			if over {
				return
			}
		}
	}
}

// back waits until the client is served again.
func (t *talker) back(ctx context.Context) error {
	for {
		_, err := t.Ask(ctx, "sum", []int{1})
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestShutdownTellsForwardedClients shuts a node down whose client polls by way of another.
func TestShutdownTellsForwardedClients(t *testing.T) {
	f := newFleet(t, &fleetOptions{nodes: 2, setup: echoes})
	f.send(func(r *http.Request) int {
		if r.URL.Query().Get("sid") == "" {
			return 0
		}
		return 1
	})
	for range 20 {
		q := f.handshake()
		before := f.nodes[0].Stats().Forward.In
		answer := make(chan string)
		go func() {
			_, body := f.ask("GET", q, "")
			answer <- body
		}()
		eventually(t, "the poll arrives", func() bool { return f.nodes[0].Stats().Forward.In > before })
		defer func() {
			if got := <-answer; got != "1" {
				t.Errorf("got %q, want a close packet", got)
			}
		}()
	}
	if err := f.nodes[0].Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestForwardOff has a server refuse what it does not know.
func TestForwardOff(t *testing.T) {
	f := newFleet(t, &fleetOptions{nodes: 2, server: func(o *atoll.Options) { o.Forward.Off = true }})
	f.send(func(r *http.Request) int {
		if r.URL.Query().Get("sid") == "" {
			return 0
		}
		return 1
	})
	if status, body := f.ask("GET", f.handshake(), ""); status != 400 || !strings.HasPrefix(body, `{"code":1,`) {
		t.Errorf("got %d %q, want 400 and code 1", status, body)
	}
	if got := f.nodes[1].Stats().Forward; got != (atoll.ForwardStats{}) {
		t.Errorf("got %+v, want zero", got)
	}
}
