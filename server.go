package atoll

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/internal/sid"
	"github.com/atollhq/atoll/protocol"
	"github.com/atollhq/atoll/recovery"
)

const (
	openTimeout = 5 * time.Second
	reopenFirst = 100 * time.Millisecond
	reopenMost  = 5 * time.Second
)

// Options configure a Server. The zero value is ready.
type Options struct {
	// Engine configures the sessions: transports, heartbeat, limits, CORS.
	Engine engine.Options

	// Cluster joins the server with others. If nil, it is alone. The server does not
	// close it: who makes a thing closes it.
	Cluster *cluster.Node

	// Forward is about requests that come to this node for sessions of other nodes. If nil, they are passed
	// on wherever Cluster is set.
	Forward *ForwardOptions

	// Recovery lets clients that were cut off come back to their rooms and data, with the
	// events that they have missed; see the package's documentation. If nil, it is off.
	Recovery *recovery.Options

	// AckTimeout is how long an ack is waited for under a context without a deadline.
	// If zero, 30 seconds.
	AckTimeout time.Duration

	// ConnectTimeout is how long a session may be in no namespace, after it was opened
	// or has left its last one. If zero, 45 seconds. If negative, for ever.
	ConnectTimeout time.Duration

	// MaxNamespaces is how many namespaces a client may be in at once, over one session.
	// If zero, 100.
	MaxNamespaces int

	// MaxAttachments is how many binary attachments an event may have. If zero, 10.
	MaxAttachments int

	// MaxAttachmentBytes is how large the attachments of one event may be together, in
	// bytes; each is a message, and bound by Engine.MaxPayload, besides. If zero, four
	// times Engine.MaxPayload.
	MaxAttachmentBytes int

	// MaxInbox is how many bytes of events of one socket may wait for its handlers, each
	// event counted with 128 bytes more than its size. A client that sends faster than
	// it is served is disconnected. If zero, 4 MiB.
	MaxInbox int

	// Drain is how the server is emptied where [Server.Drain] is called without options, by [Server.Serve],
	// and by `atoll drain`. If nil, the defaults of DrainOptions.
	Drain *DrainOptions

	// ShareHandshake says what other nodes are shown of a client's request by Fetch.
	// If nil, all but the headers Authorization, Proxy-Authorization and Cookie, and the
	// auth payload.
	ShareHandshake func(s *Socket) any

	// Logger gets what nobody is there to return to. If nil, slog.Default().
	Logger *slog.Logger
}

func (o *Options) ackTimeout() time.Duration {
	if o.AckTimeout <= 0 {
		return 30 * time.Second
	}
	return o.AckTimeout
}

func (o *Options) connectTimeout() time.Duration {
	if o.ConnectTimeout == 0 {
		return 45 * time.Second
	}
	return o.ConnectTimeout
}

func (o *Options) maxNamespaces() int {
	if o.MaxNamespaces <= 0 {
		return 100
	}
	return o.MaxNamespaces
}

func (o *Options) maxAttachmentBytes() int {
	switch {
	case o.MaxAttachmentBytes > 0:
		return o.MaxAttachmentBytes
	case o.Engine.MaxPayload > 0:
		return 4 * o.Engine.MaxPayload
	}
	return 4 * protocol.DefaultMaxBytes
}

func (o *Options) maxQueue() int {
	if o.Engine.MaxQueue <= 0 {
		return 16 << 20 // as the engine
	}
	return o.Engine.MaxQueue
}

func (o *Options) maxPayload() int {
	if o.Engine.MaxPayload <= 0 {
		return 1_000_000 // as the engine
	}
	return o.Engine.MaxPayload
}

func (o *Options) maxInbox() int {
	if o.MaxInbox <= 0 {
		return 4 << 20
	}
	return o.MaxInbox
}

// A Server is a Socket.IO server: an http.Handler that serves clients over long-polling
// and WebSocket. Its methods may be called by any number of goroutines at once.
type Server struct {
	opts Options
	log  *slog.Logger
	eng  *engine.Server
	node string // id of the node
	tag  sid.Tag

	ctx    context.Context // parent of all sockets' contexts
	cancel context.CancelCauseFunc
	work   tracker
	stats  counters

	recovery *recoverer // nil: off
	forward  *forwarder // nil: requests for sessions of other nodes are refused

	mu         sync.Mutex
	namespaces map[string]*Namespace
	parents    []*Parent
	closing    map[string]chan struct{} // namespaces that the cluster is leaving, by name

	drain drainage
}

