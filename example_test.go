package atoll_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/membus"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/event"
)

// Events of a chat. In a program they stand in a package that servers, clients and
// emitters import.
const (
	said   event.Name[message]          = "said"
	signIn event.Request[string, int64] = "sign in"
)

type message struct {
	From, Text string
}

// chat sets the handlers of the chat.
func chat(_ string, srv *atoll.Server) {
	room := srv.Of("/chat")
	room.Use(func(_ context.Context, s *atoll.Socket) error {
		var auth struct{ Token string }
		if err := s.Auth(&auth); err != nil || auth.Token != "let me in" {
			return &atoll.ConnectError{Message: "who are you?"}
		}
		return nil
	})
	room.OnConnect(func(_ context.Context, s *atoll.Socket) error {
		s.Join("lobby")
		return nil
	})
	atoll.On(room, said, func(ctx context.Context, s *atoll.Socket, m message) error {
		return said.Emit(ctx, s.To("lobby"), m)
	})
	atoll.Answer(room, signIn, func(_ context.Context, s *atoll.Socket, name string) (int64, error) {
		s.SetData(name)
		return int64(len(name)), nil
	})
}

// run runs an example as a test would run.
func run(f func(t testing.TB)) {
	t := &exampleT{}
	f(t)
	t.end()
}

// An exampleT is what package atolltest needs of a test.
type exampleT struct {
	testing.TB
	ctx     context.Context
	cancel  context.CancelFunc
	cleanup []func()
}

func (t *exampleT) Helper()                   {}
func (t *exampleT) Cleanup(f func())          { t.cleanup = append(t.cleanup, f) }
func (t *exampleT) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (t *exampleT) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (t *exampleT) Context() context.Context {
	if t.ctx == nil {
		t.ctx, t.cancel = context.WithCancel(context.Background())
	}
	return t.ctx
}

func (t *exampleT) end() {
	if t.cancel != nil {
		t.cancel()
	}
	for i := len(t.cleanup) - 1; i >= 0; i-- {
		t.cleanup[i]()
	}
}

// A chat on two nodes: what a client of one says, a client of the other hears.
func Example() {
	run(func(t testing.TB) {
		ctx := t.Context()
		nodes := atolltest.Cluster(t, new(membus.Hub), 2, chat)
		token := &client.Options{Auth: map[string]string{"token": "let me in"}}

		bob := nodes[1].New(t, "/chat", token)
		heard := make(chan message)
		client.On(bob, said, func(_ context.Context, m message) error { heard <- m; return nil })
		if err := bob.Connect(ctx); err != nil {
			fmt.Println(err)
			return
		}

		ada := nodes[0].Dial(t, "/chat", token)
		n, err := signIn.Ask(ctx, ada, "ada")
		fmt.Println(n, err)
		if err := said.Emit(ctx, ada, message{"ada", "hello"}); err != nil {
			fmt.Println(err)
		}
		fmt.Println(<-heard)

		fmt.Println(nodes[0].New(t, "/chat", nil).Connect(ctx))
	})
	// Output:
	// 3 <nil>
	// {ada hello}
	// client: the server refuses the namespace /chat: who are you?
}

// AskAll collects the acks of all clients, wherever they are.
func ExampleTarget_AskAll() {
	const ready event.Request[event.None, bool] = "ready?"
	run(func(t testing.TB) {
		nodes := atolltest.Cluster(t, new(membus.Hub), 3, nil)
		for _, n := range nodes {
			sock := n.New(t, "/", nil)
			client.Answer(sock, ready, func(context.Context, event.None) (bool, error) { return true, nil })
			if err := sock.Connect(t.Context()); err != nil {
				fmt.Println(err)
				return
			}
		}
		for yes, err := range ready.AskAll(t.Context(), nodes[0].Of("/"), event.None{}) {
			if err != nil {
				fmt.Println("not all answered:", err)
				break
			}
			fmt.Println(yes)
		}
	})
	// Output:
	// true
	// true
	// true
}

// Handle is the door below On and Answer: arguments as they came, and an ack in the
// handler's own time.
func ExampleNamespace_Handle() {
	run(func(t testing.TB) {
		srv := atoll.NewServer(nil)
		srv.Of("/").Handle("echo", func(_ context.Context, _ *atoll.Socket, e *atoll.Event) error {
			return e.Reply(e.Args)
		})
		sock := atolltest.Serve(t, srv).Dial(t, "/", nil)
		reply, err := sock.Ask(t.Context(), "echo", 1, "two", []int{3})
		fmt.Println(reply, err)
	})
	// Output: [1,"two",[3]] <nil>
}
