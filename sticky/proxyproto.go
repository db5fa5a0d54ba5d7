package sticky

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/pires/go-proxyproto"
)

// open does what comes before the first request: the PROXY protocol and TLS. It reports false when the connection is over,
// or given away.
func (c *client) open() bool {
	f := c.f
	c.remote = addrOf(c.RemoteAddr())
	var prefix []byte
	if f.l.o.Front.ProxyProtocol {
		var ok bool
		if prefix, ok = c.proxied(); !ok {
			return false
		}
	}
	if a := c.remote.Addr(); !f.seat(a) {
		c.tooMany()
		return false
	} else if f.l.o.Front.MaxConnsPerAddress > 0 {
		c.seated = a
	}
	if c.conf != nil {
		seated := c.seated
		c.below = true
		g := &guest{Conn: c.Conn, prefix: prefix, remote: c.addr(), free: func() { f.vacate(seated) }}
		prefix = nil
		c.secured(tls.Server(g, c.conf))
	}
	if t, ok := c.Conn.(*tls.Conn); ok {
		c.secure = true
		ctx, cancel := context.WithTimeout(f.ctx, f.l.o.Front.HeaderTimeout)
		defer cancel()
		if t.HandshakeContext(ctx) != nil {
			return false
		}
		if t.ConnectionState().NegotiatedProtocol == "h2" {
			c.give()
			return false
		}
	}
	if len(prefix) > 0 {
		c.buf = buffers.Get()
		c.w = copy(c.buf, prefix)
	}
	return true
}

// secured puts TLS above the connection.
func (c *client) secured(t *tls.Conn) {
	c.deadline.Lock() // see finish
	defer c.deadline.Unlock()
	c.Conn, c.raw = t, nil
}

var headers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

// proxied reads the header of the PROXY protocol, and returns what was read behind it.
func (c *client) proxied() (rest []byte, ok bool) {
	f := c.f
	if !f.l.trusts(c.remote.Addr()) {
		f.say("sticky: a connection was refused: the PROXY protocol is on, and the peer is none of the TrustedProxies", "peer", c.RemoteAddr())
		return nil, false
	}
	br := headers.Get().(*bufio.Reader)
	defer headers.Put(br)
	br.Reset(c.Conn)
	defer br.Reset(nil)
	h, err := proxyproto.Read(br)
	if err != nil {
		f.say("sticky: a connection was refused: it does not begin with a proper header of the PROXY protocol", "peer", c.RemoteAddr(), "err", err)
		return nil, false
	}
	if h.Command.IsProxy() {
		src, ok := h.SourceAddr.(*net.TCPAddr)
		if !ok {
			f.say("sticky: a connection was refused: its PROXY header tells no TCP address", "peer", c.RemoteAddr())
			return nil, false
		}
		p := src.AddrPort()
		c.remote = netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	rest, _ = br.Peek(br.Buffered())
	return slices.Clone(rest), true
}
