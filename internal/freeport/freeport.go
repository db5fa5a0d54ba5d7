// Package freeport finds ports of the loopback for the servers that tests start.
package freeport

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The ports are below those that systems give to outgoing connections, and to who listens on port 0. So one is still free when a
// server that was killed wants it again, though hundreds of connections were made meanwhile.
const (
	first = 12_000
	count = 20_000
)

var given sync.Map // ports that Get has returned

// Get returns a port of 127.0.0.1 that nobody listens on, and none twice. Any number of goroutines may call it.
func Get() (int, error) {
	for range 1000 {
		port := first + rand.IntN(count)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		l.Close()
		if _, twice := given.LoadOrStore(port, true); !twice {
			return port, nil
		}
	}
	return 0, errors.New("freeport: no port is free")
}
