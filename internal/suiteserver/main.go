// Command suiteserver is the server that the official protocol suites of Engine.IO v4
// (-engine) and Socket.IO v5 run against: on 127.0.0.1:3000, with a heartbeat of
// 300 and 200 milliseconds. It ends on SIGTERM, or when its standard input does.
package main

import (
	"context"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/engine/wire"
	"github.com/atollhq/atoll/event"
)

var options = engine.Options{PingInterval: 300 * time.Millisecond, PingTimeout: 200 * time.Millisecond, MaxPayload: 1_000_000}

func main() {
	onlyEngine := flag.Bool("engine", false, "echo Engine.IO messages instead of serving Socket.IO")
	addr := flag.String("addr", "127.0.0.1:3000", "address to listen on")
	flag.Parse()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	mux := http.NewServeMux()
	if *onlyEngine {
		mux.Handle("/engine.io/", engine.NewServer(accept, &options))
	} else {
		mux.Handle("/socket.io/", socketio())
	}
	log.Fatal(http.ListenAndServe(*addr, mux))
}

// An echo sends back what comes.
type echo struct{ conn *engine.Conn }

func accept(c *engine.Conn) (engine.Handler, error) { return echo{c}, nil }

func (e echo) Message(data []byte, binary bool) {
	buf := append(make([]byte, wire.Headroom, wire.Headroom+len(data)), data...)
	_ = e.conn.Send(wire.Seal(buf, binary)) // the session ends, if it cannot be sent
}

func (e echo) Flush()       {}
func (e echo) Closed(error) {}

func socketio() http.Handler {
	srv := atoll.NewServer(&atoll.Options{Engine: options})
	for _, ns := range []*atoll.Namespace{srv.Of("/"), srv.Of("/custom")} {
		ns.OnConnect(func(ctx context.Context, s *atoll.Socket) error {
			var auth event.Args
			if err := s.Auth(&auth); err != nil {
				return err
			}
			if auth.Len() == 0 {
				return s.Emit(ctx, "auth", struct{}{})
			}
			return s.Emit(ctx, "auth", auth)
		})
		ns.Handle("message", func(ctx context.Context, s *atoll.Socket, e *atoll.Event) error {
			return s.Emit(ctx, "message-back", e.Args)
		})
		ns.Handle("message-with-ack", func(_ context.Context, _ *atoll.Socket, e *atoll.Event) error {
			return e.Reply(e.Args)
		})
	}
	return srv
}
