// Command benchserver is a Socket.IO server for load generators: it listens on
// 127.0.0.1:$PORT, joins others through $REDIS_URL where that is set, and handles four events.
//
//	echo  ...args, ack    acks with the arguments
//	bcast ...args         emits the same to everyone
//	join  room, ack       joins the sender to the room, then acks
//	room  room, ...args   emits "room" with the arguments to the room
//
// It uses the defaults of the library and ends on SIGTERM.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/event"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	var o atoll.Options
	if url := os.Getenv("REDIS_URL"); url != "" {
		node, done, err := join(ctx, url)
		if err != nil {
			return err
		}
		defer done()
		o.Cluster = node
	}
	srv := atoll.NewServer(&o)
	serve(srv.Of("/"))

	mux := http.NewServeMux()
	mux.Handle("/socket.io/", srv)
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		return err
	}
	hs := &http.Server{Handler: mux}
	failed := make(chan error, 1)
	go func() { failed <- hs.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(srv.Shutdown(ctx), hs.Shutdown(ctx))
}

func join(ctx context.Context, url string) (*cluster.Node, func(), error) {
	ro, err := rueidis.ParseURL(url)
	if err != nil {
		return nil, nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	client, err := rueidis.NewClient(ro)
	if err != nil {
		return nil, nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	node, err := cluster.Join(ctx, redisbus.New(client, nil), nil)
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	return node, func() { node.Close(); client.Close() }, nil
}

func serve(ns *atoll.Namespace) {
	ns.Handle("echo", func(_ context.Context, _ *atoll.Socket, e *atoll.Event) error {
		return e.Reply(e.Args)
	})
	ns.Handle("bcast", func(ctx context.Context, _ *atoll.Socket, e *atoll.Event) error {
		return ns.Emit(ctx, "bcast", e.Args)
	})
	ns.Handle("join", func(_ context.Context, s *atoll.Socket, e *atoll.Event) error {
		var room string
		if err := e.Args.Decode(0, &room); err != nil {
			return err
		}
		s.Join(room)
		return e.Reply()
	})
	ns.Handle("room", func(ctx context.Context, _ *atoll.Socket, e *atoll.Event) error {
		var room string
		var rest event.Args
		if err := e.Args.DecodeAll(&room, &rest); err != nil {
			return err
		}
		return ns.To(room).Emit(ctx, "room", rest)
	})
}
