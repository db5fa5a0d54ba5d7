package engine

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/atollhq/atoll/engine/wire"
)

// An ErrorCode is the code in the body of a refused request, as the official server has it.
type ErrorCode int

// The codes. A refused request gets status 400, ErrForbidden 403.
const (
	ErrUnknownTransport   ErrorCode = iota // the transport parameter is none of [Options.Transports]
	ErrUnknownSID                          // no such session: it has ended, or lives on another node
	ErrBadHandshakeMethod                  // a session begins with GET
	ErrBadRequest                          // does not fit the session, or the transport
	ErrForbidden                           // origin, [Options.Allow] or the accept function said no
	ErrUnsupportedVersion                  // the EIO parameter is not 4
)

var errorTexts = [...]string{
	"Transport unknown", "Session ID unknown", "Bad handshake method",
	"Bad request", "Forbidden", "Unsupported protocol version",
}

// String returns the message that goes with the code.
func (e ErrorCode) String() string {
	if int(e) < len(errorTexts) && e >= 0 {
		return errorTexts[e]
	}
	return strconv.Itoa(int(e))
}

var (
	typeJSON = []string{"application/json"}
	typeText = []string{"text/plain; charset=UTF-8"}
	typeHTML = []string{"text/html"}
	noStore  = []string{"no-store"}
	gzipped  = []string{"gzip"}
)

// refuse answers a request with an error. message is instead of the code's own if not empty.
func (s *Server) refuse(w http.ResponseWriter, code ErrorCode, message string) {
	s.refused[code].Add(1)
	if message == "" {
		message = code.String()
	}
	status := http.StatusBadRequest
	if code == ErrForbidden {
		status = http.StatusForbidden
	}
	writeError(w, status, code, message)
}

func writeError(w http.ResponseWriter, status int, code ErrorCode, message string) {
	text, _ := json.Marshal(message) // a string always can be
	h := w.Header()
	h["Content-Type"] = typeJSON
	h["Cache-Control"] = noStore
	w.WriteHeader(status)
	b := append([]byte(`{"code":`), strconv.Itoa(int(code))...)
	b = append(append(append(b, `,"message":`...), text...), '}')
	w.Write(b)
}

// ServeHTTP serves the requests of all sessions.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.origin.check(s, w, r) {
		return
	}
	q := parseQuery(r.URL.RawQuery)
	if !slices.Contains(s.o.Transports, q.transport) {
		s.refuse(w, ErrUnknownTransport, "")
		return
	}
	upgrade := q.transport == WebSocket
	if upgrade && !wantsWebSocket(r) {
		s.refuse(w, ErrBadRequest, "")
		return
	}
	if q.sid == "" {
		s.headers(w, r, true)
		s.handshake(w, r, q, upgrade)
		return
	}
	c := s.lookup(q.sid)
	if c == nil {
		s.unknown(w, r, q.sid)
		return
	}
	if !c.claim() {
		s.gone(c, w, r)
		return
	}
	s.ownHeaders(c, w, r)
	switch {
	case upgrade:
		s.serveUpgrade(c, w, r)
	case r.Method == http.MethodGet:
		s.servePoll(c, w, r)
	case r.Method == http.MethodPost:
		s.servePost(c, w, r)
	default:
		c.unclaim()
		s.refuse(w, ErrBadRequest, "")
	}
}

// headers adds what the user wants in each response.
func (s *Server) headers(w http.ResponseWriter, r *http.Request, initial bool) {
	if s.o.Headers != nil {
		s.o.Headers(w.Header(), r, initial)
	}
}

// handshake begins a session.
//
// See https://socket.io/docs/v4/engine-io-protocol/#handshake
func (s *Server) handshake(w http.ResponseWriter, r *http.Request, q query, upgrade bool) {
	if r.Method != http.MethodGet {
		s.refuse(w, ErrBadHandshakeMethod, "")
		return
	}
	if q.eio != "4" {
		s.refuse(w, ErrUnsupportedVersion, "")
		return
	}
	if upgrade {
		if text := checkKey(r); text != "" {
			s.refuse(w, ErrBadRequest, text)
			return
		}
	}
	if s.refusing.Load() > 0 {
		s.refuseBusy(w)
		return
	}
	if s.o.Allow != nil {
		if err := s.o.Allow(r); err != nil {
			s.refuse(w, ErrForbidden, err.Error())
			return
		}
	}
	c, ok := s.newConn(pack(r, time.Now()))
	if !ok {
		s.refuseBusy(w)
		return
	}
	c.push(wire.Packet{Type: wire.Open, Data: s.openData(c.id, upgrade)}) // nobody else knows c yet
	if err := s.ask(c); err != nil {
		s.refuse(w, ErrForbidden, err.Error())
		return
	}
	s.opened.Add(1)
	if upgrade {
		s.openSocket(c, w, r)
	} else {
		s.mayHold(c)
		s.openPolling(c, w, r)
	}
}

// ask calls the accept function for the handler of c. Where that returns none, or panics, c is forgotten.
func (s *Server) ask(c *Conn) error {
	var h Handler
	defer func() {
		if h == nil {
			c.cut(&CloseError{Reason: ReasonTransportClose}, nil)
		}
	}()
	got, err := s.accept(c)
	if err != nil {
		return err
	}
	if got == nil {
		panic("engine: the accept function returned neither a Handler nor an error")
	}
	h = got
	c.mu.Lock()
	c.h = h
	c.mu.Unlock()
	return nil
}

// begin opens the session: from here on there are pings, and Close tells the handler itself.
// It reports false, and tells the handler, if the session was closed meanwhile.
func (c *Conn) begin(ws *socket) bool {
	c.mu.Lock()
	st := c.state.Load()
	if st == opening {
		c.state.Store(open)
		c.ws = ws
		if c.srv.o.PingInterval > 0 {
			c.arm(c.srv.o.PingInterval)
		}
		c.mu.Unlock()
		return true
	}
	e := c.cause
	c.mu.Unlock()
	c.cut(e, nil)
	c.notify(e)
	return false
}

// offersUpgrade reports whether polling clients may change to WebSocket.
func (s *Server) offersUpgrade() bool {
	return !s.o.DisableUpgrade && slices.Contains(s.o.Transports, WebSocket)
}

// openData is the data of the open packet.
func (s *Server) openData(id string, upgraded bool) []byte {
	b := make([]byte, 0, 128)
	b = append(append(b, `{"sid":"`...), id...)
	b = append(b, `","upgrades":[`...)
	if !upgraded && s.offersUpgrade() {
		b = append(b, `"websocket"`...)
	}
	interval := s.o.PingInterval.Milliseconds()
	timeout := s.o.PingTimeout.Milliseconds()
	if s.o.PingInterval < 0 {
		interval = 1<<31 - 1 - timeout // clients add the two, and count in 32 bits
	}
	b = strconv.AppendInt(append(b, `],"pingInterval":`...), interval, 10)
	b = strconv.AppendInt(append(b, `,"pingTimeout":`...), timeout, 10)
	b = strconv.AppendInt(append(b, `,"maxPayload":`...), int64(s.o.MaxPayload), 10)
	return append(b, '}')
}
