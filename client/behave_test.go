package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/event"
)

func TestAgainstAtoll(t *testing.T)    { behave(t, startAtoll) }
func TestAgainstOfficial(t *testing.T) { behave(t, startOfficial) }

// behave checks the client against a server, over each transport.
func behave(t *testing.T, start func(t *testing.T) string) {
	url := start(t)
	for name, transports := range map[string][]string{
		"polling": {client.Polling}, "websocket": {client.WebSocket}, "upgrade": {client.Polling, client.WebSocket},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := client.Options{Transports: transports, ReconnectDelay: 10 * time.Millisecond}
			t.Run("echo", func(t *testing.T) { testEcho(t, url, o) })
			t.Run("handlers", func(t *testing.T) { testHandlers(t, url, o) })
			t.Run("order", func(t *testing.T) { testOrder(t, url, o) })
			t.Run("refusal", func(t *testing.T) { testRefusal(t, url, o) })
			t.Run("reconnect", func(t *testing.T) { testReconnect(t, url, o) })
			t.Run("kicked", func(t *testing.T) { testKicked(t, url, o) })
			t.Run("namespaces", func(t *testing.T) { testNamespaces(t, url, o) })
			t.Run("idle", func(t *testing.T) { testIdle(t, url, o) })
			t.Run("limits", func(t *testing.T) { testLimits(t, url, o) })
		})
	}
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, url string, o *client.Options) *client.Socket {
	t.Helper()
	s, err := client.Dial(soon(t), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func make1(t *testing.T, url string, o *client.Options) *client.Socket {
	t.Helper()
	s, err := client.New(url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("got nothing within 10 seconds")
		panic("unreachable")
	}
}

func testEcho(t *testing.T, url string, o client.Options) {
	s := dial(t, url+"/chat?token=1", &o)
	if s.Namespace() != "/chat" || len(s.ID()) == 0 || !s.Connected() || s.SessionID() == "" {
		t.Errorf("got %q, %q, %t, %q", s.Namespace(), s.ID(), s.Connected(), s.SessionID())
	}
	big := bytes.Repeat([]byte{0, 1, 2, 255}, 200_000/4)
	long := strings.Repeat("日本", 100_000)
	args, err := s.Ask(soon(t), "echo", 1, "x", nil, map[string]any{"bin": []byte{1, 2}, "list": []any{[]byte{}, 2.5}}, big, long)
	if err != nil {
		t.Fatal(err)
	}
	var got [6]any
	if err := args.DecodeAll(&got[0], &got[1], &got[2], &got[3], &got[4], &got[5]); err != nil {
		t.Fatal(err)
	}
	want := [6]any{1.0, "x", nil, map[string]any{"bin": []byte{1, 2}, "list": []any{[]byte{}, 2.5}}, big, long}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %.500v, want %.500v", got, want)
	}
	if o.Transports[len(o.Transports)-1] == client.WebSocket {
		for deadline := time.Now().Add(5 * time.Second); s.Transport() != client.WebSocket; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("got transport %q, want websocket", s.Transport())
			}
		}
		if args, err := s.Ask(soon(t), "echo", big); err != nil || args.Len() != 1 {
			t.Errorf("got %d, %v", args.Len(), err)
		}
	}
	sum := event.Request[event.Two[string, []byte], event.Two[string, []byte]]("echo")
	if r, err := sum.Ask(soon(t), s, event.Two[string, []byte]{A: "typed", B: []byte("b")}); err != nil || r.A != "typed" || string(r.B) != "b" {
		t.Errorf("got %v, %v", r, err)
	}
}

