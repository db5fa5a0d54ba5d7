package engine

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A pair is two servers. The first has released sessions served by the second, the second asks the first for all others.
type pair struct {
	*rig
	b     *rig
	moved sync.Map // ids of sessions that the first gives away: closed when they are there
}

func newPair(t testing.TB, make func(testing.TB, *Options, func(*recorder)) *rig, hold time.Duration, setup func(*recorder)) *pair {
	p := &pair{}
	p.rig = make(t, &Options{
		Hold: func() time.Duration { return hold },
		Foreign: func(w http.ResponseWriter, r *http.Request, id string) bool {
			there, ok := p.moved.Load(id)
			if ok {
				<-there.(chan struct{})
				p.b.s.ServeHTTP(w, r)
			}
			return ok
		},
	}, setup)
	p.b = make(t, nil, setup)
	return p
}

// move gives a session from the first server to the second.
func (p *pair) move(ctx context.Context, id string) bool {
	there := make(chan struct{})
	defer close(there)
	p.moved.Store(id, there)
	parcel, ok := p.s.Release(ctx, id)
	if !ok {
		p.moved.Delete(id)
		return false
	}
	b, err := parcel.AppendBinary(nil)
	if err != nil {
		p.Fatal(err)
	}
	var q Parcel
	if err := q.UnmarshalBinary(b); err != nil {
		p.Fatal(err)
	}
	if err := p.b.s.Adopt(&q); err != nil {
		p.Fatal(err)
	}
	return true
}

func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, newRig, holdFor, echoes)
		start := time.Now()
		id := p.openPoll()
		time.Sleep(20 * time.Second) // of the 25 until the first ping
		waiting := make(chan string)
		go func() {
			_, body := p.get(id)
			waiting <- body
		}()
		p.post(id, "4a\x1ebAQ==")
		p.post(id, "4b")
		synctest.Wait()
		moved := time.Now()
		if !p.move(t.Context(), id) {
			t.Fatal("the session was not released")
		}
		if got := <-waiting; got != "6" || time.Since(moved) != 0 {
			t.Errorf("the poll that waited: got %q after %v, want a noop at once", got, time.Since(moved))
		}
		if got := p.rec(0).wait(t); got.Reason != ReasonMoved || p.rec(0).messages() != "" {
			t.Errorf("first server: got %v and messages %q, want moved, and none", got, p.rec(0).messages())
		}
		r := p.b.rec(0)
		if got := r.messages(); got != "a b:\x01 b" {
			t.Errorf("second server: got %q, want all that the client sent", got)
		}
		h := r.c.Handshake()
		if h.Host != "memory" || h.URL.RawQuery != "EIO=4&transport=polling" || !h.Time.Equal(start) || r.c.ID() != id {
			t.Errorf("got handshake %+v of %q, want the original one", h, r.c.ID())
		}
		// The client does not know of it.
		if status, body := p.get(id); status != 200 || body != "4a\x1ebAQ==\x1e4b" {
			t.Errorf("poll: got %d %q, want the echoes", status, body)
		}
		p.post(id, "4c")
		if _, body := p.get(id); body != "4c" {
			t.Errorf("poll: got %q, want 4c", body)
		}
		if _, body := p.get(id); body != "2" || time.Since(start) != 25*time.Second {
			t.Errorf("poll: got %q after %v, want a ping at 25s", body, time.Since(start))
		}
		p.post(id, "3")
		k := p.b.ws(id)
		k.send("2probe")
		k.want("3probe")
		k.send("5", "4d")
		k.want("4d", "2")
		if got := time.Since(start); got != 50*time.Second {
			t.Errorf("next ping after %v, want 50s", got)
		}
		if got := r.messages(); got != "a b:\x01 b c d" {
			t.Errorf("got %q, want all messages in order", got)
		}
		a, b := p.s.Stats(), p.b.s.Stats()
		if a.Opened != 1 || a.MovedOut != 1 || a.Sessions != 0 || len(a.Closed) != 0 || b.Opened != 0 || b.MovedIn != 1 || b.WebSocket != 1 || b.Upgrades != 1 {
			t.Errorf("got %+v and %+v, want one session that was opened here, moved, and is there", a, b)
		}
		if p.move(t.Context(), id) {
			t.Error("a session that is not here was released")
		}
	})
}