// NewServer returns a server with the namespace "/". A nil o is the zero Options.
// It panics where the options contradict each other; the text says which to change.
func NewServer(o *Options) *Server {
	srv := &Server{namespaces: make(map[string]*Namespace), closing: make(map[string]chan struct{})}
	if o != nil {
		srv.opts = *o
	}
	srv.log = srv.opts.Logger
	if srv.log == nil {
		srv.log = slog.Default()
	}
	srv.ctx, srv.cancel = context.WithCancelCause(context.Background())
	if node := srv.opts.Cluster; node != nil {
		srv.node = node.ID()
		srv.log = srv.log.With("node", srv.node)
	} else {
		srv.node = newNodeID()
	}
	srv.tag = sid.TagOf(srv.node)
	eo := srv.opts.Engine
	eo.Tag = srv.tag
	if eo.Logger == nil {
		eo.Logger = srv.log
	}
	users := eo.Headers
	name := []string{srv.tag.String()}
	eo.Headers = func(h http.Header, r *http.Request, initial bool) {
		if initial {
			h[NodeHeader] = name
		}
		if users != nil {
			users(h, r, initial)
		}
	}
	if srv.forward = newForwarder(srv); srv.forward != nil {
		srv.forward.tell(&eo)
	}
	srv.eng = engine.NewServer(srv.accept, &eo)
	if srv.opts.Recovery != nil {
		srv.recovery = newRecoverer(srv)
	}
	srv.Of("/")
	if node := srv.opts.Cluster; node != nil {
		if err := node.Attach((*receiver)(srv)); err != nil {
			panic("atoll: Options.Cluster: " + err.Error())
		}
	}
	if srv.forward != nil {
		if err := srv.forward.open(); err != nil {
			panic("atoll: Options.Forward: " + err.Error())
		}
	}
	return srv
}

// accept is called by the engine for each new session.
func (srv *Server) accept(ec *engine.Conn) (engine.Handler, error) {
	c := &conn{srv: srv, eng: ec}
	c.decoder = protocol.Decoder{MaxAttachments: srv.opts.MaxAttachments, MaxBytes: srv.opts.maxAttachmentBytes()}
	c.mu.Lock()
	c.watchIdle()
	c.mu.Unlock()
	return c, nil
}

// NodeHeader names the node that answers, as the tag in its session ids: for balancers.
const NodeHeader = "Atoll-Node"

// ServeHTTP serves clients. It looks at the query of a request, not at its path: mount it
// where the clients look for it, by default at "/socket.io/".
//
// With Options.Cluster it also takes the connections of other nodes, which come on the same path; see ForwardOptions.
func (srv *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f := srv.forward; f != nil && f.link(w, r) {
		return
	}
	srv.eng.ServeHTTP(w, r)
}

// Of returns the namespace with the given name, and makes it if need be. A missing
// leading slash is added.
func (srv *Server) Of(name string) *Namespace {
	name = cleanName(name)
	srv.mu.Lock()
	ns := srv.namespaces[name]
	if ns == nil {
		for _, p := range srv.parents {
			if p.re != nil && p.re.MatchString(name) {
				ns = srv.child(p, name)
				break
			}
		}
	}
	if ns == nil {
		h := &handlers{where: "namespace " + name}
		ns = &Namespace{handlers: h, h: h, srv: srv, name: name, before: srv.closing[name], opened: make(chan struct{})}
		ns.init()
		srv.namespaces[name] = ns
	}
	ns.dynamic = false // somebody holds it
	srv.mu.Unlock()
	ns.open(srv.ctx)
	return ns
}

// child makes a namespace under p. srv.mu is held.
func (srv *Server) child(p *Parent, name string) *Namespace {
	ns := &Namespace{
		handlers: p.handlers, h: p.handlers, srv: srv, name: name, dynamic: true, dynParent: p,
		before: srv.closing[name], opened: make(chan struct{}), gone: make(chan struct{}),
	}
	ns.init()
	srv.namespaces[name] = ns
	p.children[name] = ns
	return ns
}