func testHandlers(t *testing.T, url string, o client.Options) {
	o.Auth = map[string]string{"token": "abc"}
	s := make1(t, url, &o)
	hello := make(chan map[string]string, 1)
	asked := make(chan string, 1)
	echo := make(chan string, 1)
	var mu sync.Mutex
	var seen []string
	client.On(s, "hello", func(ctx context.Context, auth map[string]string) error {
		hello <- auth
		a, err := s.Ask(ctx, "echo", "in a handler") // answers do not wait behind handlers
		asked <- a.String()
		return err
	})
	client.On(s, "echo", func(_ context.Context, two event.Two[string, []byte]) error {
		echo <- two.A + string(two.B)
		return nil
	})
	client.Answer(s, event.Request[int, string]("question"), func(ctx context.Context, n int) (string, error) {
		return fmt.Sprint("answer to ", n), nil
	})
	s.OnAny(func(_ context.Context, e *client.Event) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, e.Name)
		return nil
	})
	if err := s.Connect(soon(t)); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, hello); got["token"] != "abc" {
		t.Errorf("got %v, want the auth payload", got)
	}
	if got := receive(t, asked); got != `["in a handler"]` {
		t.Errorf("got %s", got)
	}
	if err := s.Emit(soon(t), "echo", "a", []byte("b")); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, echo); got != "ab" {
		t.Errorf("got %q, want ab", got)
	}
	if a, err := s.Ask(soon(t), "ask me", 42); err != nil || a.String() != `["answer to 42"]` {
		t.Errorf("got %v, %v", a, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"hello", "echo", "question"}; !slices.Equal(seen, want) {
		t.Errorf("got %q, want %q", seen, want)
	}
}

