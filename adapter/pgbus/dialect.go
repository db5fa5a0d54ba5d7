package pgbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/official"
)

// A Dialect writes and reads the messages of @socket.io/postgres-adapter. It is what a
// [Bus] speaks. It also remembers who was heard in which namespace.
type Dialect struct {
	prefix string
	side   official.Side
	crowd  *crowd

	observes atomic.Bool // whose it is is no node
}

var (
	_ cluster.Dialect    = (*Dialect)(nil)
	_ cluster.Expecter   = (*Dialect)(nil)
	_ cluster.Laner      = (*Dialect)(nil)
	_ cluster.Observable = (*Dialect)(nil)
)

// ErrMalformed is wrapped by the errors of Decode.
var ErrMalformed = errors.New("pgbus: malformed message")

// NewDialect returns the dialect for the Prefix of o.
func NewDialect(o *Options) *Dialect {
	prefix := o.withDefaults().Prefix
	return &Dialect{prefix: prefix, side: official.NewSide(prefix + "-atoll"), crowd: newCrowd()}
}

// Topics returns the channel of a namespace, and a topic by which the Bus knows that the node with
// that id is in it; nothing is published there. Where namespace is empty, it returns the
// topics of Atoll nodes.
func (d *Dialect) Topics(node, namespace string) []string {
	if namespace == "" {
		return d.side.Topics(node)
	}
	return []string{d.all(namespace), d.presence(node, namespace)}
}

// ObserverTopics is Topics for who is not to be counted. An observer says that it is there, and asks, as an emitter:
// nodes answer whom they do not count.
func (d *Dialect) ObserverTopics(node, namespace string) []string {
	d.observes.Store(true)
	if namespace == "" {
		return d.side.Topics(node)
	}
	return []string{d.all(namespace), d.presence(cluster.Emitter, namespace)}
}

func (d *Dialect) all(namespace string) string { return d.prefix + "#" + namespace }

func (d *Dialect) presence(node, namespace string) string {
	return d.presencePrefix() + node + "#" + namespace
}

func (d *Dialect) presencePrefix() string { return d.prefix + "-atoll#node#" }

// present takes apart what presence made.
func (d *Dialect) present(topic string) (node, namespace string, ok bool) {
	rest, ok := strings.CutPrefix(topic, d.presencePrefix())
	if !ok {
		return "", "", false
	}
	node, namespace, ok = strings.Cut(rest, "#")
	return node, namespace, ok && namespace != ""
}

// Lane returns the namespace: whoever receives one message of it receives all.
func (d *Dialect) Lane(m *cluster.Message) string {
	if m.Namespace == "" && m.Op != nil {
		return m.Op.Namespace
	}
	return m.Namespace
}

// Encode writes m: in JSON where that is without binary and fits into a notification, else in
// MessagePack.
func (d *Dialect) Encode(m *cluster.Message) (topic string, data []byte, err error) {
	if d.side.Carries(m) {
		return d.side.Encode(m)
	}
	if d.observes.Load() { // without numbers: nobody asks an emitter for what is missing
		c := *m
		c.From, c.Life, c.Number = cluster.Emitter, 0, 0
		m = &c
	}
	h, err := official.HeaderOf(m)
	if err != nil {
		return "", nil, fmt.Errorf("pgbus: encode: %w", err)
	}
	if !official.HasBinary(m) {
		data, err = official.AppendJSON(nil, m)
	}
	if err == nil && !fits(data) {
		data, err = official.AppendMsgpack(nil, m)
	}
	if err != nil {
		return "", nil, fmt.Errorf("pgbus: encode: %w", err)
	}
	return d.all(h.Namespace), data, nil
}

// Decode reads a message of a Node.js node, an Atoll node or an emitter, as JSON or
// MessagePack, whichever it is.
func (d *Dialect) Decode(node, topic string, data []byte) (*cluster.Message, error) {
	if d.side.Has(topic) {
		if _, _, ok := d.present(topic); ok {
			return nil, fmt.Errorf("%w: nothing is published on %q", ErrMalformed, topic)
		}
		m, err := d.side.Decode(node, topic, data)
		if m != nil && m.From != node {
			d.crowd.heardOurs(m)
		}
		return m, err
	}
	namespace, ok := strings.CutPrefix(topic, d.prefix+"#")
	if !ok {
		return nil, fmt.Errorf("%w: the channel %q is none of ours", ErrMalformed, topic)
	}
	h, m, err := official.Options{}.Decode(node, namespace, data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if node != "" && h.Namespace == namespace {
		d.crowd.heard(node, h)
	}
	return m, nil
}

// Expect returns how many nodes were heard in a namespace, which the given one must be in.
// It makes sure first that all that was said before has been heard.
func (d *Dialect) Expect(ctx context.Context, bus cluster.Bus, _, namespace string) (int, error) {
	if b, ok := unwrap(bus); ok {
		if err := b.listened(ctx, namespace); err != nil {
			return 0, err
		}
	}
	n, _ := d.crowd.in(namespace, "")
	return n, nil
}

// unwrap finds the Bus in what embeds it.
func unwrap(bus cluster.Bus) (*Bus, bool) {
	switch b := bus.(type) {
	case *Bus:
		return b, true
	case interface{ PostgresBus() *Bus }:
		return b.PostgresBus(), true
	}
	return nil, false
}
