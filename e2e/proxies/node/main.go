// Command node is an Atoll node for tests behind proxies. It joins the cluster that -prefix names on the Redis at -redis,
// prints a line when it listens, and ends when its standard input does.
//
//	echo ...args, ack     acks with the arguments
//	join room, ack        joins the sender to the room, then acks
//	tell room, ...args    emits "told" with the arguments to the room, on all nodes
//	where ack             acks with the name of the node, and the X-Forwarded-For of the handshake
//
// GET /seen?name=NAME tells how many requests with name=NAME in their query came here, and how many of them had the cookie io.
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
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
)

// settings are what the flags say.
type settings struct {
	id, addr, redis, prefix string
	origins                 string
	official, cookie        bool
	ping                    time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.id, "id", "", "id and name of the node")
	flag.StringVar(&s.addr, "addr", "127.0.0.1:0", "address to listen on")
	flag.StringVar(&s.redis, "redis", "", "address of a Redis")
	flag.StringVar(&s.prefix, "prefix", "", "name of the cluster")
	flag.BoolVar(&s.official, "official", false, "speak the official format, for Node.js nodes in the cluster")
	flag.BoolVar(&s.cookie, "cookie", false, "set the cookie io")
	flag.StringVar(&s.origins, "origins", "", "origins whose pages may come, with cookies; a comma between two")
	flag.DurationVar(&s.ping, "ping", 0, "pause between two pings")
	flag.Parse()
	if err := s.run(); err != nil {
		log.Fatal(err)
	}
}

func (s *settings) run() (err error) {
	rdb, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.redis}, DisableCache: true})
	if err != nil {
		return err
	}
	defer rdb.Close()
	open := redisbus.NewNative
	if s.official {
		open = redisbus.New
	}
	bus := open(rdb, &redisbus.Options{Prefix: s.prefix})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	node, err := cluster.Join(ctx, bus, &cluster.Options{ID: s.id, Name: s.id})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()

	o := &atoll.Options{Cluster: node}
	o.Engine.MaxPayload = 2_000_000
	o.Engine.PingInterval = s.ping
	if s.cookie {
		o.Engine.Cookie = &http.Cookie{}
	}
	if s.origins != "" {
		o.Engine.CORS = &engine.CORS{Origins: strings.Split(s.origins, ","), Credentials: true}
	}
	srv := atoll.NewServer(o)
	serve(srv.Of("/"), s.id)
	mux := http.NewServeMux()
	var c counter
	mux.Handle("/socket.io/", c.count(srv))
	mux.Handle("/health", srv.Health())
	mux.HandleFunc("/seen", c.tell)
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	hs := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // its end is the message
		_ = srv.Close()
		_ = hs.Close()
	}()
	fmt.Println("listening on", l.Addr())
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
	ns.Handle("tell", func(ctx context.Context, _ *atoll.Socket, e *atoll.Event) error {
		var room string
		var rest event.Args
		if err := e.Args.DecodeAll(&room, &rest); err != nil {
			return err
		}
		return ns.To(room).Emit(ctx, "told", rest)
	})
	ns.Handle("where", func(_ context.Context, s *atoll.Socket, e *atoll.Event) error {
		return e.Reply(map[string]string{
			"node": name, "from": strings.Join(s.Handshake().Header.Values("X-Forwarded-For"), ", "),
		})
	})
}
