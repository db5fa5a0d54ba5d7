package sticky

import (
	"fmt"
	"time"
)

// Front says what [Balancer.Serve] allows clients to do. What goes beyond is answered with the
// status given here, and the connection is closed.
type Front struct {
	// ProxyProtocol makes each connection begin with a header of the PROXY protocol, version 1 or
	// 2, which tells the client's address. It is taken from Options.TrustedProxies only;
	// connections of others, and those without a proper header, are closed, and the log says so.
	ProxyProtocol bool
	// HeaderTimeout bounds how long the head of a request takes from its first byte on (408), and a
	// new connection to send one and to finish its TLS handshake. Like all here, it acts up to a second late. If zero, 10 seconds.
	HeaderTimeout time.Duration
	// IdleTimeout is how long a connection is kept without a request. If zero, 2 minutes.
	IdleTimeout time.Duration
	// MaxRequestLine bounds the first line of a request in bytes (414). If zero, 8 KiB.
	MaxRequestLine int
	// MaxHeaderBytes bounds the head of a request, its first line included, in bytes (431). If
	// zero, 32 KiB. The most is 1 MiB.
	MaxHeaderBytes int
	// MaxHeaders bounds the number of header lines (431). If zero, 100.
	MaxHeaders int
	// MaxBody bounds the body of a request in bytes (413). If zero, there is no limit but that of the nodes.
	MaxBody int64
	// WebSocketIdle is how long a WebSocket may carry nothing either way before it is cut; it acts after up to twice
	// that. If zero, there is no limit: the heartbeat of the nodes finds who is gone.
	WebSocketIdle time.Duration
	// MaxConns bounds the connections of all clients (503). If zero, there is no limit.
	MaxConns int
	// MaxConnsPerAddress bounds the connections of one client address, for IPv6 of one /64
	// (503). If zero, there is no limit.
	MaxConnsPerAddress int
	// H2C allows HTTP/2 without TLS to clients that begin with its preface.
	H2C bool
}

// fill puts the defaults in place.
func (f *Front) fill() error {
	f.HeaderTimeout = orElse(f.HeaderTimeout, 10*time.Second)
	f.IdleTimeout = orElse(f.IdleTimeout, 2*time.Minute)
	f.MaxRequestLine = orElse(f.MaxRequestLine, 8<<10)
	f.MaxHeaderBytes = orElse(f.MaxHeaderBytes, 32<<10)
	f.MaxHeaders = orElse(f.MaxHeaders, 100)
	for _, c := range []struct {
		name string
		bad  bool
	}{
		{"HeaderTimeout", f.HeaderTimeout < 0}, {"IdleTimeout", f.IdleTimeout < 0},
		{"MaxRequestLine", f.MaxRequestLine < 0}, {"MaxHeaderBytes", f.MaxHeaderBytes < 0 || f.MaxHeaderBytes > 1<<20},
		{"MaxHeaders", f.MaxHeaders < 0}, {"MaxBody", f.MaxBody < 0}, {"WebSocketIdle", f.WebSocketIdle < 0},
		{"MaxConns", f.MaxConns < 0}, {"MaxConnsPerAddress", f.MaxConnsPerAddress < 0},
	} {
		if c.bad {
			return fmt.Errorf("sticky: Front.%s is out of range", c.name)
		}
	}
	return nil
}
