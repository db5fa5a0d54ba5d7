package official

import (
	"fmt"
	"strings"

	"github.com/atollhq/atoll/cluster"
)

// A Side is the side channel of a dialect: it carries what the format does not know (who is there
// and who leaves, the repair of gaps, what is sent again to one node) among Atoll nodes, written by
// cluster.Native, on topics that Node.js nodes do not read.
type Side struct {
	prefix string
	native cluster.Dialect
}

// NewSide returns the side channel whose topics begin with prefix, which nothing else does:
//
//	prefix#            for all nodes
//	prefix#goodbye#    for all nodes: who leaves
//	prefix#node#ID#    for the node with that id
func NewSide(prefix string) Side { return Side{prefix: prefix, native: cluster.Native("")} }

// All returns the topic for all nodes, and that of goodbyes.
func (s Side) All() (all, goodbyes string) { return s.prefix + "#", s.prefix + "#goodbye#" }

// Topics returns what the given node subscribes to, once for the whole cluster.
func (s Side) Topics(node string) []string {
	all, goodbyes := s.All()
	return []string{all, goodbyes, s.node(node)}
}

func (s Side) node(id string) string { return s.prefix + "#node#" + id + "#" }

// Carries reports whether m goes over the side channel: all but what is told and asked to all, and
// answers.
func (s Side) Carries(m *cluster.Message) bool {
	switch m.Kind {
	case cluster.Tell, cluster.Ask:
		return m.To != ""
	case cluster.Reply:
		return false
	default:
		return true
	}
}

// Encode writes an m that the side channel carries.
func (s Side) Encode(m *cluster.Message) (topic string, data []byte, err error) {
	_, data, err = s.native.Encode(m)
	all, goodbyes := s.All()
	switch {
	case m.Kind == cluster.Goodbye:
		return goodbyes, data, err
	case m.To != "":
		return s.node(m.To), data, err
	default:
		return all, data, err
	}
}

// Has reports whether topic is one of the side channel's.
func (s Side) Has(topic string) bool {
	rest, ok := strings.CutPrefix(topic, s.prefix)
	return ok && strings.HasPrefix(rest, "#")
}

// Decode reads what came on a topic of the side channel to node.
func (s Side) Decode(node, topic string, data []byte) (*cluster.Message, error) {
	if all, goodbyes := s.All(); topic != all && topic != goodbyes && topic != s.node(node) {
		return nil, fmt.Errorf("official: %q is no topic of the side channel", topic)
	}
	return s.native.Decode(node, s.native.Topics(node, "")[0], data)
}
