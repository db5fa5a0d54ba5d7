package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/atollhq/atoll/engine/wire"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/internal/jsonx"
	"github.com/atollhq/atoll/protocol"
)

// A Socket is the client in one namespace. It is an event.Emitter and an event.Asker. Its
// methods may be called by any number of goroutines at once, and by handlers, except Close.
type Socket struct {
	link   *link
	nsp    string
	auth   func(ctx context.Context) (any, error)
	ctx    context.Context // of handlers; ends with Close
	cancel context.CancelCauseFunc

	mu        sync.Mutex
	wanted    bool     // to be connected
	closed    bool     // for good
	sess      *session // to be in, or to get into, the namespace over
	asked     *session // that CONNECT was sent over, and has not answered
	connected bool
	id        string
	pid       string // the private id, which the server knows the Socket by when it comes back
	offset    string // of the last event, if the server gives events offsets
	recovered bool
	callers   []*caller // of Connect
	nextID    int64
	asks      map[int64]*ask
	buffer    []outgoing // what waits for the connection
	buffered  int        // bytes in buffer
	handlers  handlers
	inbox     inbox
}

// A caller of Connect waits for what comes of it.
type caller struct {
	first  bool // it was who made the socket want to be connected
	result chan error
}

// An ask waits for an answer.
type ask struct{ answer chan answer }

type answer struct {
	args event.Args
	err  error
}

// An outgoing event waits for the connection.
type outgoing struct {
	id      int64 // of the ask, or NoID
	packets []wire.Packet
	size    int
}

// New returns a Socket for the namespace that the URL or the options name: "http://host:port/chat"
// means the namespace /chat. It does not connect. A nil o is the zero Options. The error says
// what is wrong with the URL or the options.
func New(url string, o *Options) (*Socket, error) {
	cfg, err := newConfig(url, o)
	if err != nil {
		return nil, err
	}
	auth := cfg.AuthFunc
	if auth == nil {
		auth = fixed(cfg.Auth)
	}
	l := &link{cfg: cfg, sockets: make(map[string]*Socket), active: make(map[*Socket]bool)}
	return l.socket(cfg.namespace, auth), nil
}

// Dial returns a Socket that is connected. What the server sends before the caller has set
// handlers finds none; who must not miss it uses New, sets them, and calls Connect.
func Dial(ctx context.Context, url string, o *Options) (*Socket, error) {
	s, err := New(url, o)
	if err != nil {
		return nil, err
	}
	if err := s.Connect(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Of returns the Socket of another namespace over the same connection, and makes it if need be.
// It does not connect. auth is sent when it does, as Options.Auth is; it
// does not matter where the Socket exists already. It returns nil after Close.
func (s *Socket) Of(namespace string, auth any) *Socket {
	namespace = cleanName(namespace)
	l := s.link
	l.mu.Lock()
	other := l.sockets[namespace]
	alive := l.sockets[s.nsp] == s
	if other == nil && alive {
		other = l.add(namespace, fixed(auth))
	}
	l.mu.Unlock()
	return other
}

func fixed(auth any) func(context.Context) (any, error) {
	return func(context.Context) (any, error) { return auth, nil }
}

func (l *link) socket(nsp string, auth func(context.Context) (any, error)) *Socket {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.add(nsp, auth)
}

// add makes a socket. l.mu is held.
func (l *link) add(nsp string, auth func(context.Context) (any, error)) *Socket {
	s := &Socket{link: l, nsp: nsp, auth: auth, asks: make(map[int64]*ask)}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	l.sockets[nsp] = s
	return s
}

// Namespace returns the name of the namespace, which begins with a slash.
func (s *Socket) Namespace() string { return s.nsp }

// ID returns the id that the server knows the Socket by, or "" where it is not connected.
// It is another one after each reconnection, unless the Socket is recovered.
func (s *Socket) ID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// Connected reports whether the server has let the Socket into the namespace, and the connection
// is not known to be broken.
func (s *Socket) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connected
}

// Recovered reports whether the server has recovered the connection's state, when the Socket was connected last: it
// has the same id and rooms as before, and gets the events that it has missed.
//
// A server that may recover gives each event an offset, as an argument more behind the others: handlers
// that look at all arguments see it.
//
// See https://socket.io/docs/v4/connection-state-recovery
func (s *Socket) Recovered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recovered
}

