package sticky

import "net/http"

// A watch looks at the answer of a node on its way to the client, for what it says of sessions. The zero value
// looks at nothing.
type watch struct {
	c     *call
	opens bool // the answer opens a session, whose id is wanted
	named bool // and a header has told the node's tag
	tail  bool // the answer may end in the packet "close"
	head  []byte
	total int64
	last  [2]byte
}

// begin sees the head of the answer to c: whether it has a content coding, and what it says in tagHeader.
func (a *watch) begin(c *call, status int, coded bool, tag string) {
	*a = watch{c: c}
	c.answers(status)
	if c.kind == plain {
		return
	}
	readable := !coded
	switch {
	case c.kind == handshake:
		if t, ok := parseTag(tag); ok {
			c.b.learnTag(t)
			a.named = true
		}
		a.opens = status == http.StatusOK && readable
	case status == http.StatusOK:
		if c.e == nil && c.head.method != http.MethodOptions {
			c.e = c.l.table.add(c.id, c.b) // opened before we were there
		}
		a.tail = readable && c.head.method == http.MethodGet
		if c.closes {
			c.forget()
		}
	case status == http.StatusBadRequest && c.e != nil:
		c.l.table.ended(c.e)
	}
}

// see gets the body piece by piece, before the client does: its next request, which may come at
// once, must find the node.
func (a *watch) see(p []byte) {
	if a.c != nil {
		a.c.trail.sent += int64(len(p))
	}
	if a.opens && len(p) > 0 {
		a.learn(p)
	}
	if !a.tail {
		return
	}
	a.total += int64(len(p))
	switch len(p) {
	case 0:
	case 1:
		a.last = [2]byte{a.last[1], p[0]}
	default:
		a.last = [2]byte(p[len(p)-2:])
	}
}

// learn looks for the session id at the beginning of the body.
func (a *watch) learn(p []byte) {
	a.head = append(a.head, p[:min(len(p), maxOpen-len(a.head))]...)
	id, ok := openedID(a.head)
	if !ok {
		a.opens = len(a.head) < maxOpen
		return
	}
	a.opens, a.head = false, nil
	c := a.c
	if e := c.l.table.add(id, c.b); e != nil {
		c.e = e
		c.openedNow()
	}
	if !a.named {
		c.b.learnHint(id)
	}
}

// end says that the body has arrived in full. A packet "close" at its end, alone or behind others, ends the session.
func (a *watch) end() {
	if a.tail && a.last[1] == '1' && (a.total == 1 || a.last[0] == '\x1e') {
		a.c.forget()
	}
	a.tail = false
}

// forget says that the session of c is over.
func (c *call) forget() {
	if c.e != nil {
		c.l.table.forget(c.e)
	}
}
