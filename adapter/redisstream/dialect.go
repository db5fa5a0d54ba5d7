package redisstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/official"
)

// ErrMalformed is wrapped by the errors of Decode.
var ErrMalformed = errors.New("malformed message")

// What topics begin with that stand for entries of streams.
const (
	keptTopic  = "stream " // and a namespace
	strayTopic = "stray "  // and a namespace: what Node.js nodes write to a stream that nobody reads
	allTopic   = "streams" // all entries of all streams
)

// A Dialect writes and reads the messages of @socket.io/redis-streams-adapter. It is what a [Bus] speaks. What it
// writes on the topics of streams are the fields of an entry, in a form that only a Bus reads.
type Dialect struct {
	o    Options
	side official.Side
}

var (
	_ cluster.Dialect    = (*Dialect)(nil)
	_ cluster.Expecter   = (*Dialect)(nil)
	_ cluster.Laner      = (*Dialect)(nil)
	_ cluster.Observable = (*Dialect)(nil)
)

// NewDialect returns the dialect for o.
func NewDialect(o *Options) *Dialect {
	d := &Dialect{o: o.withDefaults()}
	d.side = official.NewSide(d.o.ChannelPrefix + "-atoll")
	return d
}

func (d *Dialect) public(nsp string) string { return d.o.ChannelPrefix + "#" + nsp + "#" }
func (d *Dialect) private(nsp, node string) string {
	return d.o.ChannelPrefix + "#" + nsp + "#" + node + "#"
}

// Topics returns the channels of a namespace and what stands for its entries in the stream; where namespace is empty,
// the channels on which Atoll nodes talk.
func (d *Dialect) Topics(node, namespace string) []string {
	if namespace == "" {
		return d.side.Topics(node)
	}
	return append([]string{
		d.public(namespace), // first: who gives up the namespace is no longer counted
		d.private(namespace, node),
	}, d.entries(namespace)...)
}

// entries returns the topics of a namespace's entries.
func (d *Dialect) entries(namespace string) []string {
	if _, stray := d.o.streamOf(namespace); stray != "" {
		return []string{keptTopic + namespace, strayTopic + namespace}
	}
	return []string{keptTopic + namespace}
}

// ObserverTopics names what an observer subscribes to: all entries of all streams, and by a pattern, which Node.js nodes do
// not count, all channels. With UseShardedPubSub there are no patterns, and an observer does not see
// what others ask.
func (d *Dialect) ObserverTopics(node, namespace string) []string {
	switch {
	case namespace == "" && d.o.UseShardedPubSub:
		return append(d.side.Topics(node), allTopic)
	case namespace == "":
		return append(d.side.Topics(node), allTopic, d.o.ChannelPrefix+"#*")
	case d.o.UseShardedPubSub:
		return []string{d.private(namespace, node)}
	default:
		return nil
	}
}

// Lane returns the namespace: who reads one message of it reads all.
func (d *Dialect) Lane(m *cluster.Message) string {
	if m.Namespace == "" && m.Op != nil {
		return m.Op.Namespace
	}
	return m.Namespace
}

// asInStream marks the Request of a question that came in the stream, as nodes with version 0.2 ask: the
// answer goes there, too.
const asInStream = "="

// Encode writes m. What is told goes to the stream, what is asked and answered to channels.
func (d *Dialect) Encode(m *cluster.Message) (topic string, data []byte, err error) {
	if d.side.Carries(m) {
		return d.side.Encode(m)
	}
	inStream := m.Kind == cluster.Tell
	if m.Kind == cluster.Reply && strings.HasPrefix(m.Request, asInStream) {
		plain := *m
		plain.Request = m.Request[len(asInStream):]
		m, inStream = &plain, true
	}
	h, err := official.HeaderOf(m)
	switch {
	case err != nil:
	case inStream:
		topic = keptTopic + h.Namespace
		data, err = d.entry(h, m)
	default:
		topic = d.public(h.Namespace)
		if m.Kind == cluster.Reply && m.To != "" {
			topic = d.private(h.Namespace, m.To)
		}
		data, err = official.AppendMsgpack(nil, m)
	}
	if err != nil {
		return "", nil, fmt.Errorf("redisstream: encode: %w", err)
	}
	return topic, data, nil
}

