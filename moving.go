package atoll

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/atollhq/atoll/engine"
)

// A session moves when its client's WebSocket arrives on another node while nobody has seen anything of it yet: that node
// fetches it. The one that had it passes on what still comes for it there.

const (
	methodRelease = "release" // a session id; the answer is a parcel, or one of the following
	answerLate    = ""        // the session does not move; the request is to be forwarded
	answerUnknown = "\x00"    // there is no such session
	moveTimeout   = 5 * time.Second
)

// fetch moves a session here from a node, if that is still possible. It reports unknown where the node does not know
// the session.
func (f *forwarder) fetch(id, node string) (moved, unknown bool) {
	if f.o.Hold < 0 || !f.srv.eng.Accepts() {
		return false, false
	}
	over := make(chan struct{})
	f.mu.Lock()
	if f.moving[id] != nil { // a second WebSocket
		f.mu.Unlock()
		return false, false
	}
	f.moving[id] = over
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.moving, id)
		f.mu.Unlock()
		close(over)
	}()
	// Not the context of the request: if its client goes, the session has to be somewhere nevertheless.
	ctx, cancel := context.WithTimeout(f.srv.ctx, moveTimeout)
	defer cancel()
	data, err := f.peers.Ask(ctx, node, methodRelease, []byte(id))
	if err != nil {
		return false, false // and the node decides what to do with the request
	}
	switch string(data) {
	case answerLate:
		f.tooLate.Add(1)
		return false, false
	case answerUnknown:
		return false, true
	}
	var p engine.Parcel
	if err = p.UnmarshalBinary(data); err == nil && p.ID() != id {
		err = errors.New("another session came")
	}
	if err == nil {
		err = f.srv.eng.Adopt(&p)
	}
	if err != nil {
		f.srv.log.Warn("a session could not be taken over from another node; its client has to begin anew", "from", node, "err", err)
		return false, true
	}
	f.movedIn.Add(1)
	return true, false
}

// arrives reports whether the session has come here meanwhile. It waits for one that is on its way.
func (f *forwarder) arrives(r *http.Request, id string) bool {
	f.mu.Lock()
	over := f.moving[id]
	f.mu.Unlock()
	if over != nil {
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}
	return f.srv.eng.Has(id)
}

// answer answers a question of another node.
func (f *forwarder) answer(ctx context.Context, from, method string, body []byte) ([]byte, error) {
	if method != methodRelease {
		return nil, errors.New("atoll: unknown question: " + method)
	}
	id := string(body)
	if !f.srv.eng.Has(id) {
		if _, ok := f.moved.find(id); ok { // looked at second, since it is noted there before it goes
			return []byte(answerLate), nil
		}
		return []byte(answerUnknown), nil
	}
	// Before it goes, so that no request finds it neither here nor there.
	if !f.moved.add(id, from) {
		return []byte(answerLate), nil
	}
	p, ok := f.srv.eng.Release(ctx, id)
	if !ok {
		f.moved.drop(id)
		return []byte(answerLate), nil
	}
	f.movedOut.Add(1)
	return p.AppendBinary(nil)
}

// follow passes a request on to where its session has moved.
func (f *forwarder) follow(w http.ResponseWriter, r *http.Request, id, node string) {
	s := &spy{ResponseWriter: w}
	f.peers.Forward(s, r, node)
	if s.unknown {
		f.moved.drop(id)
	}
}

// A spy sees whether a request is answered with ErrUnknownSID.
type spy struct {
	http.ResponseWriter
	refused, unknown bool
}

var unknownSID = []byte(`{"code":1,`)

func (s *spy) WriteHeader(status int) {
	s.refused = status == http.StatusBadRequest
	s.ResponseWriter.WriteHeader(status)
}

func (s *spy) Write(b []byte) (int, error) {
	s.unknown = s.unknown || s.refused && bytes.HasPrefix(b, unknownSID)
	return s.ResponseWriter.Write(b)
}

func (s *spy) Unwrap() http.ResponseWriter { return s.ResponseWriter }