// TestMoveWhileProbing moves a session for a WebSocket that has come, and has its client change to that, or not.
func TestMoveWhileProbing(t *testing.T) {
	for _, works := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, newRig, holdFor, echoes)
			id := p.openPoll()
			p.post(id, "4a")
			p.move(t.Context(), id)
			k := p.b.ws(id)
			k.send("2probe")
			k.want("3probe")
			if _, body := p.get(id); body != "4a" {
				t.Errorf("poll at the first server: got %q, want the echo", body)
			}
			if !works {
				k.Close()
				synctest.Wait()
				p.post(id, "4b")
				if _, body := p.get(id); body != "4b" {
					t.Errorf("poll after the probe broke off: got %q, want 4b", body)
				}
				return
			}
			if _, body := p.get(id); body != "6" {
				t.Errorf("poll while the client changes: got %q, want a noop", body)
			}
			k.send("5", "4b")
			k.want("4b")
			if got := p.b.rec(0).messages(); got != "a b" {
				t.Errorf("got %q, want a b", got)
			}
		})
	}
}

func TestReleaseWaitsForPost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, newRig, holdFor, nil)
		id := p.openPoll()
		conn, err := p.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		post := "POST /engine.io/?" + poll(id) + " HTTP/1.1\r\nHost: memory\r\nContent-Length: 6\r\n\r\n4he"
		if _, err := conn.Write([]byte(post)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if p.move(short, id) { // waits for the time-out
			t.Error("released while a POST was under way")
		}
		moved := make(chan bool)
		go func() { moved <- p.move(t.Context(), id) }()
		synctest.Wait()
		if _, err := conn.Write([]byte("llo")); err != nil {
			t.Fatal(err)
		}
		if !<-moved {
			t.Error("not released after the POST")
		}
		if got := p.b.rec(0).messages(); got != "hello" {
			t.Errorf("got %q, want hello", got)
		}
	})
}

func TestReleaseTooLate(t *testing.T) {
	for name, spoil := range map[string]func(g *rig, id string){
		"heard":      func(g *rig, id string) { g.post(id, "4a"); time.Sleep(holdFor + 1) },
		"sent":       func(g *rig, id string) { g.rec(0).c.Send(text("x")) },
		"probe":      func(g *rig, id string) { g.ws(id) },
		"await pong": func(g *rig, id string) { g.get(id) },
		"closing":    func(g *rig, id string) { g.rec(0).c.Close(nil) },
		"leaving":    func(g *rig, id string) { g.rec(0).c.Leave(nil) },
		"cut":        func(g *rig, id string) { g.rec(0).c.Cut(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, holding(), nil, func(g *rig) {
				id := g.openPoll()
				spoil(g, id)
				synctest.Wait()
				if p, ok := g.s.Release(t.Context(), id); ok || p != nil {
					t.Error("the session was released, want not")
				}
			})
		})
	}
}

func TestAdoptRefused(t *testing.T) {
	boom := errors.New("boom")
	refuse := false
	synctest.Test(t, func(t *testing.T) {
		a := newRig(t, holding(), nil)
		id := a.openPoll()
		p, ok := a.s.Release(t.Context(), id)
		if !ok {
			t.Fatal("not released")
		}
		b := NewServer(func(c *Conn) (Handler, error) {
			if refuse {
				return nil, boom
			}
			return &recorder{c: c, ended: make(chan struct{})}, nil
		}, nil)
		defer b.Close()
		refuse = true
		if err := b.Adopt(p); !errors.Is(err, boom) {
			t.Errorf("the accept function refuses: got %v, want its error", err)
		}
		refuse = false
		b.Refuse(time.Second)
		if err := b.Adopt(p); !errors.Is(err, ErrNotOpen) || b.Accepts() {
			t.Errorf("a server that takes no sessions: got %v, want ErrNotOpen", err)
		}
		b.Refuse(0)
		if err := b.Adopt(&Parcel{id: "no id"}); err == nil {
			t.Error("a malformed id was adopted")
		}
		if err := b.Adopt(p); err != nil || !b.Has(id) {
			t.Errorf("got %v, want the session", err)
		}
		if err := b.Adopt(p); err == nil {
			t.Error("adopted twice")
		}
		if got := b.Stats(); got.Sessions != 1 || got.MovedIn != 1 {
			t.Errorf("got %+v, want one session that moved in", got)
		}
		b.Close()
		if err := b.Adopt(p); !errors.Is(err, ErrNotOpen) {
			t.Errorf("a closed server: got %v, want ErrNotOpen", err)
		}
	})
}

