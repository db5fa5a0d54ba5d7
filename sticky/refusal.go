package sticky

import (
	"errors"
	"net/http"
)

// A refusal is an answer of the balancer itself.
type refusal struct {
	status      int
	contentType string
	body        string
}

const plainText = "text/plain; charset=utf-8"

var (
	badSession  = refusal{http.StatusBadRequest, "application/json", `{"code":3,"message":"Bad request"}`}
	badAnswer   = refusal{http.StatusBadGateway, plainText, "the Socket.IO node gave no proper answer\n"}
	noBody      = refusal{http.StatusRequestTimeout, plainText, "the body of the request did not arrive\n"}
	longBody    = refusal{errLongBody.Status, plainText, errLongBody.Text + "\n"}
	bodyOfOpen  = refusal{http.StatusBadRequest, plainText, "a WebSocket handshake has no body\n"}
	unknownHere = refusal{http.StatusBadRequest, "application/json", unknownSession}
	nobodyIsUp  = refusal{http.StatusServiceUnavailable, plainText, "no Socket.IO node is up; try again in a second\n"}
)

// unknownSession is what the official server says to an id that it does not know.
const unknownSession = `{"code":1,"message":"Session ID unknown"}`

// refuse answers with f. Pages of any origin may read it: it says
// nothing that they should not know, and without that a browser hides it from the client.
func refuse(w http.ResponseWriter, r *http.Request, f refusal) {
	h := w.Header()
	if o := r.Header.Get("Origin"); o != "" {
		h.Set("Access-Control-Allow-Origin", o)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Add("Vary", "Origin")
	}
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "no-store")
	if f.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(f.status)
	if r.Method != http.MethodHead {
		w.Write([]byte(f.body))
	}
}

// turnAway answers c with f.
func (c *call) turnAway(w http.ResponseWriter, r *http.Request, f refusal) {
	c.trail.status, c.trail.sent = f.status, int64(len(f.body))
	refuse(w, r, f)
}

// unrouted is the answer to a request for which route found no node.
func (c *call) unrouted() refusal {
	switch {
	case c.trail.denied != granted:
		return c.l.denial(c.trail.denied)
	case c.kind == session:
		return c.l.gone()
	}
	return c.l.none()
}

// trouble is the answer to a request that a node did not answer, because of err.
func (c *call) trouble(err error) refusal {
	var dial *dialError
	switch {
	case c.ctx.Err() != nil || c.away.Load():
		return badAnswer // nobody reads it
	case c.bad != nil:
		return *c.bad
	case c.body != nil && c.body.err() != nil:
		if long := (*http.MaxBytesError)(nil); errors.As(c.body.err(), &long) {
			return longBody
		}
		return noBody
	case c.kind == session && lost(err):
		if c.e != nil {
			c.l.table.ended(c.e)
		}
		return c.l.gone()
	case errors.Is(err, errDown) || errors.Is(err, errClosed) || errors.As(err, &dial):
		return c.l.none()
	}
	return badAnswer
}

// gone is the answer to a request of a session that is on no living node.
func (l *Balancer) gone() refusal {
	l.refused[unknownID].Add(1)
	return unknownHere
}

// none is the answer to a request when no node is up.
func (l *Balancer) none() refusal {
	l.refused[noNode].Add(1)
	return nobodyIsUp
}
