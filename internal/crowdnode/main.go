// Command crowdnode is a node for tests with many clients: it joins the embedded cluster
// named by -cluster, listens on a free port of loopback, prints its address in a line,
// and ends when its standard input does.
//
//	echo ...args, ack     acks with the arguments
//	join room, ack        joins the sender to the room, then acks
//	room room, ...args    emits "room" with the arguments to the room, on all nodes
//	bcast ...args         emits "bcast" with the arguments to everyone
//	where ack             acks with the name of the node
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/natsbus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
)

func main() {
	name := flag.String("name", "", "name of the node")
	group := flag.String("cluster", "crowd", "name of the cluster")
	payload := flag.Int("max-payload", 2_000_000, "largest message of a client in bytes")
	flag.Parse()
	if err := run(*name, *group, *payload); err != nil {
		log.Fatal(err)
	}
}

func run(name, group string, payload int) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	embedded, err := natsbus.Embed(ctx, &natsbus.EmbedOptions{Cluster: group})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, embedded.Close()) }()
	node, err := cluster.Join(ctx, embedded.Bus(), &cluster.Options{Name: name})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()

	srv := atoll.NewServer(&atoll.Options{Cluster: node, Engine: engine.Options{MaxPayload: payload}})
	serve(srv.Of("/"), name)
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", srv)
	mux.Handle("/health", srv.Health())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	hs := &http.Server{Handler: mux}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // its end is the message
		_ = srv.Close()
		_ = hs.Close()
	}()
	if err := hs.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func serve(ns *atoll.Namespace, name string) {
	ns.Handle("echo", func(_ context.Context, _ *atoll.Socket, e *atoll.Event) error {
		return e.Reply(e.Args)
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
	ns.Handle("bcast", func(ctx context.Context, _ *atoll.Socket, e *atoll.Event) error {
		return ns.Emit(ctx, "bcast", e.Args)
	})
	ns.Handle("where", func(_ context.Context, _ *atoll.Socket, e *atoll.Event) error {
		return e.Reply(name)
	})
}
