package engine

import (
	"errors"
	"net/http"
	"strings"
	"unicode"

	"github.com/atollhq/atoll/engine/wire"
)

// A Carrier is another server that passed a request on to this one. It may die while it has the request in its
// hands. A proxy before it then sends a GET once more, by another way, and the session should go on as if
// nothing had happened: nothing lost and nothing twice. See [Options.Carrier].
type Carrier interface {
	// Broken reports whether what is answered now would not arrive. It may be called at any time.
	Broken() bool
}

var errAnswerLost = errors.New("nobody knows whether the last answer to a poll arrived")

// maxCarried is how long an answer may be, in bytes, to be kept for a GET that is sent again.
const maxCarried = 64 << 10

// A carried is what is known of the last GET of a session, where it came by a carrier. It is guarded by c.mu.
type carried struct {
	by       Carrier
	query    string
	answered bool
	lost     bool   // the answer was too long to be kept
	answer   []byte // kept until the next GET comes, which says that it has arrived
	left     chan struct{}
}

// stamped reports whether the client gives each request a query of its own, so that one that a proxy sent again can be told
// from the next. The official clients do, with letters and digits; what is a mere number may be a time in seconds.
func stamped(query string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		if v, ok := strings.CutPrefix(pair, "t="); ok {
			return strings.ContainsFunc(v, unicode.IsLetter)
		}
	}
	return false
}

// carry notes that the GET r is about to be served. c.mu is held.
func (c *Conn) carry(r *http.Request) {
	var by Carrier
	if c.srv.o.Carrier != nil {
		by = c.srv.o.Carrier(r)
	}
	if by == nil {
		c.carried = nil
		return
	}
	k := c.carried
	if k == nil {
		k = new(carried)
		c.carried = k
	}
	b := k.answer[:0]
	if cap(b) > 4<<10 {
		b = nil
	}
	*k = carried{by: by, query: r.URL.RawQuery, answer: b}
}

// repeated looks whether r is a GET that was sent again because what carried it broke. If it reports true it has answered
// r and released c.mu, which is held.
func (c *Conn) repeated(w http.ResponseWriter, r *http.Request) bool {
	k := c.carried
	if k == nil || k.query != r.URL.RawQuery || c.state.Load() == closed || c.ws != nil {
		return false
	}
	switch {
	case c.waiting:
		if !stamped(k.query) || k.left != nil {
			return false
		}
		// It is here before the news that its first copy is lost.
		left := make(chan struct{})
		k.left = left
		c.signal()
		c.mu.Unlock()
		<-left
		c.mu.Lock()
		return false
	case !k.answered:
		return false
	case stamped(k.query) && !k.lost:
		body := append([]byte(nil), k.answer...)
		c.carry(r)
		k.answered, k.answer = true, append(k.answer, body...)
		c.mu.Unlock()
		if _, err := c.srv.writeBody(w, body); err != nil {
			c.cut(&CloseError{Reason: ReasonTransportError, Err: err}, nil)
		}
		return true
	case k.by.Broken():
		c.mu.Unlock()
		c.cut(&CloseError{Reason: ReasonTransportError, Err: errAnswerLost}, nil)
		c.srv.refuse(w, ErrUnknownSID, "")
		return true
	}
	return false
}

// brokenOff reports whether the GET that waited is not to be answered: its carrier is broken, or it was sent again by another way. c.mu is held.
func (c *Conn) brokenOff() bool {
	k := c.carried
	if k == nil {
		return false
	}
	if k.left != nil {
		close(k.left)
		k.left = nil
		return true
	}
	return k.by.Broken()
}

// keep keeps what the GET is answered, in case it is sent again. c.mu is held.
func (k *carried) keep(ps []wire.Packet) {
	k.answered = true
	if k.lost = wire.PayloadLen(ps) > maxCarried; !k.lost {
		k.answer = wire.AppendPayload(k.answer[:0], ps)
	}
}