// TestRequestsBeforeAdopted sends requests for a session that is about to be made here, and then is not.
func TestRequestsBeforeAdopted(t *testing.T) {
	a, b := newRig(t, &Options{Hold: func() time.Duration { return time.Hour }}, nil), newRig(t, nil, nil)
	id := a.openPoll()
	p, ok := a.s.Release(t.Context(), id)
	if !ok {
		t.Fatal("not released")
	}
	b.refuse = make(chan error)
	adopted := make(chan error)
	go func() { adopted <- b.s.Adopt(p) }()
	eventually(t, "the session is on its way", func() bool { return b.s.Has(id) })
	c := b.s.lookup(id)
	status := make(chan int)
	go func() {
		code, _ := b.post(id, "4a")
		status <- code
	}()
	eventually(t, "the POST is there", func() bool { return c.Activity().Busy })
	k := b.ws(id)
	k.send("2probe", "5", "4b")
	b.refuse <- errors.New("boom")
	if err := <-adopted; err == nil {
		t.Error("Adopt: got no error, want one")
	}
	if got := <-status; got != 400 {
		t.Errorf("POST: got %d, want 400", got)
	}
	k.want("close:1008")
}

// TestMoveRaces lets the release of sessions race with all that can happen to them, and looks whether each message that was
// taken was handed up, once, in order, on one of the servers.
func TestMoveRaces(t *testing.T) {
	p := newPair(t, newRealRig, time.Millisecond, nil)
	var moved atomic.Int64
	for i := range 300 {
		id := p.openPoll()
		own := p.rec(i)
		var wg sync.WaitGroup
		var sent []string
		rival := rand.IntN(5)
		pause := func() { time.Sleep(time.Duration(rand.IntN(1500)) * time.Microsecond) }
		wg.Go(func() {
			for _, m := range []string{"a", "b", "c"} {
				pause()
				status, _, _, err := p.try(t.Context(), "POST", poll(id), "4"+m)
				if err != nil || status != 200 {
					if rival < 3 {
						t.Errorf("POST: got %d and error %v, want 200", status, err)
					}
					return
				}
				sent = append(sent, m)
			}
		})
		wg.Go(func() {
			pause()
			if p.move(t.Context(), id) {
				moved.Add(1)
			}
		})
		wg.Go(func() {
			pause()
			switch rival {
			case 1:
				p.tryWS(id, "")
			case 2:
				own.c.Send(text("x"))
			case 3:
				own.c.Close(nil)
			case 4:
				own.c.Cut(nil)
			}
		})
		wg.Wait()
		if rival > 2 {
			continue
		}
		want := strings.Join(sent, " ")
		heard := func() string {
			all := own.messages()
			for _, r := range p.b.all() {
				if r.c.ID() == id {
					all += r.messages()
				}
			}
			return all
		}
		for range 10_000 { // ten seconds
			if heard() == want {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if got := heard(); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if moved.Load() == 0 {
		t.Error("no session moved, want some")
	}
}

func TestParcel(t *testing.T) {
	p := &Parcel{
		id: "AAAAAAAAAAAAAAAAAAAA", hs: shake{lines: "/x?y\nhost\n1.2.3.4:5\nA\nb\n", at: 12345, secure: true},
		ping: 3 * time.Second, kept: []kept{{[]byte("a"), false}, {[]byte{1, 0}, true}},
	}
	b, err := p.AppendBinary([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	var q Parcel
	if err := q.UnmarshalBinary(b[1:]); err != nil {
		t.Fatal(err)
	}
	if h := q.hs.unpack(); q.id != p.id || q.hs != p.hs || q.ping != p.ping || len(q.kept) != 2 || string(q.kept[0].data) != "a" || !q.kept[1].binary || h.Header.Get("A") != "b" {
		t.Errorf("got %+v, want %+v", q, *p)
	}
	for n := range len(b) - 1 {
		if err := q.UnmarshalBinary(b[1 : n+1]); err == nil {
			t.Errorf("the first %d bytes: got no error", n)
		}
	}
	if err := q.UnmarshalBinary(append(b[1:], 0)); err == nil {
		t.Error("a byte too many: got no error")
	}
}

func FuzzParcel(f *testing.F) {
	p := &Parcel{id: "AAAAAAAAAAAAAAAAAAAA", hs: shake{lines: "/x\nh\na\n"}, ping: time.Second, kept: []kept{{[]byte("4a"), false}}}
	b, _ := p.AppendBinary(nil)
	f.Add(b)
	f.Add([]byte{parcelVersion, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var p Parcel
		if p.UnmarshalBinary(data) != nil {
			return
		}
		p.hs.unpack()
		b, _ := p.AppendBinary(nil)
		var q Parcel
		if err := q.UnmarshalBinary(b); err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if c, _ := q.AppendBinary(nil); !bytes.Equal(b, c) {
			t.Errorf("got %x, want %x", c, b)
		}
		s := NewServer(func(c *Conn) (Handler, error) { return &recorder{c: c, ended: make(chan struct{})}, nil }, nil)
		defer s.Close()
		_ = s.Adopt(&q)
	})
}

// TestMovesBeforeItsHeaders has a request find a session that is given away while the hook for headers runs, or right before: of
// the two servers only the one that answers calls its hook, once.
func TestMovesBeforeItsHeaders(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, newRig, holdFor, echoes)
			inside, goOn := make(chan struct{}), make(chan struct{})
			var first, second atomic.Int32
			var wait atomic.Bool
			p.s.o.Headers = func(h http.Header, _ *http.Request, initial bool) {
				if initial || !wait.Load() {
					return
				}
				first.Add(1)
				h.Add("X-Hook", "a")
				inside <- struct{}{}
				<-goOn
			}
			p.b.s.o.Headers = func(h http.Header, _ *http.Request, _ bool) {
				second.Add(1)
				h.Add("X-Hook", "b")
			}
			id := p.openPoll()
			p.post(id, "4a")
			wait.Store(true)
			type answer struct {
				body string
				hook []string
			}
			got := make(chan answer)
			go func() {
				_, body, h := p.do(method, poll(id), "4b")
				got <- answer{body, h["X-Hook"]}
			}()
			<-inside
			moved := make(chan bool)
			go func() { moved <- p.move(t.Context(), id) }()
			synctest.Wait()
			close(goOn)
			// The request was the first server's, which has answered it; a poll that waits is answered because the session moves.
			if a := <-got; a.body != map[string]string{"GET": "6", "POST": "ok"}[method] || len(a.hook) != 1 || a.hook[0] != "a" || second.Load() != 0 {
				t.Errorf("%s: got %q with hooks %v, and %d calls of the second server's, want the first server's answer alone", method, a.body, a.hook, second.Load())
			}
			if !<-moved {
				t.Fatalf("%s: the session was not released", method)
			}
			calls := first.Load()
			if _, _, h := p.do("POST", poll(id), "4c"); len(h["X-Hook"]) != 1 || h["X-Hook"][0] != "b" || first.Load() != calls {
				t.Errorf("%s: got hooks %v for a session that has moved, want that of the second server alone", method, h["X-Hook"])
			}
			if got := p.b.rec(0).messages(); got != map[string]string{"GET": "a c", "POST": "a b c"}[method] {
				t.Errorf("%s: got %q, want all messages", method, got)
			}
		})
	}
}

// TestHeadersPanic has the hook for headers panic: the session can be released nevertheless.
func TestHeadersPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, newRig, holdFor, echoes)
		id := p.openPoll()
		p.s.o.Headers = func(http.Header, *http.Request, bool) { panic(http.ErrAbortHandler) }
		if _, _, _, err := p.try(t.Context(), "POST", poll(id), "4a"); err == nil {
			t.Error("got an answer, want none")
		}
		if !p.move(t.Context(), id) {
			t.Error("the session was not released")
		}
	})
}
