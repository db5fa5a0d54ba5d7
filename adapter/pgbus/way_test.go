//go:build unix

package pgbus

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// withoutNotifications is a way to a server on which no notification arrives.
func withoutNotifications(t *testing.T, addr string) string {
	return through(t, addr, func(s, c net.Conn) { io.Copy(s, c) }, func(c, s net.Conn) {
		filter(c, s, func(kind byte) bool { return kind != 'A' })
	})
}

// counting is a way to a server on which queries are counted.
func counting(t *testing.T, addr string, count *atomic.Int64) string {
	return through(t, addr, func(s, c net.Conn) {
		var size [4]byte // the first message has no kind
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		s.Write(size[:])
		io.CopyN(s, c, int64(binary.BigEndian.Uint32(size[:]))-4)
		filter(s, c, func(kind byte) bool {
			if kind == 'Q' || kind == 'S' { // a simple query, or the end of others
				count.Add(1)
			}
			return true
		})
	}, func(c, s net.Conn) { io.Copy(c, s) })
}

// through listens, and passes on what comes, in both directions.
func through(t *testing.T, addr string, up, down func(to, from net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", addr)
			if err != nil {
				c.Close()
				return
			}
			wg.Go(func() { up(s, c); s.Close() })
			wg.Go(func() { down(c, s); c.Close() })
		}
	})
	return l.Addr().String()
}

// filter passes on the messages whose kind is kept.
//
// See https://www.postgresql.org/docs/current/protocol-message-formats.html
func filter(w io.Writer, r io.Reader, keep func(kind byte) bool) {
	var head [5]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		if !keep(head[0]) {
			continue
		}
		if _, err := w.Write(append(head[:], body...)); err != nil {
			return
		}
	}
}
