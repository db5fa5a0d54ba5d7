package emitter

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/atollhq/atoll/cluster"
)

// Connect returns an Emitter that can ask, as well as tell. It listens to the cluster: it knows
// the nodes that are there, and hears their answers, and is no node itself. The bus stays
// the caller's, and must not be closed before the Emitter is. The error says that the medium
// cannot be reached.
func Connect(ctx context.Context, bus cluster.Bus, o *Options) (*Emitter, error) {
	if o == nil {
		o = &Options{}
	}
	node, err := cluster.Join(ctx, bus, &cluster.Options{Observer: true, Key: o.Key, Settle: o.Settle, Logger: o.Logger})
	if err != nil {
		return nil, fmt.Errorf("emitter: %w", err)
	}
	a := &asker{node: node, timeout: o.Timeout, spaces: make(map[string]*space)}
	if a.timeout <= 0 {
		a.timeout = defaultTimeout
	}
	return &Emitter{teller: node, asker: a, nsp: "/"}, nil
}

const (
	defaultTimeout = 5 * time.Second
	maxIdle        = 64 // namespaces that stay open though nobody asks
)

// Close ends what Connect began, for the Emitter and all that were made from it: questions
// that wait end with cluster.ErrClosed. It may be called twice. It does nothing where New made the
// Emitter, and does not close the bus.
func (e *Emitter) Close() error {
	if e.asker == nil {
		return nil
	}
	if err := e.asker.node.Close(); err != nil {
		return fmt.Errorf("emitter: %w", err)
	}
	return nil
}

// Peers returns the nodes of the cluster that announce themselves, the longest-standing first: all
// Atoll nodes, and in some formats Node.js nodes. It is nil where New made the Emitter.
func (e *Emitter) Peers() []cluster.Member {
	if e.asker == nil {
		return nil
	}
	return e.asker.node.Peers()
}

// An asker puts questions. In most formats the answers come on topics of the namespace, so that is
// open while somebody asks, and for as long after as there are few.
type asker struct {
	node    *cluster.Node
	timeout time.Duration

	mu     sync.Mutex
	spaces map[string]*space
	clock  uint64 // counts uses
}

type space struct {
	users   int
	last    uint64
	closing chan struct{} // where set, it is being closed, and this is closed after that
}

// open opens a namespace for one question, which calls done when it has ended.
func (a *asker) open(ctx context.Context, namespace string) (done func(), err error) {
	for {
		closing := a.enter(namespace)
		if closing == nil {
			break
		}
		select {
		case <-closing:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	done = func() { a.leave(namespace) }
	if err := a.node.Open(ctx, namespace); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// enter counts a user of the namespace, unless it is being closed.
func (a *asker) enter(namespace string) (closing chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.spaces[namespace]
	if s == nil {
		s = &space{}
		a.spaces[namespace] = s
	}
	if s.closing == nil {
		s.users++
		a.clock++
		s.last = a.clock
	}
	return s.closing
}

// leave ends a use of the namespace, and closes the one that was not used for longest where too many idle.
func (a *asker) leave(namespace string) {
	a.mu.Lock()
	a.spaces[namespace].users--
	var oldest *space
	idle, name := 0, ""
	for n, s := range a.spaces {
		if s.users > 0 || s.closing != nil {
			continue
		}
		idle++
		if oldest == nil || s.last < oldest.last {
			oldest, name = s, n
		}
	}
	if idle <= maxIdle {
		a.mu.Unlock()
		return
	}
	oldest.closing = make(chan struct{})
	a.mu.Unlock()

	a.node.CloseNamespace(name)
	a.mu.Lock()
	delete(a.spaces, name)
	a.mu.Unlock()
	close(oldest.closing)
}
