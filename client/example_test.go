package client_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/client"
	"github.com/atollhq/atoll/event"
)

// A program asks a server, and hears what the server says by itself.
func Example() {
	const (
		news   event.Name[string]         = "news"
		length event.Request[string, int] = "length"
	)
	srv := atoll.NewServer(nil)
	srv.Of("/").OnConnect(func(ctx context.Context, s *atoll.Socket) error { return news.Emit(ctx, s, "welcome") })
	atoll.Answer(srv.Of("/"), length, func(_ context.Context, _ *atoll.Socket, word string) (int, error) { return len(word), nil })
	web := httptest.NewServer(srv)
	defer web.Close()
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	sock, err := client.New(web.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sock.Close()
	heard := make(chan string, 1)
	client.On(sock, news, func(_ context.Context, text string) error { heard <- text; return nil }) // before Connect: nothing is missed
	if err := sock.Connect(ctx); err != nil {
		fmt.Println(err) // a *client.ConnectError says why a server refused
		return
	}
	fmt.Println(<-heard)
	fmt.Println(length.Ask(ctx, sock, "atoll"))
	// Output:
	// welcome
	// 5 <nil>
}