// entry writes m as the fields of an entry.
func (d *Dialect) entry(h official.Header, m *cluster.Message) ([]byte, error) {
	var data []byte
	var err error
	if packed := !d.o.OnlyPlaintext && official.HasBinary(m); packed {
		if data, err = official.AppendDataMsgpack(nil, m); err == nil {
			data = base64.StdEncoding.AppendEncode(nil, data)
		}
	} else {
		data, err = official.AppendDataJSON(nil, m)
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(data)+len(h.UID)+len(h.Namespace)+64)
	b = appendField(b, fieldUID, h.UID)
	b = appendField(b, fieldNSP, h.Namespace)
	b = appendField(b, fieldType, strconv.Itoa(int(h.Kind)))
	b = appendField(b, fieldData, data)
	if mark := h.Mark(); mark != "" {
		b = appendField(b, official.MarkField, mark)
	}
	return b, nil
}

// Decode reads a message of a Node.js node, an Atoll node or an emitter. It returns nil for what node sent itself,
// for what is for another namespace or node, and for what only tells that a Node.js node is there. An error wraps
// [ErrMalformed].
func (d *Dialect) Decode(node, topic string, data []byte) (*cluster.Message, error) {
	m, err := d.decode(node, topic, data)
	if err != nil {
		return nil, fmt.Errorf("redisstream: %w: %w", ErrMalformed, err)
	}
	return m, nil
}

func (d *Dialect) decode(node, topic string, data []byte) (*cluster.Message, error) {
	if d.side.Has(topic) {
		return d.side.Decode(node, topic, data)
	}
	for _, prefix := range []string{keptTopic, strayTopic} {
		if nsp, ok := strings.CutPrefix(topic, prefix); ok {
			return d.decodeEntry(node, nsp, data)
		}
	}
	if topic == allTopic {
		return d.decodeEntry(node, "", data)
	}
	if !strings.HasPrefix(topic, d.o.ChannelPrefix+"#") {
		return nil, fmt.Errorf("the channel %q is none of ours", topic)
	}
	h, m, err := official.Options{}.Decode(node, "", data)
	if m == nil || err != nil {
		return nil, err
	}
	switch {
	case topic == d.o.ChannelPrefix+"#*", topic == d.private(h.Namespace, node):
		return m, nil
	case topic == d.public(h.Namespace) && m.Kind != cluster.Reply:
		return m, nil
	}
	return nil, nil
}

// decodeEntry reads an entry of a stream, of any namespace where that is empty.
func (d *Dialect) decodeEntry(node, namespace string, entry []byte) (*cluster.Message, error) {
	var h official.Header
	var kind, data, mark string
	err := eachField(string(entry), func(name, value string) {
		switch name {
		case fieldUID:
			h.UID = value
		case fieldNSP:
			h.Namespace = value
		case fieldType:
			kind = value
		case fieldData:
			data = value
		case official.MarkField:
			mark = value
		}
	})
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(kind)
	if err != nil || n < int(official.InitialHeartbeat) || n > int(official.AdapterClose) {
		return nil, fmt.Errorf("an entry of type %.20q", kind)
	}
	h.Kind = official.Kind(n)
	if h.Kind.IsPresence() || h.Kind.IsResponse() || h.UID == node && node != "" || namespace != "" && h.Namespace != namespace {
		return nil, nil
	}
	if mark != "" {
		if err := h.SetMark(mark); err != nil {
			return nil, err
		}
	}
	raw := []byte(data)
	if !strings.HasPrefix(data, "{") {
		if raw, err = base64.StdEncoding.DecodeString(data); err != nil {
			return nil, err
		}
	}
	m, err := official.Options{Buffers: d.o.OnlyPlaintext}.DecodeData(h, raw)
	if err == nil && m.Kind == cluster.Ask {
		m.Request = asInStream + m.Request
	}
	return m, err
}

// Expect returns how many nodes, Node.js's and ours together, subscribe to the questions of a namespace, besides the
// given one, which must have subscribed unless it is empty. The bus must be a cluster.Counter.
func (d *Dialect) Expect(ctx context.Context, bus cluster.Bus, node, namespace string) (int, error) {
	c, ok := bus.(cluster.Counter)
	if !ok {
		return 0, fmt.Errorf("redisstream: the bus cannot count its subscribers: %w", cluster.ErrUnsupported)
	}
	n, err := c.Count(ctx, d.public(namespace))
	if node != "" {
		n--
	}
	return max(n, 0), err
}
