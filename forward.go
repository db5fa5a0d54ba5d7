package atoll

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/internal/forward"
	"github.com/atollhq/atoll/internal/sid"
)

// ForwardOptions are about requests for sessions of other nodes. A session id names its node, so with Options.Cluster a
// node passes such a request on, and no balancer needs to keep a client on a node.
//
// Nodes connect to each other for that, at the URL where they serve clients; the cluster tells them where that is. Where this is
// not possible the requests go over the cluster's medium, which is slower. A WebSocket that arrives on another node than
// its session is passed through, unless the session is so fresh that nobody has seen anything of it: then the session moves
// to where the WebSocket is, and nothing is forwarded from then on.
//
// The nodes of a cluster should have the same Options. A session whose node is away is answered at once as one
// that nobody knows: its client begins anew. When a node is killed, that a node is away is known to those that have a connection
// to it at once; to those that only ask it over the medium within some 1.5 seconds where the medium can tell that nobody listens
// for it (Redis, NATS), else, and where its machine is gone too, when the cluster declares it dead (cluster.Options.DeadAfter).
// A node that is only slow is never taken for a dead one before that.
type ForwardOptions struct {
	// Off answers requests for sessions of other nodes with status 400, as a server without a cluster does.
	// Balancers must keep each client on its node then.
	Off bool

	// Advertise is the URL where other nodes reach this node's Socket.IO path, such as "http://10.0.0.7:3000/socket.io/". If empty, it
	// is learned from the requests that come: their local address and path. If "-", nodes do not connect to this one, nor it to
	// others: all goes over the cluster's medium.
	Advertise string

	// TLS is for connections to nodes whose URL is https. If nil, their certificates are verified as usual.
	TLS *tls.Config

	// Hold is for how long the first packet of a polling client that may change to WebSocket waits for whether that arrives on
	// another node, so that the session can move there. It delays connecting over polling, and only where requests have come
	// to the wrong node within the last minute. If zero, 50 milliseconds. If negative, no session moves.
	Hold time.Duration
}

func (o *ForwardOptions) hold() time.Duration {
	if o.Hold == 0 {
		return 50 * time.Millisecond
	}
	return o.Hold
}

// settleTime is how long the answers to other nodes may take when the server is shut down.
const settleTime = 2 * time.Second

// evidence is for how long a request that came to the wrong node says that more will.
const evidence = time.Minute

// A forwarder passes requests on to the nodes whose sessions they name.
type forwarder struct {
	srv   *Server
	o     ForwardOptions
	peers *forward.Peers

	start time.Time
	seen  atomic.Int64 // when a request was last seen on the wrong node: nanoseconds since start; 0: never

	moved routes // sessions that were given to other nodes

	mu     sync.Mutex
	moving map[string]chan struct{} // sessions that are on their way here; closed when that is over

	movedIn, movedOut, tooLate atomic.Int64
}

// newForwarder returns nil where nothing is to be forwarded.
func newForwarder(srv *Server) *forwarder {
	f := &forwarder{srv: srv, start: time.Now(), moving: make(map[string]chan struct{})}
	if o := srv.opts.Forward; o != nil {
		f.o = *o
	}
	if srv.opts.Cluster == nil || f.o.Off {
		return nil
	}
	f.moved.init(routeAge(&srv.opts.Engine))
	return f
}

// routeAge is for how long it is known where a session has moved to when nobody asks for it. A client that polls asks once per
// ping at least.
func routeAge(o *engine.Options) time.Duration {
	interval, timeout := o.PingInterval, o.PingTimeout
	if interval == 0 {
		interval = 25 * time.Second
	}
	if timeout == 0 {
		timeout = 20 * time.Second
	}
	return max(2*(interval+timeout), 2*time.Minute)
}

// tell tells the engine what it asks f for.
func (f *forwarder) tell(o *engine.Options) {
	users := o.Foreign
	o.Foreign = f.foreign
	if users != nil {
		o.Foreign = func(w http.ResponseWriter, r *http.Request, id string) bool {
			return f.foreign(w, r, id) || users(w, r, id)
		}
	}
	o.Carrier = func(r *http.Request) engine.Carrier {
		if way := forward.WayOf(r.Context()); way != nil {
			return way
		}
		return nil
	}
	if f.o.Hold >= 0 && o.Hold == nil {
		o.Hold = f.hold
	}
}