// OfPattern returns the parent of all namespaces whose names the pattern matches.
// Patterns are asked in the order of the calls, after the namespaces that Of made.
func (srv *Server) OfPattern(re *regexp.Regexp) *Parent {
	return srv.addParent(&Parent{
		handlers: &handlers{where: "namespaces " + re.String()},
		match:    func(_ context.Context, name string, _ event.Args) bool { return re.MatchString(name) },
		re:       re,
	})
}

// OfFunc returns the parent of all namespaces for which match returns true. It is asked
// with the name and the auth payload (one argument, or none) of a client that wants to
// connect, by the goroutine that reads from that client: it must not block. What takes
// time belongs in a middleware.
func (srv *Server) OfFunc(match func(ctx context.Context, name string, auth event.Args) bool) *Parent {
	return srv.addParent(&Parent{handlers: &handlers{where: "namespaces by function"}, match: match})
}

func (srv *Server) addParent(p *Parent) *Parent {
	p.srv, p.children = srv, make(map[string]*Namespace)
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.parents = append(srv.parents, p)
	return p
}

// enter returns the namespace that a client asks for, with a place in it: leave gives it back.
func (srv *Server) enter(name string, auth []byte) (*Namespace, error) {
	srv.mu.Lock()
	if ns := srv.namespaces[name]; ns != nil {
		ns.users++
		srv.mu.Unlock()
		return ns, nil
	}
	parents := srv.parents
	srv.mu.Unlock()
	for _, p := range parents {
		if !srv.matches(p, name, auth) {
			continue
		}
		srv.mu.Lock()
		defer srv.mu.Unlock()
		ns := srv.namespaces[name]
		if ns == nil {
			ns = srv.child(p, name)
		}
		ns.users++
		return ns, nil
	}
	return nil, &ConnectError{Message: "Invalid namespace"}
}

// matches asks p. A function that panics says no.
func (srv *Server) matches(p *Parent, name string, auth []byte) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			srv.stats.panics.Add(1)
			srv.log.Error("panic in a function of OfFunc; the client is refused", "nsp", name, "panic", r, "stack", string(debug.Stack()))
		}
	}()
	return p.match(srv.ctx, name, event.ArgsOf(auth, nil))
}

// lookup returns a namespace that this node has.
func (srv *Server) lookup(name string) *Namespace {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.namespaces[name]
}

// Shutdown closes all sessions with the reason "server shutting down", upon which the
// official client reconnects, refuses new ones, and waits for the handlers, OnDisconnect
// among them, until ctx ends. It may be called several times, and together with Close.
func (srv *Server) Shutdown(ctx context.Context) error {
	err := srv.endSessions(ctx)
	if e := srv.forward.shutdown(ctx); err == nil {
		err = e
	}
	return err
}

// endSessions is Shutdown, but for requests that are forwarded to other nodes.
func (srv *Server) endSessions(ctx context.Context) error {
	srv.endDrain()
	err := srv.eng.Shutdown(ctx)
	srv.cancel(&DisconnectError{Reason: ReasonShutdown})
	if e := srv.work.Wait(ctx); err == nil {
		err = e
	}
	return err
}

// Close cuts all sessions, and waits for the handlers that run. Their contexts are
// cancelled; one that does not heed its context is waited for.
func (srv *Server) Close() error {
	srv.endDrain()
	err := srv.eng.Close()
	srv.cancel(&DisconnectError{Reason: ReasonShutdown})
	if e := srv.work.Wait(context.Background()); err == nil {
		err = e
	}
	srv.forward.close()
	return err
}

// receiver is the server as its cluster node sees it.
type receiver Server

// Do performs an operation of another node.
func (r *receiver) Do(op *cluster.Op, answer func(cluster.Answer)) {
	srv := (*Server)(r)
	if ns := srv.lookup(op.Namespace); ns != nil {
		if srv.recovery != nil && op.Kind == cluster.Emit {
			srv.recovery.remote(ns, op)
		} else {
			ns.do(op, answer)
		}
		return
	}
	if answer != nil {
		answer(cluster.Answer{First: true})
	}
}

// cleanName gives a namespace's name its slash.
func cleanName(name string) string {
	if !strings.HasPrefix(name, "/") {
		return "/" + name
	}
	return name
}
