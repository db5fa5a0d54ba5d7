package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/internal/sid"
)

// A Server keeps the sessions of its clients. It is an [http.Handler] that may be
// mounted on any path, of which it looks only at the query. Make one with NewServer.
type Server struct {
	accept func(c *Conn) (Handler, error)
	o      Options
	origin originPolicy
	cookie cookieTemplate // where there is one

	group    group
	flushers flushers
	watch    watch
	seats    atomic.Uint32
	refusing atomic.Int64 // handshakes, for so many seconds by what they are told; 0: no

	mu      sync.RWMutex
	conns   map[string]*Conn
	lingers map[*socket]struct{} // sockets that outlive their session, to say why it ended
	down    bool                 // no new sessions
	cut     bool                 // no lingering
	empty   chan struct{}        // closed when down and no session is left

	counters
}

// NewServer returns a server that calls accept once for each new session, before anything is
// read from its client. accept returns the handler of the session; it may use the Conn, and
// what it sends follows the open packet. An error refuses the session, with status
// 403 and the error's text as message. accept runs on the goroutine of the request, at once for several.
//
// NewServer panics if o is not valid; see [Options.Validate].
func NewServer(accept func(c *Conn) (Handler, error), o *Options) *Server {
	if err := o.Validate(); err != nil {
		panic(err.Error())
	}
	s := &Server{
		accept:  accept,
		o:       o.withDefaults(),
		conns:   make(map[string]*Conn),
		lingers: make(map[*socket]struct{}),
		empty:   make(chan struct{}),
	}
	s.origin.init(&s.o)
	if s.o.Cookie != nil {
		s.cookie = newCookieTemplate(s.o.Cookie)
	}
	s.counters.init()
	s.flushers.init()
	return s
}

func randomTag() sid.Tag {
	var b [4]byte
	rand.Read(b[:])
	return sid.Tag(binary.BigEndian.Uint32(b[:]))
}

// newConn makes a session in the opening state. It reports false if the server takes no more.
func (s *Server) newConn(hs shake) (*Conn, bool) {
	c := &Conn{srv: s, id: sid.New(s.o.Tag), hs: hs, seat: s.seats.Add(1) * 61}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, false
	}
	s.conns[c.id] = c
	return c, true
}

func (s *Server) lookup(id string) *Conn {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.conns[id]
}

// remove forgets a session that is closed.
func (s *Server) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.id)
	s.checkEmpty()
}

// checkEmpty tells Shutdown when the last session is gone. s.mu is held.
func (s *Server) checkEmpty() {
	if !s.down || len(s.conns) > 0 || len(s.lingers) > 0 {
		return
	}
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

// linger notes that w outlives its session for a moment. It reports false if it should not.
func (s *Server) linger(w *socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return false
	}
	s.lingers[w] = struct{}{}
	return true
}

func (s *Server) lingered(w *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lingers, w)
	s.checkEmpty()
}

// Shutdown ends all sessions, with ReasonShutdown, and lets none begin: handshakes get status
// 503. It returns when all have taken what was queued for them and every goroutine
// of the server has ended. When ctx ends first, it cuts off what is left, as Close does, and
// returns the context's error. It may be called several times, and together with Close.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.stop(false) {
		c.Close(&CloseError{Reason: ReasonShutdown})
	}
	select {
	case <-s.empty:
		select {
		case <-s.group.wait():
			return nil
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
	s.cutAll()
	return context.Cause(ctx)
}

// Close cuts all sessions off, with ReasonShutdown, and waits for the goroutines of
// the server, but not longer than a second for handlers that do not return. It returns nil.
func (s *Server) Close() error {
	s.cutAll()
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-s.group.wait():
	case <-t.C:
	}
	return nil
}

func (s *Server) cutAll() {
	for _, c := range s.stop(true) {
		c.cut(&CloseError{Reason: ReasonShutdown}, nil)
	}
	s.mu.Lock()
	ws := make([]*socket, 0, len(s.lingers))
	for w := range s.lingers {
		ws = append(ws, w)
	}
	s.mu.Unlock()
	for _, w := range ws {
		w.conn.Close()
	}
}

// stop lets no new session begin and returns those that there are.
func (s *Server) stop(cut bool) []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = true
	s.cut = s.cut || cut
	cs := make([]*Conn, 0, len(s.conns))
	for _, c := range s.conns {
		cs = append(cs, c)
	}
	s.checkEmpty()
	return cs
}

// A group counts goroutines. Unlike with a sync.WaitGroup, new ones may start while somebody waits.
type group struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n falls to 0; nil: nobody waits
}

// Go runs f in a goroutine.
func (g *group) Go(f func()) {
	g.mu.Lock()
	g.n++
	g.mu.Unlock()
	go func() {
		defer g.done()
		f()
	}()
}

func (g *group) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 && g.none != nil {
		close(g.none)
		g.none = nil
	}
}

// wait returns a channel that is closed when there is no goroutine.
func (g *group) wait() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n == 0 {
		none := make(chan struct{})
		close(none)
		return none
	}
	if g.none == nil {
		g.none = make(chan struct{})
	}
	return g.none
}