// open begins to forward. The engine is there; nothing was served yet.
func (f *forwarder) open() error {
	var err error
	f.peers, err = forward.New(&forward.Options{
		Node:      f.srv.opts.Cluster,
		Serve:     http.HandlerFunc(f.serve),
		Gone:      f.srv.eng.RefuseUnknown,
		Answer:    f.answer,
		MaxBody:   f.srv.opts.maxPayload(),
		Advertise: f.o.Advertise,
		TLS:       f.o.TLS,
		Logger:    f.srv.log,
	})
	return err
}

// link serves a request that is another node's. For any other it reports false.
func (f *forwarder) link(w http.ResponseWriter, r *http.Request) bool {
	if len(r.Header["Upgrade"]) > 0 && f.peers.ServeLink(w, r) {
		return true
	}
	f.peers.Learn(r)
	return false
}

// serve serves a request that another node has forwarded.
func (f *forwarder) serve(w http.ResponseWriter, r *http.Request) {
	f.note()
	f.srv.eng.ServeHTTP(w, r)
}

// foreign answers a request for a session that is not here, if it is known where it may be.
func (f *forwarder) foreign(w http.ResponseWriter, r *http.Request, id string) bool {
	if node, ok := f.moved.find(id); ok {
		f.note()
		f.follow(w, r, id, node)
		return true
	}
	if f.arrives(r, id) {
		f.srv.eng.ServeHTTP(w, r)
		return true
	}
	if _, ok := forward.From(r.Context()); ok {
		return false // its node would be this one
	}
	tag, ok := sid.TagIn(id)
	if !ok {
		return false
	}
	node, ok := f.peers.Owner(tag)
	if !ok {
		return false
	}
	f.note()
	if isUpgrade(r) {
		switch moved, unknown := f.fetch(id, node); {
		case moved:
			f.srv.eng.ServeHTTP(w, r)
			return true
		case unknown:
			return false
		}
	}
	f.peers.Forward(w, r, node)
	return true
}

// isUpgrade reports whether r, which may be served, asks for a WebSocket.
func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && len(r.Header["Sec-Websocket-Key"]) > 0
}

// note notes that a request came to the wrong node.
func (f *forwarder) note() {
	now := int64(time.Since(f.start)) + 1
	if now-f.seen.Load() > int64(time.Second) || f.seen.Load() == 0 {
		f.seen.Store(now)
	}
}

// hold is asked by the engine: how long the first packets of a new polling session wait.
func (f *forwarder) hold() time.Duration {
	seen := f.seen.Load()
	if seen == 0 || time.Since(f.start)-time.Duration(seen) > evidence {
		return 0
	}
	return f.o.hold()
}

// close ends all that is being forwarded, and waits for the handlers of requests that other nodes have forwarded. f may be nil.
func (f *forwarder) close() {
	if f != nil {
		f.peers.Close()
	}
}

// leave has the other nodes answer what waits there for clients of this one. f may be nil.
func (f *forwarder) leave() {
	if f != nil {
		f.peers.Leave()
	}
}

// shutdown is close, which lets answers arrive that are on their way, and waits until ctx ends. f may be nil.
func (f *forwarder) shutdown(ctx context.Context) error {
	if f == nil {
		return nil
	}
	f.leave()
	soon, cancel := context.WithTimeout(ctx, settleTime)
	f.peers.Settle(soon)
	cancel()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		f.peers.Close()
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ForwardStats are counters of requests that came to another node than that of their session.
type ForwardStats struct {
	Out    int64 // requests that this node forwarded
	In     int64 // requests that other nodes forwarded here
	Failed int64 // requests answered with ErrUnknownSID since their node was away, or went before it had answered, and answers that broke off

	PassedOut int64 // WebSockets passed through to other nodes
	PassedIn  int64 // WebSockets of clients on other nodes, served here

	MovedOut int64 // sessions that moved to other nodes while they were fresh
	MovedIn  int64 // sessions that moved here
	TooLate  int64 // WebSockets whose session could not be moved here any more

	Links int // connections to and from other nodes, now
}

func (f *forwarder) stats() ForwardStats {
	s := f.peers.Stats()
	return ForwardStats{
		Out: int64(s.Out), In: int64(s.In), Failed: int64(s.Gone + s.Broken),
		PassedOut: int64(s.StreamsOut), PassedIn: int64(s.StreamsIn),
		MovedOut: f.movedOut.Load(), MovedIn: f.movedIn.Load(), TooLate: f.tooLate.Load(),
		Links: s.Links,
	}
}
