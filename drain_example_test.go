package atoll_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/atolltest"
	"github.com/atollhq/atoll/client"
)

// A node is emptied. Its clients are not disconnected from their namespaces: their connection ends, so they
// connect anew by themselves, and the balancer sends them elsewhere.
func ExampleServer_Drain() {
	run(func(t testing.TB) {
		srv := atoll.NewServer(&atoll.Options{Logger: slog.New(slog.DiscardHandler)})
		gone := make(chan struct{})
		srv.Of("/").OnDisconnect(func(_ *atoll.Socket, cause *atoll.DisconnectError) {
			fmt.Println("server:", cause.Reason, "because of a drain:", errors.Is(cause, atoll.ErrDrain))
			close(gone)
		})
		sock := atolltest.Serve(t, srv).New(t, "/", &client.Options{DisableReconnect: true})
		away := make(chan string, 1)
		sock.OnDisconnect(func(cause *client.DisconnectError) { away <- cause.Reason })
		if err := sock.Connect(t.Context()); err != nil {
			panic(err)
		}

		err := srv.Drain(t.Context(), &atoll.DrainOptions{Lead: -1, Window: time.Minute})
		<-gone
		fmt.Println("client:", <-away)
		fmt.Println(err, srv.Stats().Drain.State)
	})
	// Output:
	// server: server shutting down because of a drain: true
	// client: transport close
	// <nil> drained
}

// The main function of a node. At SIGTERM its health is 503, its clients go elsewhere, and then it ends.
func ExampleServer_Serve() {
	// ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// context.AfterFunc(ctx, stop) // a second signal ends the program at once
	ctx, stop := context.WithCancel(context.Background())

	srv := atoll.NewServer(&atoll.Options{
		Drain:  &atoll.DrainOptions{Lead: time.Millisecond, Window: 10 * time.Second},
		Logger: slog.New(slog.DiscardHandler),
	})
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", srv)
	mux.Handle("/health", srv.Health())

	l, err := net.Listen("tcp", "127.0.0.1:0") // or nil for Serve, with http.Server.Addr
	if err != nil {
		panic(err)
	}
	time.AfterFunc(10*time.Millisecond, stop) // as the signal would
	err = srv.Serve(ctx, &http.Server{Handler: mux}, l)
	fmt.Println("ended:", err)
	// node.Close(), and then what carries the cluster
	// Output: ended: <nil>
}
