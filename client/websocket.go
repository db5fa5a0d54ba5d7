package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/atollhq/atoll/engine/wire"
)

// A wsConn is a WebSocket as a client has it. One goroutine reads, any may write.
type wsConn struct {
	conn   net.Conn
	early  *bufio.Reader // holds what came right behind the handshake; may be nil
	frames wire.Frames
	buf    []byte // what was read
	rest   []byte // the part of buf that frames has not seen

	mu  sync.Mutex // of writes
	out []byte

	closed sync.Once
}

// dialWebSocket opens a WebSocket for the session with the given id, or for a new one.
//
// See https://socket.io/docs/v4/engine-io-protocol/#websocket
func dialWebSocket(ctx context.Context, cfg *config, sid string) (*wsConn, error) {
	u := cfg.endpoint(WebSocket, sid)
	header := make(http.Header, len(cfg.Header)+1)
	for k, vs := range cfg.Header {
		header[http.CanonicalHeaderKey(k)] = vs
	}
	if cfg.Jar != nil {
		r := http.Request{Header: header}
		for _, c := range cfg.Jar.Cookies(u) {
			r.AddCookie(c)
		}
	}
	header.Del("Host")
	if u.User != nil && header["Authorization"] == nil { // net/http does this for polling
		password, _ := u.User.Password()
		(&http.Request{Header: header}).SetBasicAuth(u.User.Username(), password)
	}
	answer := make(http.Header)
	var refused *StatusError
	d := ws.Dialer{
		NetDial:   cfg.DialContext,
		TLSConfig: cfg.TLS,
		Header:    ws.HandshakeHeaderHTTP(header),
		OnHeader: func(key, value []byte) error {
			if cfg.Jar != nil {
				answer.Add(string(key), string(value))
			}
			return nil
		},
		OnStatusError: func(status int, _ []byte, r io.Reader) {
			refused = &StatusError{Status: status}
			resp, err := http.ReadResponse(bufio.NewReader(r), nil)
			if err != nil {
				return
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(io.LimitReader(resp.Body, 4096)); err == nil {
				refused = statusError(status, body)
			}
		},
	}
	target := *u
	target.Scheme = map[string]string{"http": "ws", "https": "wss"}[u.Scheme]
	conn, early, _, err := d.Dial(ctx, target.String())
	if err != nil {
		if refused != nil {
			return nil, refused
		}
		return nil, err
	}
	if cfg.Jar != nil {
		cfg.Jar.SetCookies(u, (&http.Response{Header: answer}).Cookies())
	}
	if early != nil && early.Buffered() == 0 {
		ws.PutReader(early)
		early = nil
	}
	return &wsConn{conn: conn, early: early, frames: wire.Frames{Max: cfg.MaxRead, Unmasked: true}}, nil
}

// read returns the next packet. Its data is valid until the next call. io.EOF says
// that the server closed in an orderly way.
func (c *wsConn) read() (wire.Packet, error) {
	for {
		f, rest, ok, err := c.frames.Next(c.rest)
		c.rest = rest
		if err != nil {
			return wire.Packet{}, err
		}
		if !ok {
			if err := c.fill(); err != nil {
				return wire.Packet{}, err
			}
			continue
		}
		switch f.Op {
		case wire.OpText:
			return wire.ParsePacket(f.Data)
		case wire.OpBinary:
			return wire.Packet{Type: wire.Message, Binary: true, Data: f.Data}, nil
		case wire.OpPing:
			if err := c.writeFrame(wire.OpPong, f.Data); err != nil {
				return wire.Packet{}, err
			}
		case wire.OpClose:
			c.writeFrame(wire.OpClose, f.Data[:min(len(f.Data), 2)])
			if code, err := wire.CloseCode(f.Data); err != nil || code != wire.CloseNormal && code != wire.CloseAway && code != wire.CloseNoStatus {
				return wire.Packet{}, &closedError{code, string(f.Data[min(len(f.Data), 2):])}
			}
			return wire.Packet{}, io.EOF
		}
	}
}

// A closedError says that the server closed a WebSocket for a reason. It is an io.EOF, too.
type closedError struct {
	code   int
	reason string
}

func (e *closedError) Error() string {
	return fmt.Sprintf("the server closed the WebSocket with code %d %s", e.code, e.reason)
}
func (e *closedError) Is(target error) bool { return target == io.EOF }

// fill reads more of the stream.
func (c *wsConn) fill() error {
	if c.early != nil {
		c.rest = make([]byte, c.early.Buffered())
		_, err := io.ReadFull(c.early, c.rest)
		ws.PutReader(c.early)
		c.early = nil
		return err
	}
	if space := c.frames.Space(); space != nil {
		n, err := c.conn.Read(space)
		c.frames.Filled(n)
		return orUnexpected(n, err)
	}
	if c.buf == nil {
		c.buf = make([]byte, 4096)
	}
	n, err := c.conn.Read(c.buf)
	c.rest = c.buf[:n]
	return orUnexpected(n, err)
}

// orUnexpected makes of the end of a stream, where something came before it, no error yet.
func orUnexpected(n int, err error) error {
	if n > 0 {
		return nil
	}
	return err
}

// first reads the open packet. It ends with ctx.
func (c *wsConn) first(ctx context.Context) (wire.Packet, error) {
	stop := context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })
	p, err := c.read()
	if !stop() {
		return p, context.Cause(ctx)
	}
	return p, err
}

// write writes packets, with one call of the connection's Write unless they are large.
func (c *wsConn) write(ps []wire.Packet) error {
	const keep = 64 << 10
	c.mu.Lock()
	defer c.mu.Unlock()
	buf := c.out[:0]
	for i := range ps {
		p := &ps[i]
		if p.Binary {
			buf = appendMasked(buf, wire.OpBinary, nil, p.Data)
		} else {
			buf = appendMasked(buf, wire.OpText, []byte{byte(p.Type)}, p.Data)
		}
		if len(buf) < keep && i < len(ps)-1 {
			continue
		}
		if _, err := c.conn.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	if cap(buf) <= keep {
		c.out = buf
	} else {
		c.out = nil
	}
	return nil
}

func (c *wsConn) writeFrame(op wire.Op, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.conn.Write(appendMasked(nil, op, nil, data))
	return err
}

// appendMasked appends one masked frame, with head and data as its payload.
//
// See https://www.rfc-editor.org/rfc/rfc6455#section-5.2
func appendMasked(dst []byte, op wire.Op, head, data []byte) []byte {
	const masked = 0x80
	n := len(head) + len(data)
	dst = append(dst, 0x80|byte(op))
	switch {
	case n < 126:
		dst = append(dst, masked|byte(n))
	case n <= 0xffff:
		dst = binary.BigEndian.AppendUint16(append(dst, masked|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, masked|127), uint64(n))
	}
	var mask [4]byte
	binary.LittleEndian.PutUint32(mask[:], rand.Uint32())
	dst = append(dst, mask[:]...)
	start := len(dst)
	dst = append(append(dst, head...), data...)
	ws.Cipher(dst[start:], mask, 0)
	return dst
}

func (c *wsConn) close() { c.closed.Do(func() { c.conn.Close() }) }

// readWebSocket reads until the session ends.
func (s *session) readWebSocket(ws *wsConn) {
	for {
		p, err := ws.read()
		if err != nil {
			if _, ok := errors.AsType[*wire.FrameError](err); ok {
				s.end(ReasonParseError, err)
			} else {
				s.end(ReasonTransportError, err)
			}
			return
		}
		s.receive(p)
	}
}
