package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
)

func TestReconnectPauses(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, n *network, o client.Options) {
		s := connected(t, &o)
		defer s.Close()
		var failures atomic.Int32
		s.OnConnectError(func(err error) {
			if errors.Is(err, errDown) {
				failures.Add(1)
			}
		})
		n.cut()
		start := time.Now()
		time.Sleep(18 * time.Second)
		n.heal()
		time.Sleep(5 * time.Second)
		var got []time.Duration
		for _, at := range n.dialed() {
			got = append(got, at.Sub(start))
		}
		want := []time.Duration{1 * time.Second, 3 * time.Second, 7 * time.Second, 12 * time.Second, 17 * time.Second, 22 * time.Second}
		if !slices.Equal(got, want) {
			t.Errorf("got attempts after %v, want %v", got, want)
		}
		if !s.Connected() || failures.Load() != 5 {
			t.Errorf("got connected %t, %d failures, want true, 5", s.Connected(), failures.Load())
		}
		n.cut() // the pauses begin anew
		n.heal()
		time.Sleep(1100 * time.Millisecond)
		if !s.Connected() {
			t.Error("got no connection after the first pause")
		}
	})
}

func TestReconnectJitter(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, n *network, o client.Options) {
		o.Jitter = 0
		s := connected(t, &o)
		defer s.Close()
		seen := map[time.Duration]bool{}
		for range 20 {
			n.cut()
			start := time.Now()
			n.heal()
			time.Sleep(2 * time.Second)
			d := n.dialed()[0].Sub(start)
			if d < 500*time.Millisecond || d > 1500*time.Millisecond {
				t.Errorf("got a pause of %v, want 0.5 to 1.5 s", d)
			}
			seen[d] = true
		}
		if len(seen) < 15 {
			t.Errorf("got %d different pauses of 20", len(seen))
		}
	})
}

func TestFirstFailure(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, n *network, o client.Options) {
		n.down.Store(true)
		for _, transport := range []string{client.Polling, client.WebSocket} {
			o.Transports = []string{transport}
			if _, err := client.Dial(t.Context(), "http://memory", &o); !errors.Is(err, errDown) {
				t.Errorf("got %v, want %v", err, errDown)
			}
		}
		o.RetryConnect = true
		time.AfterFunc(5*time.Second, n.heal)
		start := time.Now()
		s := connected(t, &o)
		if got := time.Since(start); got != 7*time.Second {
			t.Errorf("got a connection after %v, want 7s: after pauses of 1, 2 and 4", got)
		}
		s.Close()

		n.down.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start = time.Now()
		if _, err := client.Dial(ctx, "http://memory", &o); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 10*time.Second {
			t.Errorf("got %v after %v, want the deadline", err, time.Since(start))
		}
	})
}

func TestConnectTimeout(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, n *network, o client.Options) {
		o.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		for _, transport := range []string{client.Polling, client.WebSocket} {
			o.Transports = []string{transport}
			start := time.Now()
			if _, err := client.Dial(t.Context(), "http://memory", &o); err == nil || time.Since(start) != 20*time.Second {
				t.Errorf("got %v after %v, want an error after 20s", err, time.Since(start))
			}
		}
	})
}

func TestGivesUp(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, n *network, o client.Options) {
		o.ReconnectAttempts = 3
		s := connected(t, &o)
		defer s.Close()
		failures := make(chan error, 10)
		s.OnConnectError(func(err error) { failures <- err })
		n.cut()
		time.Sleep(time.Minute)
		if got := len(n.dialed()); got != 3 {
			t.Errorf("got %d attempts, want 3", got)
		}
		for i := range 3 {
			if err := <-failures; errors.Is(err, client.ErrGaveUp) != (i == 2) {
				t.Errorf("got %v as failure %d", err, i)
			}
		}
		n.heal()
		if err := s.Connect(t.Context()); err != nil { // it can be asked to try again
			t.Error(err)
		}
	})
}

func TestDisableReconnect(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, n *network, o client.Options) {
		o.DisableReconnect = true
		s := connected(t, &o)
		defer s.Close()
		causes := make(chan *client.DisconnectError, 1)
		s.OnDisconnect(func(cause *client.DisconnectError) { causes <- cause })
		n.cut()
		n.heal()
		if cause := <-causes; cause.Reason != client.ReasonTransportClose && cause.Reason != client.ReasonTransportError {
			t.Errorf("got %v", cause)
		}
		time.Sleep(time.Minute)
		if got := len(n.dialed()); got != 0 || s.Connected() {
			t.Errorf("got %d attempts, want none", got)
		}
	})
}

