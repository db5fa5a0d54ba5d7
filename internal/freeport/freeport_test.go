package freeport

import (
	"net"
	"strconv"
	"testing"
)

func TestGet(t *testing.T) {
	seen := make(map[int]bool)
	for range 100 {
		port, err := Get()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] || port < first || port >= first+count {
			t.Errorf("got port %d, want another each time, from %d to %d", port, first, first+count-1)
		}
		seen[port] = true
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Errorf("got port %d, want one that is free: %v", port, err)
			continue
		}
		l.Close()
	}
}
