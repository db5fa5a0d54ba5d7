package forward

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/atollhq/atoll/cluster"
)

const (
	maxURL  = 2048
	maxURLs = 4
)

var errNoAnswer = errors.New("forward: the other node does not answer: it does not forward, or the cluster's carrier is away")

// A card is what a node says about itself when it is greeted.
type card struct {
	instance uint64
	machine  string
	urls     []string // where it can be reached
	never    bool     // it wants no links
	key      []byte   // proves to it that it was asked
}

// A greeting is under way.
type greeting struct {
	nonce uint64
	card  chan card // holds one
}

// greet asks the node for its card, again and again within the time. It ends early where the node is no member any more, and
// where the cluster has said twice that nobody listens for it: once is not enough, as a living node's subscription may be on its way
// back. It is enough for a node that refuses connections, too.
func (x *peer) greet(within time.Duration, refuses bool) (card, error) {
	p := x.p
	var b [8]byte
	rand.Read(b[:])
	g := &greeting{nonce: binary.BigEndian.Uint64(b[:]), card: make(chan card, 1)}
	x.mu.Lock()
	x.greeting = g
	x.mu.Unlock()
	msg := []byte{mailVersion, mailHello}
	msg = binary.BigEndian.AppendUint64(msg, g.nonce)
	msg = binary.BigEndian.AppendUint64(msg, p.instance)
	ctx, cancel := context.WithTimeout(p.ctx, within)
	defer cancel()
	pause, proof := greetAgain, 2
	if refuses {
		pause, proof = greetRefusing, 1
	}
	again := time.NewTicker(pause)
	defer again.Stop()
	for deaf := 0; deaf < proof && ctx.Err() == nil; {
		if err := p.send(ctx, x.id, msg); errors.Is(err, cluster.ErrUnknownNode) || errors.Is(err, cluster.ErrClosed) {
			return card{}, err
		} // after another error the next may arrive
		select {
		case c := <-g.card:
			return c, nil
		case <-again.C:
			if deaf++; p.node.Listens(ctx, x.id) {
				deaf = 0
			}
		case <-ctx.Done():
		}
	}
	select {
	case c := <-g.card: // just in time
		return c, nil
	default:
		return card{}, errNoAnswer
	}
}

// helloed answers a greeting.
func (x *peer) helloed(nonce, instance uint64) {
	x.mu.Lock()
	if x.inConn != instance {
		x.inConn, x.inCount = instance, 0
	}
	if x.replying || x.left != nil {
		x.mu.Unlock()
		return // it asks again
	}
	x.replying = true
	x.mu.Unlock()
	p := x.p
	x.once(func() {
		msg := []byte{mailVersion, mailCard}
		msg = binary.BigEndian.AppendUint64(msg, nonce)
		c := card{instance: p.instance, machine: p.machine, never: p.place.never, key: p.keyFor(x.id, instance), urls: p.place.urls()}
		p.send(p.ctx, x.id, c.append(msg))
	})
}

func (c *card) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, c.instance)
	never := byte(0)
	if c.never {
		never = 1
	}
	b = append(b, never)
	b = appendString(appendString(b, c.machine), c.key)
	b = binary.AppendUvarint(b, uint64(len(c.urls)))
	for _, u := range c.urls {
		b = appendString(b, u)
	}
	return b
}

func readCard(r *reader) (c card, err error) {
	c.instance, c.never = r.uint64(), r.byte() == 1
	c.machine, c.key = r.string(), []byte(r.string())
	n := r.uint()
	for i := uint64(0); i < min(n, maxURLs) && r.err == nil; i++ {
		if u := r.string(); len(u) <= maxURL {
			c.urls = append(c.urls, u)
		}
	}
	return c, r.err
}

// carded takes in a card.
func (x *peer) carded(nonce uint64, r *reader) {
	c, err := readCard(r)
	x.mu.Lock()
	g := x.greeting
	x.mu.Unlock()
	if err != nil || g == nil || g.nonce != nonce {
		return
	}
	select {
	case g.card <- c:
	default:
	}
}

// keyFor returns the key with which an instance of a node shows that it may make links here. It is made anew each time, so
// that nothing is kept for those who ask.
func (p *Peers) keyFor(node string, instance uint64) []byte {
	m := hmac.New(sha256.New, p.secret[:])
	m.Write([]byte("atoll-link key\x00"))
	m.Write([]byte(node))
	m.Write(binary.BigEndian.AppendUint64([]byte{0}, instance))
	return m.Sum(nil)
}