// Transport returns the transport of the moment, Polling or WebSocket, or "" where
// there is no connection.
func (s *Socket) Transport() string {
	if sess := s.link.session(); sess != nil {
		return sess.transport()
	}
	return ""
}

// SessionID returns the id of the Engine.IO session below, or "" where there is none.
func (s *Socket) SessionID() string {
	if sess := s.link.session(); sess != nil {
		return sess.id
	}
	return ""
}

func (l *link) session() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sess
}

func (s *session) transport() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ws != nil {
		return WebSocket
	}
	return Polling
}

// Connect connects, and waits until the server has let the Socket into the namespace. The error
// is a *ConnectError where the server refuses; otherwise it says why there is
// no connection. After an error, or when ctx ends before, no more is tried. Where the Socket is
// connected already, Connect returns nil; where it is reconnecting, it waits.
func (s *Socket) Connect(ctx context.Context) error {
	s.mu.Lock()
	if s.closed || s.connected {
		defer s.mu.Unlock()
		if s.closed {
			return ErrClosed
		}
		return nil
	}
	c := &caller{first: !s.wanted, result: make(chan error, 1)}
	s.callers = append(s.callers, c)
	s.wanted = true
	s.mu.Unlock()
	if c.first {
		s.link.want(s)
	}
	select {
	case err := <-c.result:
		return err
	case <-ctx.Done():
	}
	s.mu.Lock()
	if i := slices.Index(s.callers, c); i >= 0 {
		s.callers = slices.Delete(s.callers, i, i+1)
	}
	stop := c.first && !s.connected
	s.mu.Unlock()
	if stop {
		s.leave(&DisconnectError{Reason: ReasonClientDisconnect, Err: context.Cause(ctx)}, false)
	}
	select {
	case err := <-c.result:
		return err
	default:
		return fmt.Errorf("client: connect: %w", context.Cause(ctx))
	}
}

// Disconnect leaves the namespace, and closes the connection if no other namespace is in use, behind
// what was emitted before. The Socket can Connect again.
func (s *Socket) Disconnect() {
	s.leave(&DisconnectError{Reason: ReasonClientDisconnect}, false)
}

// Close disconnects, for good, and waits until nothing runs any more: handlers too, so a
// handler must not call it. It may be called several times. The contexts of the handlers end.
func (s *Socket) Close() error {
	s.leave(&DisconnectError{Reason: ReasonClientDisconnect}, true)
	s.cancel(ErrClosed)
	s.inbox.runner.Wait()
	s.link.forget(s)
	return nil
}

// leave disconnects on the client's own wish.
func (s *Socket) leave(cause *DisconnectError, forGood bool) {
	s.mu.Lock()
	wanted := s.wanted
	if s.connected {
		s.sess.send(textPacket(&protocol.Packet{Type: protocol.Disconnect, Namespace: s.nsp, ID: protocol.NoID}))
	}
	s.unlink(cause)
	s.wanted = false
	s.answerCallers(cause)
	if forGood {
		s.closed = true
		s.buffer, s.buffered = nil, 0
		s.settleAll(ErrClosed)
	}
	s.mu.Unlock()
	if wanted {
		s.link.release(s)
	}
}

// unlink ends what depends on the connection. s.mu is held.
func (s *Socket) unlink(cause *DisconnectError) {
	if s.connected {
		s.inbox.push(s, item{kind: itemDisconnect, err: cause})
	}
	s.sess, s.connected, s.id = nil, false, ""
	s.settleAll(cause)
}

// answerCallers tells those who called Connect what came of it. s.mu is held.
func (s *Socket) answerCallers(err error) {
	for _, c := range s.callers {
		c.result <- err
	}
	s.callers = nil
}

