package redisbus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/atollhq/atoll/cluster"
)

// A Dialect writes and reads the messages of @socket.io/redis-adapter. It is what a
// [Bus] speaks; it stands alone for those who carry the format over something else.
type Dialect struct {
	prefix   string // of the channels
	shared   bool   // answers go to all
	native   cluster.Dialect
	announce string // the native topic of heartbeats
}

var (
	_ cluster.Dialect  = (*Dialect)(nil)
	_ cluster.Expecter = (*Dialect)(nil)
	_ cluster.Laner    = (*Dialect)(nil)

	_ cluster.Observable = (*Dialect)(nil)
)

// NewDialect returns the dialect for the Prefix and SharedResponses of o.
func NewDialect(o *Options) *Dialect {
	d := &Dialect{prefix: o.prefix(), shared: o.sharedResponses(), native: cluster.Native("")}
	if topics := d.native.Topics("", ""); len(topics) > 0 {
		d.announce = topics[0]
	}
	return d
}

// The channels of a namespace, and those where Atoll nodes say that they are here and
// that they leave.
func (d *Dialect) all(nsp string) string       { return d.prefix + "#" + nsp + "#" }
func (d *Dialect) requests(nsp string) string  { return d.prefix + "-request#" + nsp + "#" }
func (d *Dialect) responses(nsp string) string { return d.prefix + "-response#" + nsp + "#" }
func (d *Dialect) members() string             { return d.prefix + "-atoll#" }
func (d *Dialect) goodbyes() string            { return d.prefix + "-atoll#goodbye#" }
func (d *Dialect) node(id string) string       { return d.prefix + "-atoll#node#" + id + "#" }

// Lane returns the namespace: who subscribes to it receives all that is told and asked in it.
func (d *Dialect) Lane(m *cluster.Message) string { return namespaceOf(m) }

// Topics returns the channels of a namespace, or of the announcements of Atoll nodes
// where namespace is empty. The one that ends in * stands for all channels that begin
// with what is before the *.
func (d *Dialect) Topics(node, namespace string) []string {
	if namespace == "" {
		return []string{d.members(), d.goodbyes(), d.node(node)}
	}
	return []string{
		d.requests(namespace), // first: who gives up the namespace is no longer counted
		d.all(namespace) + "*",
		d.responses(namespace),
		d.responses(namespace) + node + "#",
	}
}

// allRequests is the topic of the requests of all namespaces, for observers.
func (d *Dialect) allRequests() string { return d.prefix + "-request#*" }

// ObserverTopics implements cluster.Observable. An observer subscribes by patterns, which
// Node.js nodes do not count.
func (d *Dialect) ObserverTopics(node, namespace string) []string {
	if namespace == "" {
		return append(d.Topics(node, ""), d.prefix+"#*", d.allRequests())
	}
	return []string{d.responses(namespace), d.responses(namespace) + node + "#"}
}

// Encode writes m. What the format does not know, and what is told to one node only, it
// writes as cluster.Native does, to channels that Node.js nodes do not read.
func (d *Dialect) Encode(m *cluster.Message) (topic string, data []byte, err error) {
	if d.beside(m) {
		switch {
		case m.To != "":
			topic = d.node(m.To)
		case m.Kind == cluster.Goodbye:
			topic = d.goodbyes()
		default:
			topic = d.members()
		}
		_, data, err = d.native.Encode(m)
		return topic, data, err
	}
	switch m.Kind {
	case cluster.Tell, cluster.Ask:
		if m.Op == nil || m.Op.Kind.Asks() != (m.Kind == cluster.Ask) {
			return "", nil, fmt.Errorf("redisbus: a message without its operation: %w", cluster.ErrUnsupported)
		}
		nsp := namespaceOf(m)
		if m.Op.Kind == cluster.Emit {
			topic = d.all(nsp)
			if room, one := onlyRoom(m.Op.Rooms); one {
				topic += room + "#"
			}
			data, err = appendBroadcast(nil, m, nsp)
		} else {
			topic = d.requests(nsp)
			data, err = appendRequest(nil, m, nsp)
		}
	case cluster.Reply:
		if m.Answer == nil {
			return "", nil, fmt.Errorf("redisbus: a reply without its answer: %w", cluster.ErrUnsupported)
		}
		topic = d.responses(namespaceOf(m))
		if m.To != "" && !d.shared {
			topic += m.To + "#"
		}
		data, err = appendResponse(nil, m)
	default:
		err = fmt.Errorf("kind %d: %w", m.Kind, cluster.ErrUnsupported)
	}
	if err != nil {
		return "", nil, fmt.Errorf("redisbus: encode: %w", err)
	}
	return topic, data, nil
}

// beside reports whether m goes beside the format.
func (d *Dialect) beside(m *cluster.Message) bool {
	switch m.Kind {
	case cluster.Tell, cluster.Ask:
		return m.To != ""
	default:
		return m.Kind > cluster.Reply
	}
}

func namespaceOf(m *cluster.Message) string {
	switch {
	case m.Namespace != "":
		return m.Namespace
	case m.Op != nil && m.Op.Namespace != "":
		return m.Op.Namespace
	default:
		return "/"
	}
}

// Decode reads a message of a Node.js node, an Atoll node or an emitter, as JSON or
// MessagePack, whichever it is. It returns nil for what node sent itself, and for what is for
// another namespace. Where node is empty it returns everything. An error wraps [ErrMalformed].
func (d *Dialect) Decode(node, topic string, data []byte) (*cluster.Message, error) {
	m, err := d.decode(node, topic, data)
	if err != nil {
		return nil, fmt.Errorf("redisbus: %w: %w", ErrMalformed, err)
	}
	return m, nil
}

// ErrMalformed is wrapped by the errors of Decode.
var ErrMalformed = errors.New("malformed message")

func (d *Dialect) decode(node, topic string, data []byte) (*cluster.Message, error) {
	rest, ok := strings.CutPrefix(topic, d.prefix)
	if !ok {
		return nil, fmt.Errorf("the channel %q is none of ours", topic)
	}
	switch {
	case strings.HasPrefix(rest, "-atoll#"):
		return d.native.Decode(node, d.announce, data)
	case strings.HasPrefix(rest, "#"):
		return decodeBroadcast(node, rest[1:], data)
	}
	if nsp, ok := strings.CutPrefix(rest, "-request#"); ok {
		return decodeRequest(node, strings.TrimSuffix(nsp, "#"), data)
	}
	nsp, ok := strings.CutPrefix(rest, "-response#")
	if !ok {
		return nil, fmt.Errorf("the channel %q is none of ours", topic)
	}
	if own, ok := strings.CutSuffix(nsp, "#"+node+"#"); ok && node != "" {
		nsp = own
	} else {
		nsp = strings.TrimSuffix(nsp, "#")
	}
	return decodeResponse(node, nsp, data)
}

// Expect returns how many nodes, Node.js's and ours together, subscribe to the questions
// of a namespace, besides the given one, which must have subscribed; node is empty for an observer. The bus must be a
// cluster.Counter.
func (d *Dialect) Expect(ctx context.Context, bus cluster.Bus, node, namespace string) (int, error) {
	c, ok := bus.(cluster.Counter)
	if !ok {
		return 0, fmt.Errorf("redisbus: the bus cannot count its subscribers: %w", cluster.ErrUnsupported)
	}
	n, err := c.Count(ctx, d.requests(namespace))
	if node != "" {
		n--
	}
	return max(n, 0), err
}
