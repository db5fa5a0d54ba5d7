package forward

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/sid"
)

var (
	// ErrClosed is what Ask returns after Close.
	ErrClosed = errors.New("forward: closed")

	// ErrAway is wrapped by the error of an Ask whose node is no member, went before it answered, or does not forward.
	ErrAway = errors.New("forward: the node is away")
)

// Options are the settings of Peers.
type Options struct {
	// Node is the place in the cluster. It must be set, and stays the caller's; its Direct is taken.
	Node *cluster.Node

	// Serve serves the requests that other nodes forward here. It must be set. See [From].
	Serve http.Handler

	// Gone answers a request whose owner is away, or went before it answered. If nil, status 400.
	Gone func(w http.ResponseWriter, r *http.Request)

	// Answer answers what other nodes Ask: method and body are theirs, body is its to keep. ctx ends when the asking node gives up or
	// goes. The answer may have 512 KiB. If nil, all questions get an error.
	Answer func(ctx context.Context, from, method string, body []byte) ([]byte, error)

	// MaxBody is from how many bytes on Serve refuses a request's body. If zero, 1,000,000.
	// Bodies are forwarded up to one byte more.
	MaxBody int

	// Advertise is the URL where other nodes reach this node's Socket.IO path. If empty, it is learned from requests (see
	// Learn). If "-", no links are made, to and from this node: all goes over the cluster's carrier.
	Advertise string

	// TLS is how links to https URLs are made. If nil, the defaults of crypto/tls.
	TLS *tls.Config

	// Dial makes connections for links. If nil, that of a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Idle is how long a link that nothing uses is kept. If zero, 5 minutes.
	Idle time.Duration

	// Logger is told what an operator should know. If nil, slog.Default().
	Logger *slog.Logger
}

const (
	defaultMaxBody = 1_000_000
	defaultIdle    = 5 * time.Minute
)

// Peers are the other nodes, as those that requests can be forwarded to. Any number of goroutines may use it.
type Peers struct {
	o        Options
	node     *cluster.Node
	self     string
	log      *slog.Logger
	instance uint64 // tells this Peers from others that the node had or will have
	secret   [32]byte
	machine  string

	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	group   group
	tick    atomic.Int64 // counts seconds, from 1
	view    atomic.Pointer[view]
	place   place
	mail    mailroom
	tunnels tunnels
	count   counters
	dialled atomic.Uint64 // the number of the last request for a link
	leaving atomic.Bool   // Leave was called

	mu     sync.Mutex
	closed bool
}

// A view is who is there.
type view struct {
	peers map[string]*peer
	tags  map[sid.Tag]string // empty where two nodes have one
}

// New begins to forward for the node. It does not wait for anything.
func New(o *Options) (*Peers, error) {
	if o == nil || o.Node == nil || o.Serve == nil {
		return nil, errors.New("forward: Options.Node and Options.Serve must be set")
	}
	p := &Peers{o: *o, node: o.Node, self: o.Node.ID(), log: o.Logger}
	if p.log == nil {
		p.log = slog.Default()
	}
	if p.o.Gone == nil {
		p.o.Gone = func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "the session's node is away", http.StatusBadRequest)
		}
	}
	if p.o.MaxBody <= 0 {
		p.o.MaxBody = defaultMaxBody
	}
	if p.o.Idle <= 0 {
		p.o.Idle = defaultIdle
	}
	if p.o.Dial == nil {
		p.o.Dial = (&net.Dialer{}).DialContext
	}
	if err := p.place.init(p.o.Advertise); err != nil {
		return nil, err
	}
	var b [8]byte
	rand.Read(b[:]) // never fails, by its documentation
	p.instance = binary.BigEndian.Uint64(b[:])
	rand.Read(p.secret[:])
	p.machine = machine()
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.tick.Store(1)
	p.mail.init()
	p.view.Store(&view{})
	if err := p.node.Direct(p.mail.put); err != nil {
		p.stop()
		return nil, fmt.Errorf("forward: %w", err)
	}
	changed := p.node.Changed()
	p.look()
	p.group.Go(func() { p.follow(changed) })
	p.group.Go(p.readMail)
	return p, nil
}

// Close ends everything that is under way: what was forwarded is answered by Gone, the contexts of what is served
// here end, and streams break. It waits for all goroutines, also for handlers that serve forwarded requests. It may be called
// twice.
func (p *Peers) Close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	if first {
		p.node.Direct(nil)
	}
	p.stop()
	p.mail.close()
	for _, x := range p.view.Load().peers {
		x.leave(ErrClosed)
	}
	p.tunnels.closeAll()
	p.group.close()
	return nil
}

// Owner returns the living other node with the tag t, and whether there is one, and only one.
func (p *Peers) Owner(t sid.Tag) (node string, ok bool) {
	node = p.view.Load().tags[t]
	return node, node != ""
}

// follow keeps the view in step with the cluster, and looks after the lines every second.
func (p *Peers) follow(changed <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-changed:
			if changed = p.node.Changed(); p.alone() {
				changed = nil
			}
			p.look()
		case <-tick.C:
			now := p.tick.Add(1)
			for _, x := range p.view.Load().peers {
				x.look(now)
			}
		case <-p.ctx.Done():
			return
		}
	}
}

// alone reports whether the node has left the cluster.
func (p *Peers) alone() bool {
	return errors.Is(p.node.Send(p.ctx, p.self, nil), cluster.ErrClosed) // which sends nothing to oneself
}

// look takes in who is there.
func (p *Peers) look() {
	old := p.view.Load()
	v := &view{peers: make(map[string]*peer), tags: make(map[sid.Tag]string)}
	own := p.node.Tag()
	members := p.node.Peers()
	if p.alone() {
		members = nil
	}
	for _, m := range members {
		x := old.peers[m.ID]
		if x == nil || !x.started.Equal(m.Started) {
			x = newPeer(p, m)
		}
		v.peers[m.ID] = x
		switch t := sid.TagOf(m.ID); {
		case t == own:
		default:
			if _, two := v.tags[t]; two {
				v.tags[t] = ""
			} else {
				v.tags[t] = m.ID
			}
		}
	}
	p.view.Store(v)
	for id, x := range old.peers {
		if v.peers[id] != x {
			x.leave(errLeft)
		}
	}
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		for _, x := range v.peers {
			x.leave(ErrClosed)
		}
	}
}