// enter asks to be let into the namespace, over sess, unless that was done.
func (s *Socket) enter(sess *session) {
	s.mu.Lock()
	if !s.wanted || s.sess == sess || !sess.open() {
		s.mu.Unlock()
		return
	}
	asked := s.asked == sess // and then left, before the answer
	s.sess, s.asked = sess, sess
	s.mu.Unlock()
	if asked {
		return
	}
	p := protocol.Packet{Type: protocol.Connect, Namespace: s.nsp, ID: protocol.NoID}
	err := s.credentials(sess, &p)
	if err == nil {
		err = sess.send(textPacket(&p))
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrClosed): // it has just ended: the next one will do
		s.mu.Lock()
		if s.sess == sess {
			s.sess = nil
		}
		s.mu.Unlock()
	default:
		s.link.release(s)
		s.gaveUp(err)
	}
}

// credentials puts the auth payload into p.
func (s *Socket) credentials(sess *session, p *protocol.Packet) error {
	ctx := sess.ctx
	if d := s.link.cfg.ConnectTimeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	v, err := s.auth(ctx)
	if err != nil {
		return fmt.Errorf("client: Options.AuthFunc: %w", err)
	}
	s.mu.Lock()
	pid, offset := s.pid, s.offset
	s.mu.Unlock()
	if v == nil && pid == "" {
		return nil
	}
	data, attachments := []byte("{}"), [][]byte(nil)
	if v != nil {
		data, attachments, err = jsonx.Append(nil, nil, v)
	}
	switch {
	case err != nil:
		return fmt.Errorf("client: auth payload: %w", err)
	case len(attachments) > 0:
		return errors.New("client: auth payload: it holds binary values, which the protocol does not allow there")
	case len(data) == 0 || data[0] != '{':
		return fmt.Errorf("client: auth payload: %s is no JSON object", data)
	}
	if pid != "" {
		data = withSession(data, pid, offset)
	}
	p.Data = data
	return nil
}

// withSession puts what the server knows the Socket by in front of the members of an object. Members of
// the same name that come behind it count.
func withSession(object []byte, pid, offset string) []byte {
	session := struct {
		PID    string `json:"pid"`
		Offset string `json:"offset,omitempty"`
	}{pid, offset}
	data, err := json.Marshal(session)
	if err != nil { // it has two strings
		return object
	}
	if rest := bytes.TrimSpace(object[1:]); len(rest) > 0 && rest[0] != '}' {
		data[len(data)-1] = ','
		return append(data, rest...)
	}
	return data
}

// packet takes a packet for the namespace. The error ends the session.
func (s *Socket) packet(sess *session, p *protocol.Packet) error {
	switch p.Type {
	case protocol.Connect:
		return s.welcome(sess, p.Data)
	case protocol.ConnectError:
		return s.refused(sess, p.Data)
	case protocol.Disconnect:
		s.mu.Lock()
		mine := s.sess == sess
		s.mu.Unlock()
		if !mine {
			break
		}
		s.link.release(s) // first: who hears of it may Connect at once
		s.mu.Lock()
		if s.sess == sess {
			s.unlink(&DisconnectError{Reason: ReasonServerDisconnect})
			s.wanted, s.asked = false, nil
			s.answerCallers(&DisconnectError{Reason: ReasonServerDisconnect})
		}
		s.mu.Unlock()
	case protocol.Event:
		name, args, _, err := p.Event()
		if err != nil {
			return err
		}
		e := &Event{Name: string(name), Args: event.ArgsOf(args, p.Attachments), sock: s, sess: sess, id: p.ID}
		size := overhead + len(p.Data)
		for _, a := range p.Attachments {
			size += overhead + len(a)
		}
		s.mu.Lock()
		full := s.inbox.bytes+size > s.link.cfg.MaxInbox
		if !full && s.sess == sess {
			s.inbox.push(s, item{kind: itemEvent, event: e, size: size})
			s.noteOffset(e)
		}
		s.mu.Unlock()
		if full {
			sess.end(ReasonTransportError, errors.New("more events came than were handled (Options.MaxInbox)"))
		}
	case protocol.Ack:
		s.mu.Lock()
		s.settle(p.ID, event.ArgsOf(elements(p.Data), p.Attachments), nil)
		s.mu.Unlock()
	}
	return nil
}

