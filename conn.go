package atoll

import (
	"sync"
	"time"

	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/protocol"
)

// A conn is what the server keeps for one Engine.IO session: the sockets on it, one
// for each namespace, and those of them that have something to handle.
type conn struct {
	srv     *Server
	eng     *engine.Conn
	decoder protocol.Decoder // of the reader alone

	mu     sync.Mutex
	one    *Socket            // the sockets, by namespace: most clients have one
	more   map[string]*Socket // all, where there are several
	ready  []*Socket          // have a filled inbox and no runner
	closed bool
	joined bool        // was ever in a namespace
	idle   *time.Timer // ends a session that is in no namespace
}

func (c *conn) socket(nsp string) *Socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(nsp)
}

// find returns the socket in a namespace. c.mu is held.
func (c *conn) find(nsp string) *Socket {
	if c.one != nil && c.one.ns.name == nsp {
		return c.one
	}
	return c.more[nsp]
}

// put adds a socket; it reports false where the session is closed or has one there already.
func (c *conn) put(s *Socket) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.find(s.ns.name) != nil {
		return false
	}
	c.joined = true
	c.stopIdle()
	switch {
	case c.one == nil && len(c.more) == 0:
		c.one = s
		return true
	case c.one != nil:
		c.more = map[string]*Socket{c.one.ns.name: c.one}
		c.one = nil
	}
	c.more[s.ns.name] = s
	return true
}

// count says how many sockets are on the session.
func (c *conn) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.one != nil {
		return 1
	}
	return len(c.more)
}

// drop forgets a socket that has left its namespace.
func (c *conn) drop(s *Socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.one == s:
		c.one = nil
	case c.more[s.ns.name] == s:
		delete(c.more, s.ns.name)
	}
	if c.one == nil && len(c.more) == 0 && !c.closed {
		c.watchIdle()
	}
}

// watchIdle ends the session if it does not join a namespace in time. c.mu is held.
func (c *conn) watchIdle() {
	limit := c.srv.opts.connectTimeout()
	if limit > 0 && c.idle == nil {
		c.idle = time.AfterFunc(limit, func() {
			c.eng.Close(&engine.CloseError{Reason: ReasonForcedClose, Err: &IdleError{After: limit}})
		})
	}
}

// stopIdle ends the watch. c.mu is held.
func (c *conn) stopIdle() {
	if c.idle != nil {
		c.idle.Stop()
		c.idle = nil
	}
}

// sockets lists what is on the session.
func (c *conn) sockets() []*Socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*Socket, 0, 1+len(c.more))
	if c.one != nil {
		list = append(list, c.one)
	}
	for _, s := range c.more {
		list = append(list, s)
	}
	return list
}

// schedule has s run by the next Flush.
func (c *conn) schedule(s *Socket) {
	c.mu.Lock()
	c.ready = append(c.ready, s)
	c.mu.Unlock()
}

// Message takes one Engine.IO message. It runs no user code.
func (c *conn) Message(data []byte, binary bool) {
	var (
		p   protocol.Packet
		ok  bool
		err error
	)
	if binary {
		p, ok, err = c.decoder.Binary(data)
	} else {
		p, ok, err = c.decoder.Text(data)
	}
	if err != nil {
		c.srv.stats.malformed.Add(1)
		c.eng.Close(&engine.CloseError{Reason: ReasonParseError, Err: err})
		return
	}
	if ok {
		c.route(&p)
	}
}

// route hands a packet to the socket that it is for.
func (c *conn) route(p *protocol.Packet) {
	if p.Type == protocol.Connect {
		c.connect(p)
		return
	}
	s := c.socket(p.Namespace)
	if s == nil {
		// The client disconnected from the namespace, or was; what was on its way is late.
		// Whoever was never there does not know the protocol.
		if !c.wasConnected() {
			c.eng.Close(&engine.CloseError{Reason: ReasonParseError, Err: errNotConnected})
		}
		return
	}
	switch p.Type {
	case protocol.Event:
		s.incoming(p)
	case protocol.Ack:
		s.settle(p.ID, event.ArgsOf(inner(p.Data), p.Attachments), nil)
	case protocol.Disconnect:
		s.end(&DisconnectError{Reason: ReasonClientDisconnect}, false)
	default: // CONNECT_ERROR is for servers to send
		c.eng.Close(&engine.CloseError{Reason: ReasonParseError, Err: errDirection})
	}
}

// inner strips the brackets of a JSON array.
func inner(array []byte) []byte {
	if len(array) < 2 {
		return nil
	}
	return array[1 : len(array)-1]
}

// wasConnected reports whether the session has joined any namespace so far.
func (c *conn) wasConnected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.joined
}

// connect makes the socket that a CONNECT packet asks for. What the client sends to it
// meanwhile waits in its inbox, behind the connection itself.
func (c *conn) connect(p *protocol.Packet) {
	if c.count() >= c.srv.opts.maxNamespaces() {
		c.srv.stats.refused.Add(1)
		c.refuse(p.Namespace, &ConnectError{Message: "Too many namespaces"})
		return
	}
	ns, err := c.srv.enter(p.Namespace, p.Data)
	if err != nil {
		c.refuse(p.Namespace, err)
		return
	}
	s := newSocket(c, ns, p.Data)
	if !c.put(s) {
		ns.leave()
		c.eng.Close(&engine.CloseError{Reason: ReasonParseError, Err: errTwice})
		return
	}
	s.push(incoming{kind: inConnect})
}

// refuse answers a CONNECT with CONNECT_ERROR.
func (c *conn) refuse(nsp string, err error) {
	m := newMessage(&protocol.Packet{Type: protocol.ConnectError, Namespace: nsp, ID: protocol.NoID, Data: connectErrorData(err)})
	_ = m.send(c.eng, false) // a session that is closed needs no answer
}

// Flush runs the handlers of what came in.
func (c *conn) Flush() {
	for {
		c.mu.Lock()
		n := len(c.ready)
		if n == 0 {
			c.ready = nil
			c.mu.Unlock()
			return
		}
		s := c.ready[n-1]
		c.ready[n-1] = nil
		c.ready = c.ready[:n-1]
		c.mu.Unlock()
		if n > 1 { // they do not wait for the handlers of s
			c.srv.work.Go(c.Flush)
		}
		s.run()
	}
}

// Closed ends the sockets of a session that is gone.
func (c *conn) Closed(cause error) {
	c.mu.Lock()
	c.closed = true
	c.stopIdle()
	c.mu.Unlock()
	d := disconnectCause(cause)
	for _, s := range c.sockets() {
		s.end(d, false)
	}
	c.mu.Lock()
	left := len(c.ready) > 0
	c.mu.Unlock()
	if left { // the engine makes no Flush any more
		c.srv.work.Go(c.Flush)
	}
}

var _ engine.Handler = (*conn)(nil)
