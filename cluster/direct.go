package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrUnknownNode is wrapped by the error of a Send to who is no member now.
var ErrUnknownNode = errors.New("cluster: no such member")

// A Limiter is a Bus that cannot carry messages of any size. Every Bus whose Publish may wrap ErrTooLarge
// should be one.
type Limiter interface {
	// MaxMessage returns the size of the largest message that Publish takes now, in bytes.
	MaxMessage() int
}

const (
	maxDirect      = 8 << 20 // of data in one Send
	directOverhead = 3*10 + headerSize + 2*(1+maxID) + sealSize
)

// SendLimit returns how many bytes Send takes now: 8 MiB, or less where the bus says that it carries less (see Limiter).
func (n *Node) SendLimit() int {
	if l, ok := n.bus.(Limiter); ok {
		return max(0, min(maxDirect, l.MaxMessage()-directOverhead))
	}
	return maxDirect
}

// Send sends data to the member with the id to, and to nobody else: the function that it gave to Direct gets it. It
// returns when the bus has taken it, and does not wait for the member.
//
// It is best effort: what is sent has no number, is not repaired and not kept. While the bus is away, or where it
// loses a message, the message is lost, and the member does not notice. It arrives once at most unless the bus repeats it.
// What one goroutine sends to one member arrives in the order of its calls where the bus keeps it. What is for an
// earlier life of a member with the same id is not delivered to the new one.
//
// An error wraps ErrUnknownNode where to is no member now (oneself is none), ErrTooLarge where data is larger than SendLimit,
// ErrClosed after Close, and otherwise what the bus said. data is the caller's again when Send returns.
func (n *Node) Send(ctx context.Context, to string, data []byte) error {
	n.mu.Lock()
	p, closed := n.peers[to], n.closed
	var life uint64
	if p != nil {
		life = p.life
	}
	n.mu.Unlock()
	switch limit := n.SendLimit(); {
	case closed:
		return ErrClosed
	case p == nil:
		return fmt.Errorf("cluster: send to node %q: %w", to, ErrUnknownNode)
	case len(data) > limit:
		return fmt.Errorf("cluster: send %d bytes to one node, and at most %d can be sent: %w", len(data), limit, ErrTooLarge)
	}
	topic, msg, err := n.encode(&Message{Kind: Direct, To: to, ToLife: life, Data: data})
	if err == nil {
		err = n.publish(ctx, topic, msg)
		n.recycle(msg)
	}
	if err != nil {
		return fmt.Errorf("cluster: send: %w", err)
	}
	return nil
}

// Listens reports false where the bus knows that nobody gets what is sent to the member with the id to: its process was
// killed a moment ago, and its silence has not been noticed yet. Where the bus cannot say (see Counter and Attender), or has not
// answered when ctx ends, it reports true. Any number of goroutines may call it.
func (n *Node) Listens(ctx context.Context, to string) bool {
	a, attends := n.bus.(Attender)
	c, counts := n.bus.(Counter)
	if !attends && !counts {
		return true
	}
	topic, msg, err := n.encode(&Message{Kind: Direct, To: to})
	if err != nil {
		return true
	}
	n.recycle(msg)
	if attends {
		there, err := a.Attended(ctx, topic)
		return err != nil || there
	}
	listeners, err := c.Count(ctx, topic)
	return err != nil || listeners > 0
}

// Silence returns for how long nothing has come from the member with the id, not counted what was before the bus came back
// when it was away last: all may have lost their connections to it then, and some be slower to mend them. Of who is no
// member now it is 0. Members announce themselves with each heartbeat (see Options), so a silence that is longer is no proof
// that one is dead, but a reason to look (Listens).
func (n *Node) Silence(id string) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[id]
	if p == nil {
		return 0
	}
	last := p.heard
	if n.steady.After(last) {
		last = n.steady
	}
	return time.Since(last)
}

// Heartbeat returns the pause between two announcements.
func (n *Node) Heartbeat() time.Duration { return n.o.Heartbeat }

// A calm notes since when the bus has been there without a break. It is watch's alone.
type calm struct{ stirred time.Time }

// look is called at each look of watch.
func (c *calm) look(n *Node, now time.Time) {
	came := n.stirred.Swap(false)
	if now.Sub(c.stirred) > n.o.Heartbeat*3/2 && came || n.away.Load() {
		n.mu.Lock()
		n.steady = now
		n.mu.Unlock()
	}
	if came {
		c.stirred = now
	}
}

// Direct has f called for what other nodes Send to this one, with the sender's id. f only queues: it is called by who
// receives from the bus, and must not block nor call the node or the bus. data is its to keep, not to change. Messages
// of one sender come in the order in which the bus brings them. What comes before Direct was called is dropped
// and counted. Direct returns an error where a function is set already or the node is closed; nil takes it away again, and
// calls that run then may still go on.
func (n *Node) Direct(f func(from string, data []byte)) error {
	if f == nil {
		n.direct.Store(nil)
		return nil
	}
	if n.isClosed() {
		return ErrClosed
	}
	if !n.direct.CompareAndSwap(nil, &f) {
		return errors.New("cluster: direct: somebody receives the node's direct messages already")
	}
	return nil
}

// directed hands on what came for this node alone.
func (n *Node) directed(m *Message) {
	f := n.direct.Load()
	switch {
	case m.ToLife != n.life:
		n.count.stray.Add(1) // for an earlier life
	case f == nil:
		n.count.unattached.Add(1)
	default:
		(*f)(m.From, m.Data)
	}
}

// Changed returns a channel that is closed when a member next comes, goes or is started anew, and by Close. Who follows the
// members calls it before Peers, and both again when it is closed. After Close it is closed.
func (n *Node) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		over := make(chan struct{})
		close(over)
		return over
	}
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.changed
}
