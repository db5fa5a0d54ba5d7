// Command suite serves what the official Engine.IO protocol test suite expects at
// http://localhost:3000/engine.io/: an echo, with short pings. The argument, if any, is the address.
package main

import (
	"log"
	"net/http"
	"os"
	"time"

	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/engine/wire"
)

type echo struct{ c *engine.Conn }

func (e echo) Message(data []byte, binary bool) {
	buf := append(make([]byte, wire.Headroom, wire.Headroom+len(data)), data...)
	e.c.Send(wire.Seal(buf, binary))
}
func (echo) Flush()       {}
func (echo) Closed(error) {}

func main() {
	addr := "localhost:3000"
	if len(os.Args) > 1 {
		addr = os.Args[1]
	}
	s := engine.NewServer(func(c *engine.Conn) (engine.Handler, error) { return echo{c}, nil }, &engine.Options{
		PingInterval: 300 * time.Millisecond,
		PingTimeout:  200 * time.Millisecond,
		MaxPayload:   1e6,
	})
	http.Handle("/engine.io/", s)
	log.Fatal(http.ListenAndServe(addr, nil))
}
