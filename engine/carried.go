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

	// Leaving is closed when the carrier is about to go. A GET that waits is answered with nothing then, so that its
	// client asks again by another way. If nil, it stays.
	Leaving() <-chan struct{}
}

var errAnswerLost = errors.New("nobody knows whether the last answer to a poll arrived")

// What is kept for GETs that are sent again, in bytes. A single answer may have maxCarried, or twice MaxPayload where that is
// more: as text a message of MaxPayload takes four thirds.
const (
	maxCarried = 64 << 10
	freeAnswer = 4 << 10  // up to here an answer does not count
	maxKept    = 64 << 20 // of all answers of a server
)

// A carried is what is known of the last GET of a session, where it came by a carrier. It is guarded by c.mu.
type carried struct {
	by       Carrier
	query    string
	answered bool
	lost     bool   // the answer was too long to be kept
	answer   []byte // kept until the next GET comes, which says that it has arrived
	counted  bool   // among the server's kept bytes; then its memory is not used again
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
		c.uncarry()
		return
	}
	k := c.carried
	if k == nil {
		k = new(carried)
		c.carried = k
	}
	c.dropAnswer()
	*k = carried{by: by, query: r.URL.RawQuery, answer: k.answer[:0]}
}

// uncarry forgets the last GET. c.mu is held.
func (c *Conn) uncarry() {
	c.dropAnswer()
	c.carried = nil
}

// dropAnswer gives back the memory of a long answer. Somebody may be writing it yet. c.mu is held.
func (c *Conn) dropAnswer() {
	if k := c.carried; k != nil && k.counted {
		c.srv.kept.Add(-int64(len(k.answer)))
		k.answer, k.counted = nil, false
	}
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
		c.claims++ // until it has been looked at, the session stays
		c.signal()
		c.mu.Unlock()
		<-left
		c.mu.Lock()
		c.claimed()
		return false
	case !k.answered:
		return false
	case stamped(k.query) && !k.lost:
		was, body := *k, k.answer
		if !was.counted { // its memory is used again, perhaps while this is being written
			body = append([]byte(nil), body...)
		}
		k.counted = false
		if c.carry(r); c.carried != nil {
			k.answered, k.answer, k.counted = true, was.answer, was.counted
		} else if was.counted { // this one comes straight from the client
			c.srv.kept.Add(-int64(len(body)))
		}
		again := c.again()
		c.mu.Unlock()
		if _, err := c.srv.writeBody(w, body); err != nil && !isBroken(again) {
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

// keepAnswer keeps what the GET is answered, in case it is sent again. It returns that where it may be written as it is, without c.mu, which is held.
func (c *Conn) keepAnswer(ps []wire.Packet) []byte {
	k := c.carried
	k.answered = true
	n := wire.PayloadLen(ps)
	if n <= freeAnswer {
		k.answer = wire.AppendPayload(k.answer[:0], ps)
		return nil
	}
	if n > max(maxCarried, 2*c.srv.o.MaxPayload) {
		k.lost = true
		return nil
	}
	if c.srv.kept.Add(int64(n)) > maxKept {
		c.srv.kept.Add(-int64(n))
		k.lost = true
		return nil
	}
	k.answer, k.counted = wire.AppendPayload(make([]byte, 0, n), ps), true
	return k.answer
}

// again returns what brought the GET that is answered now, where it would be answered again. c.mu is held.
func (c *Conn) again() Carrier {
	if k := c.carried; k != nil && k.answered && !k.lost && stamped(k.query) {
		return k.by
	}
	return nil
}

// isBroken reports whether an answer that could not be written is waited for by a GET that will be sent again.
func isBroken(by Carrier) bool { return by != nil && by.Broken() }