func testOrder(t *testing.T, url string, o client.Options) {
	const n = 500
	s := make1(t, url, &o)
	numbers := make(chan int, n)
	echoes := make(chan int, 2*n)
	client.On(s, "number", func(_ context.Context, i int) error { numbers <- i; return nil })
	client.On(s, "echo", func(_ context.Context, i int) error { echoes <- i; return nil })
	for i := range n { // before there is a connection
		if err := s.Emit(t.Context(), "echo", i); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Connect(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.Emit(t.Context(), "count", n); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if i%50 == 0 {
			time.Sleep(time.Millisecond) // so that some go before, some after the upgrade
		}
		if err := s.Emit(t.Context(), "echo", n+i); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		if got := receive(t, numbers); got != i {
			t.Fatalf("got number %d, want %d", got, i)
		}
	}
	for i := range 2 * n {
		if got := receive(t, echoes); got != i {
			t.Fatalf("got echo %d, want %d", got, i)
		}
	}
}

func testRefusal(t *testing.T, url string, o client.Options) {
	_, err := client.Dial(soon(t), url+"/secret", &o)
	e, ok := errors.AsType[*client.ConnectError](err)
	if !ok || e.Message != "not you" || e.Namespace != "/secret" || e.Data.String() != `[{"code":7}]` {
		t.Errorf("got %v, want the refusal", err)
	}
	_, err = client.Dial(soon(t), url+"/nowhere", &o)
	if e, ok := errors.AsType[*client.ConnectError](err); !ok || e.Message != "Invalid namespace" || e.Data.Len() != 0 {
		t.Errorf("got %v, want a refusal", err)
	}
}

func testReconnect(t *testing.T, url string, o client.Options) {
	s := make1(t, url, &o)
	connects := make(chan string, 10)
	losses := make(chan *client.DisconnectError, 10)
	s.OnConnect(func(context.Context) error { connects <- s.ID(); return nil })
	s.OnDisconnect(func(cause *client.DisconnectError) { losses <- cause })
	if err := s.Connect(soon(t)); err != nil {
		t.Fatal(err)
	}
	first := receive(t, connects)
	asked := make(chan error, 1)
	go func() {
		_, err := s.Ask(soon(t), "silent")
		asked <- err
	}()
	time.Sleep(20 * time.Millisecond) // it is sent, and not buffered
	if err := s.Emit(t.Context(), "drop"); err != nil {
		t.Fatal(err)
	}
	cause := receive(t, losses)
	if cause.Reason == client.ReasonServerDisconnect { // Atoll says goodbye to each namespace first
		if err := s.Connect(soon(t)); err != nil {
			t.Fatal(err)
		}
	} else if !cause.Active() || cause.Reason != client.ReasonTransportClose && cause.Reason != client.ReasonTransportError {
		t.Errorf("got %v, want the end of the transport", cause)
	}
	if _, ok := errors.AsType[*client.DisconnectError](receive(t, asked)); !ok {
		t.Error("got no DisconnectError for the ask that was lost")
	}
	if a, err := s.Ask(soon(t), "echo", "waits for the connection"); err != nil || a.Len() != 1 {
		t.Errorf("got %v, %v", a, err)
	}
	if second := receive(t, connects); second == first || second == "" {
		t.Errorf("got id %q, first %q, want another one", second, first)
	}
	s.Disconnect()
	if cause := receive(t, losses); cause.Reason != client.ReasonClientDisconnect || s.ID() != "" || s.Connected() {
		t.Errorf("got %v", cause)
	}
	if err := s.Connect(soon(t)); err != nil {
		t.Fatal(err)
	}
	receive(t, connects)
	s.Close()
	if cause := receive(t, losses); cause.Reason != client.ReasonClientDisconnect {
		t.Errorf("got %v", cause)
	}
	if err := s.Emit(t.Context(), "echo"); !errors.Is(err, client.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if err := s.Connect(soon(t)); !errors.Is(err, client.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func testKicked(t *testing.T, url string, o client.Options) {
	s := make1(t, url, &o)
	losses := make(chan *client.DisconnectError, 10)
	s.OnDisconnect(func(cause *client.DisconnectError) { losses <- cause })
	if err := s.Connect(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.Emit(t.Context(), "kick"); err != nil {
		t.Fatal(err)
	}
	if cause := receive(t, losses); cause.Reason != client.ReasonServerDisconnect || cause.Active() {
		t.Errorf("got %v", cause)
	}
	time.Sleep(50 * time.Millisecond)
	if s.Connected() {
		t.Error("got a client that came back by itself")
	}
	if err := s.Connect(soon(t)); err != nil {
		t.Error(err)
	}
}

func testNamespaces(t *testing.T, url string, o client.Options) {
	s := dial(t, url, &o)
	chat := s.Of("chat", map[string]int{"n": 1})
	defer chat.Close()
	if s.Of("/chat", nil) != chat {
		t.Error("got two sockets for one namespace")
	}
	hello := make(chan map[string]int, 1)
	client.On(chat, "hello", func(_ context.Context, auth map[string]int) error { hello <- auth; return nil })
	if err := chat.Connect(soon(t)); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, hello); got["n"] != 1 {
		t.Errorf("got %v", got)
	}
	if chat.SessionID() != s.SessionID() {
		t.Error("got two sessions, want one")
	}
	secret := s.Of("/secret", nil)
	defer secret.Close()
	if _, ok := errors.AsType[*client.ConnectError](secret.Connect(soon(t))); !ok {
		t.Error("got no ConnectError")
	}
	s.Disconnect()
	if a, err := chat.Ask(soon(t), "echo", 1); err != nil || a.Len() != 1 {
		t.Errorf("got %v, %v, want the other namespace to stay", a, err)
	}
	if err := s.Connect(soon(t)); err != nil {
		t.Fatal(err)
	}
	// Leaving before the answer, and coming back, over one session.
	s.Disconnect()
	ctx, cancel := context.WithCancel(soon(t))
	cancel()
	for range 5 {
		time.Sleep(20 * time.Millisecond) // the official server minds when CONNECT follows DISCONNECT at once
		s.Connect(ctx)
		s.Disconnect()
	}
	time.Sleep(20 * time.Millisecond)
	if err := s.Connect(soon(t)); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Ask(soon(t), "echo", 1); err != nil || a.Len() != 1 {
		t.Errorf("got %v, %v", a, err)
	}
}

// testIdle outlasts several pings.
func testIdle(t *testing.T, url string, o client.Options) {
	s := dial(t, url, &o)
	id := s.ID()
	time.Sleep(1200 * time.Millisecond)
	if s.ID() != id {
		t.Errorf("got id %q, want %q as before", s.ID(), id)
	}
}

func testLimits(t *testing.T, url string, o client.Options) {
	o.MaxBuffer = 3_000_000
	s := make1(t, url, &o)
	if err := s.Emit(t.Context(), "silent", make([]byte, 4_000_000)); !errors.Is(err, client.ErrBufferFull) {
		t.Errorf("got %v, want ErrBufferFull", err)
	}
	if err := s.Connect(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.Emit(t.Context(), "silent", make([]byte, 1_500_000)); !errors.Is(err, client.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	if err := s.Emit(t.Context(), "disconnect"); err == nil {
		t.Error("got no error for a reserved name")
	}
	if a, err := s.Ask(soon(t), "echo", 1); err != nil || a.Len() != 1 {
		t.Errorf("got %v, %v", a, err)
	}
}
