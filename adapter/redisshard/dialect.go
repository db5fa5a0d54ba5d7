package redisshard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/official"
)

// A Mode says which rooms have a channel of their own.
type Mode string

// The modes, by their names in Node.js (subscriptionMode).
const (
	Static         Mode = "static"          // none
	Dynamic        Mode = "dynamic"         // all but those that look like the id of a socket
	DynamicPrivate Mode = "dynamic-private" // all
)

// A Dialect writes and reads the messages of the sharded adapter of @socket.io/redis-adapter. It
// is what a [Bus] speaks.
type Dialect struct {
	prefix string
	mode   Mode
	side   official.Side
}

var (
	_ cluster.Dialect      = (*Dialect)(nil)
	_ cluster.Expecter     = (*Dialect)(nil)
	_ cluster.Laner        = (*Dialect)(nil)
	_ cluster.AlwaysRouter = (*Dialect)(nil)
	_ cluster.Observable   = (*Dialect)(nil)
)

// NewDialect returns the dialect for the Prefix and the Mode of o.
func NewDialect(o *Options) *Dialect {
	return &Dialect{prefix: o.prefix(), mode: o.mode(), side: official.NewSide(o.prefix() + "-atoll")}
}

// all returns the channel of a namespace.
func (d *Dialect) all(nsp string) string { return d.prefix + "#" + nsp + "#" }

// Topics returns the channels of a namespace, or those beside the format where namespace is empty.
func (d *Dialect) Topics(node, namespace string) []string {
	if namespace == "" {
		return d.side.Topics(node)
	}
	all := d.all(namespace)
	return []string{all, all + node + "#"} // the first is counted, so it is given up first
}

// ObserverTopics implements cluster.Observable: an observer hears who is there, and answers.
func (d *Dialect) ObserverTopics(node, namespace string) []string {
	if namespace == "" {
		return d.side.Topics(node)
	}
	return []string{d.all(namespace) + node + "#"}
}

// Route returns the channel of a room; nothing where what is for the room goes to the namespace's.
func (d *Dialect) Route(namespace, room string) string {
	if d.mode == Static || d.mode == Dynamic && looksLikeID(room) {
		return ""
	}
	return d.all(namespace) + room + "#"
}

// looksLikeID reports whether Node.js nodes take room for the id of a socket: it has 20 characters.
func looksLikeID(room string) bool {
	if len(room) < 20 || len(room) > 60 {
		return false
	}
	n := 0
	for _, r := range room {
		n += max(utf16.RuneLen(r), 1)
	}
	return n == 20
}

// Always reports that rooms have channels, as they do in the dynamic modes.
func (d *Dialect) Always() bool { return d.mode != Static }

// Lane implements cluster.Laner: a channel is a lane.
func (d *Dialect) Lane(m *cluster.Message) string { return d.topic(m) }

// topic returns the channel of what is told or asked.
func (d *Dialect) topic(m *cluster.Message) string {
	nsp := m.Namespace
	if nsp == "" && m.Op != nil {
		nsp = m.Op.Namespace
	}
	if nsp == "" {
		nsp = "/"
	}
	if m.Routed && m.Kind == cluster.Tell && m.Op != nil && m.Op.Kind == cluster.Emit && len(m.Op.Rooms) == 1 {
		if topic := d.Route(nsp, m.Op.Rooms[0]); topic != "" {
			return topic
		}
	}
	return d.all(nsp)
}

// Encode writes m. What the format does not know, and what is told to one node only, it writes as
// cluster.Native does, for channels that Node.js nodes do not read.
func (d *Dialect) Encode(m *cluster.Message) (topic string, data []byte, err error) {
	if d.side.Carries(m) {
		return d.side.Encode(m)
	}
	topic = d.topic(m)
	if m.Kind == cluster.Reply {
		topic += m.To + "#"
	}
	data, err = official.Encode(m)
	return topic, data, err
}

var errChannel = errors.New("redisshard: a message on a channel that is not its own")

// Decode reads a message of a Node.js node or an Atoll node, in JSON or MessagePack. It returns nil
// for what node sent itself and for what is for another namespace. Where node is empty it
// returns everybody's.
func (d *Dialect) Decode(node, topic string, data []byte) (*cluster.Message, error) {
	if d.side.Has(topic) {
		return d.side.Decode(node, topic, data)
	}
	rest, ok := strings.CutPrefix(topic, d.prefix+"#")
	if !ok {
		return nil, fmt.Errorf("%w: %q", errChannel, topic)
	}
	h, m, err := official.Options{}.Decode(node, "", data)
	if err != nil || m == nil {
		return nil, err
	}
	if h.Namespace == "" {
		return nil, fmt.Errorf("%w: it names no namespace", errChannel)
	}
	// The channel of /a#b is also that of the room b of /a, whose nodes leave alone what names another namespace.
	rest, ok = strings.CutPrefix(rest, h.Namespace+"#")
	if !ok {
		return nil, nil
	}
	if m.Kind == cluster.Tell && m.Op.Kind == cluster.Emit && rest != "" && len(m.Op.Rooms) == 1 {
		m.Routed = true
	}
	return m, nil
}

// Expect returns how many nodes, Node.js's and ours together, subscribe to the channel of a namespace, besides the
// given one, which must have subscribed; node is empty for an observer. The bus must be a cluster.Counter.
func (d *Dialect) Expect(ctx context.Context, bus cluster.Bus, node, namespace string) (int, error) {
	c, ok := bus.(cluster.Counter)
	if !ok {
		return 0, fmt.Errorf("redisshard: the bus cannot count its subscribers: %w", cluster.ErrUnsupported)
	}
	n, err := c.Count(ctx, d.all(namespace))
	if node != "" {
		n--
	}
	return max(n, 0), err
}