// elements returns what stands between the brackets of a JSON array.
func elements(data []byte) []byte {
	if len(data) < 2 {
		return nil
	}
	return data[1 : len(data)-1]
}

var errLateRefusal = errors.New("client: the server refuses the namespace after it has let the socket in")

var errOldServer = errors.New("client: the server gives the socket no id: it speaks an older protocol than Socket.IO 3")

// welcome handles the server's consent.
func (s *Socket) welcome(sess *session, data []byte) error {
	var c struct{ SID, PID string }
	if err := jsonx.Unmarshal(data, &c); data != nil && err != nil {
		return err
	}
	if c.SID == "" {
		return errOldServer
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = nil
	switch {
	case s.sess != sess: // Disconnect was called before the answer came
		sess.send(textPacket(&protocol.Packet{Type: protocol.Disconnect, Namespace: s.nsp, ID: protocol.NoID}))
		return nil
	case s.connected:
		return nil
	}
	s.connected, s.id = true, c.SID
	if s.recovered = c.PID != "" && c.PID == s.pid; !s.recovered {
		s.pid, s.offset = c.PID, "" // the old one means nothing to the new session
	}
	buffer := s.buffer
	s.buffer, s.buffered = nil, 0
	for _, o := range buffer {
		if err := sess.send(o.packets...); err != nil {
			s.settle(o.id, event.Args{}, err)
			if o.id == protocol.NoID {
				s.link.cfg.Logger.Warn("socket.io client: an event that waited for the connection is lost", "nsp", s.nsp, "err", err)
			}
		}
	}
	s.answerCallers(nil)
	s.inbox.push(s, item{kind: itemConnect})
	return nil
}

// noteOffset remembers where in the server's log an event stands. s.mu is held.
func (s *Socket) noteOffset(e *Event) {
	if s.pid == "" || e.WantsReply() {
		return
	}
	last := e.Args.Len() - 1
	raw := e.Args.Raw(last)
	var offset string
	if len(raw) > 0 && raw[0] == '"' && e.Args.Decode(last, &offset) == nil {
		s.offset = offset
	}
}

// refused handles the server's refusal.
func (s *Socket) refused(sess *session, data []byte) error {
	e := &ConnectError{Namespace: s.nsp}
	var said struct {
		Message string
		Data    json.RawMessage
	}
	if jsonx.Unmarshal(data, &said) != nil {
		jsonx.Unmarshal(data, &said.Message) // older servers send a string
	}
	e.Message = said.Message
	if len(said.Data) > 0 {
		e.Data = event.ArgsOf(said.Data, nil)
	}
	s.mu.Lock()
	s.asked = nil
	mine, late := s.sess == sess, s.connected
	s.mu.Unlock()
	switch {
	case late:
		return errLateRefusal
	case mine:
		s.link.release(s)
		s.gaveUp(e)
	}
	return nil
}

// gaveUp ends the wish to be connected: nothing more is tried. s was released before, so that who hears of it may Connect at once.
func (s *Socket) gaveUp(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted, s.sess = false, nil
	s.answerCallers(err)
	s.inbox.push(s, item{kind: itemFailed, err: err})
}

// failed tells of an attempt that others will follow.
func (s *Socket) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inbox.push(s, item{kind: itemFailed, err: err})
}

// lost handles the end of sess.
func (s *Socket) lost(sess *session, cause *DisconnectError) {
	s.mu.Lock()
	if s.asked == sess {
		s.asked = nil
	}
	if s.sess != sess {
		s.mu.Unlock()
		return
	}
	was := s.connected
	s.unlink(cause)
	first := slices.ContainsFunc(s.callers, func(c *caller) bool { return c.first })
	s.mu.Unlock()
	switch {
	case was:
	case first && !s.link.cfg.RetryConnect:
		s.link.release(s)
		s.gaveUp(cause)
	default:
		s.failed(cause)
	}
}