func TestPingTimeout(t *testing.T) {
	for _, transports := range [][]string{{client.Polling}, {client.WebSocket}, {client.Polling, client.WebSocket}} {
		inMemory(t, nil, func(t *testing.T, n *network, o client.Options) {
			o.Transports = transports
			s := connected(t, &o)
			defer s.Close()
			causes := make(chan *client.DisconnectError, 10)
			s.OnDisconnect(func(cause *client.DisconnectError) { causes <- cause })
			time.Sleep(10 * time.Minute) // pings keep it
			if !s.Connected() || len(causes) > 0 {
				t.Fatalf("%v: got no connection after ten minutes", transports)
			}
			n.freeze()
			start := time.Now()
			cause := <-causes
			if got := time.Since(start); cause.Reason != client.ReasonPingTimeout || got > 45*time.Second {
				t.Errorf("%v: got %v after %v, want ping timeout within 45s", transports, cause, got)
			}
			time.Sleep(2 * time.Second)
			if !s.Connected() {
				t.Errorf("%v: got no connection again", transports)
			}
		})
	}
}

func TestAckTimeout(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, n *network, o client.Options) {
		s := connected(t, &o)
		defer s.Close()
		start := time.Now()
		if _, err := s.Ask(t.Context(), "silent"); !errors.Is(err, client.ErrAckTimeout) || time.Since(start) != 30*time.Second {
			t.Errorf("got %v after %v, want ErrAckTimeout after 30s", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start = time.Now()
		if _, err := s.Ask(ctx, "silent"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("got %v after %v, want the deadline", err, time.Since(start))
		}
		if _, err := s.Ask(ctx, "silent"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
	})
}

// What was emitted while the client was away arrives afterwards, in order; an ask that was given up does not.
func TestAway(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, n *network, o client.Options) {
		o.MaxBuffer = 10_000
		s := connected(t, &o)
		echoes := make(chan string, 10)
		client.On(s, "echo", func(_ context.Context, text string) error { echoes <- text; return nil })
		n.cut()
		synctest.Wait()
		for _, text := range []string{"a", "b"} {
			if err := s.Emit(t.Context(), "echo", text); err != nil {
				t.Error(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := s.Ask(ctx, "echo", "given up"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		if err := s.Volatile().Emit(t.Context(), "echo", "dropped"); err != nil {
			t.Error(err)
		}
		if err := s.Emit(t.Context(), "echo", make([]byte, 10_000)); !errors.Is(err, client.ErrBufferFull) {
			t.Errorf("got %v, want ErrBufferFull", err)
		}
		if err := s.Emit(ctx, "echo", "too late"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		answered := make(chan error, 1)
		go func() {
			_, err := s.Ask(t.Context(), "echo", "waits")
			answered <- err
		}()
		synctest.Wait()
		n.heal()
		if err := <-answered; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if err := s.Volatile().Emit(t.Context(), "echo", "c"); err != nil {
			t.Error(err)
		}
		for _, want := range []string{"a", "b", "c"} {
			if got := <-echoes; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		s.Close()
		if len(echoes) > 0 {
			t.Errorf("got %q, want nothing more", <-echoes)
		}
	})
}

// A server that sends faster than the handlers work is let go.
func TestInboxLimit(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, n *network, o client.Options) {
		o.MaxInbox = 10_000
		s := connected(t, &o)
		defer s.Close()
		causes := make(chan *client.DisconnectError, 1)
		s.OnDisconnect(func(cause *client.DisconnectError) { causes <- cause })
		hold := make(chan struct{})
		var handled atomic.Int32
		client.On(s, "number", func(context.Context, int) error { handled.Add(1); <-hold; return nil })
		if err := s.Emit(t.Context(), "count", 1000); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		close(hold)
		if cause := <-causes; cause.Reason != client.ReasonTransportError || cause.Err == nil {
			t.Errorf("got %v", cause)
		}
		if got := handled.Load(); got < 50 || got > 80 {
			t.Errorf("got %d events handled, want those that fitted", got)
		}
	})
}

func TestCloseWhileConnecting(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, n *network, o client.Options) {
		o.RetryConnect = true
		n.down.Store(true)
		s, err := client.New("http://memory", &o)
		if err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() { result <- s.Connect(t.Context()) }()
		time.Sleep(1500 * time.Millisecond)
		s.Close()
		s.Close()
		if err := <-result; err == nil {
			t.Error("got a connection, want an error")
		}
		if s.Of("/x", nil) != nil {
			t.Error("got a socket of a closed client")
		}
	})
}

func TestCookiesAndHeaders(t *testing.T) {
	var mu sync.Mutex
	var cookies, tokens []string
	o := &atoll.Options{Engine: engine.Options{Cookie: &http.Cookie{}, Headers: func(_ http.Header, r *http.Request, initial bool) {
		mu.Lock()
		defer mu.Unlock()
		user, password, _ := r.BasicAuth()
		tokens = append(tokens, r.Header.Get("X-Token")+r.URL.Query().Get("who")+user+password+r.Host+strings.Join(r.Header["Host"], ""))
		if c, err := r.Cookie("io"); err == nil {
			cookies = append(cookies, c.Value)
		} else if !initial {
			cookies = append(cookies, "none")
		}
	}}}
	inMemory(t, o, func(t *testing.T, n *network, o client.Options) {
		var err error
		if o.Jar, err = cookiejar.New(nil); err != nil {
			t.Fatal(err)
		}
		o.Transports = nil
		o.Header = http.Header{"X-Token": {"abc"}, "host": {"other"}}
		s, err := client.Dial(t.Context(), "http://me:pw@memory?who=ada", &o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		time.Sleep(time.Second) // a poll that the upgrade overtook waits some milliseconds
		if got := s.Transport(); got != client.WebSocket {
			t.Errorf("got %s, want websocket", got)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(cookies) == 0 || slices.ContainsFunc(cookies, func(v string) bool { return v != s.SessionID() }) {
			t.Errorf("got cookies %q, want %q each time", cookies, s.SessionID())
		}
		if slices.ContainsFunc(tokens, func(v string) bool { return v != "abcadamepwmemory" }) {
			t.Errorf("got %q, want the header, the query, user and password on each request, and the URL's host", tokens)
		}
	})
}

func TestRefusedByEngine(t *testing.T) {
	o := &atoll.Options{Engine: engine.Options{Allow: func(*http.Request) error { return errors.New("not today") }}}
	inMemory(t, o, func(t *testing.T, n *network, o client.Options) {
		for _, transport := range []string{client.Polling, client.WebSocket} {
			o.Transports = []string{transport}
			_, err := client.Dial(t.Context(), "http://memory", &o)
			if e, ok := errors.AsType[*client.StatusError](err); !ok || e.Status != 403 || e.Message != "not today" {
				t.Errorf("%s: got %v, want the refusal", transport, err)
			}
		}
	})
}

func TestAuthFunc(t *testing.T) {
	inMemory(t, nil, func(t *testing.T, n *network, o client.Options) {
		calls := 0
		o.AuthFunc = func(context.Context) (any, error) {
			calls++
			if calls == 3 {
				return nil, errors.New("no token")
			}
			return map[string]int{"call": calls}, nil
		}
		s, err := client.New("http://memory", &o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		got := make(chan int, 1)
		failed := make(chan error, 1)
		client.On(s, "hello", func(_ context.Context, auth map[string]int) error { got <- auth["call"]; return nil })
		s.OnConnectError(func(err error) { failed <- err })
		if err := s.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		for want := 1; want <= 2; want++ {
			if n := <-got; n != want {
				t.Errorf("got %d, want %d", n, want)
			}
			n.cut()
			n.heal()
		}
		if err := <-failed; err == nil || s.Connected() {
			t.Error("got no error where there is no token")
		}
		for _, auth := range []any{"text", 5, []int{1}, map[string][]byte{"a": {1}}, make(chan int)} {
			o.Auth, o.AuthFunc = auth, nil
			if _, err := client.Dial(t.Context(), "http://memory", &o); err == nil {
				t.Errorf("%v: got a connection, want an error", auth)
			}
		}
	})
}

func TestSetTwice(t *testing.T) {
	s, err := client.New("ws://memory/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, f := range map[string]func(){
		"event":          func() { client.On(s, "x", func(context.Context, event.None) error { return nil }) },
		"OnConnect":      func() { s.OnConnect(func(context.Context) error { return nil }) },
		"OnDisconnect":   func() { s.OnDisconnect(func(*client.DisconnectError) {}) },
		"OnConnectError": func() { s.OnConnectError(func(error) {}) },
	} {
		f()
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: got no panic for the second one", name)
				}
			}()
			f()
		}()
	}
	for url, o := range map[string]*client.Options{
		"": nil, "localhost:3000": nil, "ftp://x": nil, "http://": nil, "http://a b": nil, "http://x": {Transports: []string{"smoke"}},
		"http://y": {Transports: []string{}}, "http://z": {Jitter: 2},
	} {
		if _, err := client.New(url, o); err == nil {
			t.Errorf("%q: got no error", url)
		}
	}
}
