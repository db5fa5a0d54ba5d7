package engine

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/atollhq/atoll/engine/wire"
)

// hijack takes the connection from net/http, with what it has read of it already.
func (s *Server) hijack(c *Conn, w http.ResponseWriter) (*socket, error) {
	conn, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	k := &socket{c: c, conn: conn}
	k.frames.Max = s.o.MaxPayload
	k.early = buffered(brw.Reader)
	k.setRaw()
	return k, nil
}

// buffered returns a copy of what r has read ahead, so that r can go.
func buffered(r *bufio.Reader) []byte {
	if r.Buffered() == 0 {
		return nil
	}
	b, _ := r.Peek(r.Buffered())
	return append([]byte(nil), b...)
}

// accept writes the answer to the request for a WebSocket, and behind it what more holds. It waits
// for the client, but not longer than an upgrade may take.
func (k *socket) accept(w http.ResponseWriter, r *http.Request, more func(b []byte) []byte) error {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	b := make([]byte, 0, 512)
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	b = base64.StdEncoding.AppendEncode(b, sum[:])
	b = append(b, '\r', '\n')
	for name, values := range w.Header() {
		for _, v := range values {
			b = append(b, name+": "+headerSafe(v)+"\r\n"...)
		}
	}
	b = append(b, '\r', '\n')
	if more != nil {
		b = more(b)
	}
	k.conn.SetWriteDeadline(time.Now().Add(k.c.srv.o.UpgradeTimeout))
	_, err := k.conn.Write(b)
	if err == nil {
		err = k.conn.SetWriteDeadline(time.Time{})
	}
	return err
}

// headerSafe takes out of a header value what would end its line.
func headerSafe(v string) string {
	for i := range len(v) {
		if v[i] == '\r' || v[i] == '\n' {
			return v[:i]
		}
	}
	return v
}

// openSocket opens a session over WebSocket.
func (s *Server) openSocket(c *Conn, w http.ResponseWriter, r *http.Request) {
	k, err := s.hijack(c, w)
	if err != nil {
		c.unopened(err)
		s.refuse(w, ErrBadRequest, "this connection cannot become a WebSocket")
		return
	}
	c.mu.Lock()
	o := c.out
	c.out, c.queued = nil, 0
	c.writing = true // nobody writes before the answer
	c.mu.Unlock()
	if !c.begin(k) {
		k.conn.Close()
		return
	}
	s.websockets.Add(1)
	err = k.accept(w, r, func(b []byte) []byte {
		for i := range o.ps {
			b = appendFrame(b, &o.ps[i])
		}
		return b
	})
	s.packetsOut.Add(uint64(len(o.ps)))
	o.free()
	if err != nil {
		c.cut(&CloseError{Reason: ReasonTransportClose, Err: err}, nil)
		return
	}
	s.group.Go(func() { k.serve(&run{ws: k}) })
	if k.raw != nil {
		c.write()
	} else {
		s.group.Go(func() { c.writeApart(nil) })
	}
}

// unopened ends a session whose handler exists, but which never opened.
func (c *Conn) unopened(err error) {
	e := &CloseError{Reason: ReasonTransportError, Err: err}
	c.cut(e, nil)
	c.notify(e)
}

// serveUpgrade begins to change a session from polling to WebSocket.
//
// See https://socket.io/docs/v4/engine-io-protocol/#upgrade
func (s *Server) serveUpgrade(c *Conn, w http.ResponseWriter, r *http.Request) {
	if text := checkKey(r); text != "" || r.Method != http.MethodGet || s.o.DisableUpgrade {
		c.unclaim()
		s.refuse(w, ErrBadRequest, text)
		return
	}
	k, err := s.hijack(c, w)
	if err != nil {
		c.unclaim()
		s.refuse(w, ErrBadRequest, "this connection cannot become a WebSocket")
		return
	}
	k.probing = true
	c.mu.Lock()
	c.claimed()
	st := c.state.Load()
	mine := (st == open || st == closing) && c.ws == nil && c.probe == nil // one that is being adopted is not to be changed yet
	if mine {
		c.probe, c.nudges = k, 0
	}
	c.mu.Unlock()
	if mine {
		c.settleHold()
	} else { // as the official server: accepted, then closed
		err := k.accept(w, r, func(b []byte) []byte { return wire.AppendClose(b, wire.ClosePolicy, "") })
		if err != nil {
			k.conn.Close()
			return
		}
		s.group.Go(k.linger)
		return
	}
	if err := k.accept(w, r, nil); err != nil {
		k.err = err
		k.finish()
		return
	}
	k.conn.SetReadDeadline(time.Now().Add(s.o.UpgradeTimeout))
	s.group.Go(func() { k.serve(&run{ws: k}) })
}
