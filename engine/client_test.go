package engine

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/atollhq/atoll/engine/wire"
)

// A wsClient is the client's end of a WebSocket.
type wsClient struct {
	testing.TB
	net.Conn
	r *bufio.Reader
	f wire.Frames
	b []byte
}

const wsRequest = "Host: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// ws opens a WebSocket; the session is a new one if sid is empty.
func (g *rig) ws(sid string, more ...byte) *wsClient {
	g.Helper()
	k, res := g.tryWS(sid, "", more...)
	if res.StatusCode != 101 {
		g.Fatalf("WebSocket: got status %d, want 101", res.StatusCode)
	}
	if got, want := res.Header.Get("Sec-Websocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; got != want {
		g.Fatalf("Sec-WebSocket-Accept: got %q, want %q", got, want)
	}
	return k
}

// tryWS asks for a WebSocket with more headers, and sends more behind the request.
func (g *rig) tryWS(sid, headers string, more ...byte) (*wsClient, *http.Response) {
	g.Helper()
	conn, err := g.dial()
	if err != nil {
		g.Fatal(err)
	}
	query := "EIO=4&transport=websocket"
	if sid != "" {
		query += "&sid=" + sid
	}
	req := fmt.Sprintf("GET /engine.io/?"+query+" HTTP/1.1\r\n"+wsRequest+headers+"\r\n", g.host)
	wrote := make(chan error, 1)
	go func() {
		_, err := conn.Write(append([]byte(req), more...))
		wrote <- err
	}()
	k := &wsClient{TB: g.TB, Conn: conn, r: bufio.NewReader(conn), f: wire.Frames{Unmasked: true}}
	g.Cleanup(func() { conn.Close() })
	res, err := http.ReadResponse(k.r, nil)
	if err != nil {
		g.Fatal(err)
	}
	if err := <-wrote; err != nil {
		g.Fatal(err)
	}
	return k, res
}

// openWS opens a session over WebSocket and takes the open packet off.
func (g *rig) openWS() *wsClient {
	g.Helper()
	k := g.ws("")
	if got := k.next(); !strings.HasPrefix(got, `0{"sid":"`) {
		g.Fatalf("got %q, want an open packet", got)
	}
	return k
}

// frame reads the next frame.
func (k *wsClient) frame() (wire.Frame, error) {
	for {
		f, rest, ok, err := k.f.Next(k.b)
		k.b = rest
		if ok || err != nil {
			return f, err
		}
		b := make([]byte, 4096)
		n, err := k.r.Read(b)
		if n == 0 && err != nil {
			return f, err
		}
		k.b = b[:n]
	}
}

// next reads the next message as text, with "b:" before a binary one. Control frames are
// "ping:…", "pong:…", "close:CODE", and the end of the connection is "EOF".
func (k *wsClient) next() string {
	f, err := k.frame()
	if err != nil {
		return "EOF"
	}
	switch f.Op {
	case wire.OpBinary:
		return "b:" + string(f.Data)
	case wire.OpPing:
		return "ping:" + string(f.Data)
	case wire.OpPong:
		return "pong:" + string(f.Data)
	case wire.OpClose:
		code, err := wire.CloseCode(f.Data)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint("close:", code)
	}
	return string(f.Data)
}

func (k *wsClient) want(want ...string) {
	k.Helper()
	for _, w := range want {
		if got := k.next(); got != w {
			k.Fatalf("got %.80q, want %.80q", got, w)
		}
	}
}

// masked makes a frame of a client.
func masked(first byte, data string) []byte {
	b := []byte{first}
	switch n := len(data); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	default:
		b = append(b, 0x80|127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	key := [4]byte{1, 2, 3, 4}
	b = append(b, key[:]...)
	for i := range len(data) {
		b = append(b, data[i]^key[i%4])
	}
	return b
}

// send sends text messages, in one write.
func (k *wsClient) send(texts ...string) {
	k.Helper()
	var b []byte
	for _, s := range texts {
		b = append(b, masked(0x81, s)...)
	}
	k.write(b)
}

func (k *wsClient) write(b []byte) {
	k.Helper()
	if _, err := k.Conn.Write(b); err != nil {
		k.Fatal(err)
	}
}

// response reads the answer to a request that was written by hand.
func (k *wsClient) response() *http.Response {
	k.Helper()
	k.r = bufio.NewReader(k.Conn)
	res, err := http.ReadResponse(k.r, nil)
	if err != nil {
		k.Fatal(err)
	}
	return res
}
