package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// version is the version of the native format that this package writes.
const version = 1

// Native returns the format that Atoll's nodes speak among themselves, on every medium
// that has no format of its own. cluster is the cluster's name, which begins all topics, so that
// several clusters can share a medium: 1 to 64 letters, digits, "-" and "_"; if empty, "atoll".
// Native panics if it is anything else.
//
// Topics are cluster+".all", which all nodes subscribe to (what is told and asked, announcements
// and goodbyes: one topic, so that the order of one sender holds for all it says), and
// cluster+".node."+id for the answers to one node.
//
// # Format
//
// A message is a header and a body. Integers are unsigned varints (as in encoding/binary)
// unless a width is given; a string or byte string is its length and its bytes; a list is the
// number of its elements and the elements; a time is a signed varint of Unix nanoseconds.
//
//	header     0xA7, version (1 byte), kind (1 byte), life (8 bytes, big endian), number, from (string)
//	Tell 1     op
//	Ask 2      request (string), op
//	Reply 3    to (string), request (string), namespace (string), answer
//	Heartbeat 4  name (string), started (time), version
//	Goodbye 5  nothing
//
//	op         kind (1 byte), flags (1 byte), close (1 byte, 0 or 1), namespace (string), timeout (nanoseconds),
//	           rooms, except, names (lists of strings), data (bytes), attachments (list of bytes)
//	answer     first (1 byte, 0 or 1), clients, rooms (list of strings), data (bytes), attachments (list of
//	           bytes), sockets (list of: id (string), rooms (list of strings), handshake, data (bytes))
//
// Bytes behind the body are ignored: a later revision may add fields at the end under the
// same version. A list has at most 1,048,576 elements.
func Native(cluster string) Dialect {
	if cluster == "" {
		cluster = "atoll"
	}
	if !validID(cluster) {
		panic(fmt.Sprintf("cluster: Native(%q): the name of a cluster is 1 to %d letters, digits, - and _", cluster, maxID))
	}
	return native{all: cluster + ".all", node: cluster + ".node."}
}

type native struct{ all, node string }

const (
	magic      = 0xA7
	maxList    = 1 << 20
	headerSize = 3 + 8
)

func (d native) Topics(node, namespace string) []string {
	if namespace != "" {
		return nil
	}
	return []string{d.all, d.node + node}
}

func (d native) Encode(m *Message) (string, []byte, error) {
	if err := check(m); err != nil {
		return "", nil, err
	}
	topic, b := d.appendTo(make([]byte, 0, sizeOf(m)), m)
	return topic, b, nil
}

// appendTo writes m, which check has found to be in order.
func (d native) appendTo(b []byte, m *Message) (string, []byte) {
	b = append(b, magic, version, byte(m.Kind))
	b = binary.BigEndian.AppendUint64(b, m.Life)
	b = binary.AppendUvarint(b, m.Number)
	b = appendString(b, m.From)
	topic := d.all
	switch m.Kind {
	case Tell:
		b = appendOp(b, m.Op)
	case Ask:
		b = appendString(b, m.Request)
		b = appendOp(b, m.Op)
	case Reply:
		topic = d.node + m.To
		b = appendString(b, m.To)
		b = appendString(b, m.Request)
		b = appendString(b, m.Namespace)
		b = appendAnswer(b, m.Answer)
	case Heartbeat:
		b = appendString(b, m.Member.Name)
		b = binary.AppendVarint(b, m.Member.Started.UnixNano())
		b = binary.AppendUvarint(b, uint64(m.Member.Version))
	}
	return topic, b
}

func (d native) Decode(node, topic string, data []byte) (*Message, error) {
	if len(data) < headerSize || data[0] != magic {
		return nil, errors.New("cluster: not a message of the native format")
	}
	if data[1] != version {
		return nil, fmt.Errorf("cluster: a message of version %d of the native format: this node reads version %d", data[1], version)
	}
	m := &Message{Kind: MessageKind(data[2]), Life: binary.BigEndian.Uint64(data[3:])}
	r := reader{b: data[headerSize:]}
	m.Number = r.uint()
	m.From = r.string()
	if r.err == nil && m.From == node && m.Kind != Heartbeat {
		return nil, nil
	}
	switch m.Kind {
	case Tell:
		m.Op = r.op()
	case Ask:
		m.Request = r.string()
		m.Op = r.op()
	case Reply:
		m.To = r.string()
		if r.err == nil && m.To != node {
			return nil, nil
		}
		m.Request = r.string()
		m.Namespace = r.string()
		m.Answer = r.answer()
		m.Answer.Node = m.From
	case Heartbeat:
		m.Member = &Member{ID: m.From, Name: r.string(), Started: time.Unix(0, r.int()), Version: int(min(r.uint(), math.MaxInt32))}
	case Goodbye:
	default:
		return nil, fmt.Errorf("cluster: a message of unknown kind %d", m.Kind)
	}
	if m.Op != nil {
		m.Namespace = m.Op.Namespace
	}
	if r.err == nil && !validID(m.From) {
		r.err = errors.New("no sender, or one whose id is none")
	}
	if r.err == nil {
		r.err = check(m)
	}
	if r.err != nil {
		return nil, fmt.Errorf("cluster: a malformed message of kind %d: %w", m.Kind, r.err)
	}
	return m, nil
}

// check reports whether m has what its kind needs and stays within the limits of the format.
func check(m *Message) error {
	switch m.Kind {
	case Tell, Ask:
		o := m.Op
		switch {
		case o == nil || o.Kind < Emit || o.Kind > ServerAsk:
			return errors.New("no operation of a known kind")
		case m.Kind == Ask != o.Kind.Asks():
			return fmt.Errorf("operation %v in a message of the wrong kind", o.Kind)
		case m.Kind == Ask && m.Request == "":
			return errors.New("a question without an id")
		}
		if max(len(o.Rooms), len(o.Except), len(o.Names), len(o.Attachments)) > maxList {
			return fmt.Errorf("a list in an operation has over %d elements: %w", maxList, ErrUnsupported)
		}
	case Reply:
		a := m.Answer
		if a == nil {
			return errors.New("no answer")
		}
		n := max(len(a.Rooms), len(a.Attachments), len(a.Sockets))
		for i := range a.Sockets {
			n = max(n, len(a.Sockets[i].Rooms))
		}
		if n > maxList {
			return fmt.Errorf("a list in an answer has over %d elements: %w", maxList, ErrUnsupported)
		}
	case Heartbeat:
		if m.Member == nil {
			return errors.New("no member")
		}
	case Goodbye:
	default:
		return fmt.Errorf("a message of unknown kind %d", m.Kind)
	}
	return nil
}

func appendOp(b []byte, o *Op) []byte {
	b = append(b, byte(o.Kind), byte(o.Flags), bit(o.Close))
	b = appendString(b, o.Namespace)
	b = binary.AppendUvarint(b, uint64(max(0, o.Timeout)))
	b = appendStrings(b, o.Rooms)
	b = appendStrings(b, o.Except)
	b = appendStrings(b, o.Names)
	b = appendString(b, o.Data)
	return appendStrings(b, o.Attachments)
}

func (r *reader) op() *Op {
	o := &Op{Kind: Kind(r.byte()), Flags: Flags(r.byte()), Close: r.byte() == 1}
	o.Namespace = r.string()
	o.Timeout = time.Duration(min(r.uint(), math.MaxInt64))
	o.Rooms = r.strings()
	o.Except = r.strings()
	o.Names = r.strings()
	o.Data = r.bytes()
	o.Attachments = r.byteses()
	return o
}

func appendAnswer(b []byte, a *Answer) []byte {
	b = append(b, bit(a.First))
	b = binary.AppendUvarint(b, uint64(max(0, a.Clients)))
	b = appendStrings(b, a.Rooms)
	b = appendString(b, a.Data)
	b = appendStrings(b, a.Attachments)
	b = binary.AppendUvarint(b, uint64(len(a.Sockets)))
	for i := range a.Sockets {
		s := &a.Sockets[i]
		b = appendString(b, s.ID)
		b = appendStrings(b, s.Rooms)
		b = appendString(b, s.Handshake)
		b = appendString(b, s.Data)
	}
	return b
}

func (r *reader) answer() *Answer {
	a := &Answer{First: r.byte() == 1, Clients: int(min(r.uint(), math.MaxInt32))}
	a.Rooms = r.strings()
	a.Data = r.bytes()
	a.Attachments = r.byteses()
	a.Sockets = list(r, func() SocketInfo {
		return SocketInfo{ID: r.string(), Rooms: r.strings(), Handshake: r.bytes(), Data: r.bytes()}
	})
	return a
}

// sizeOf is about how many bytes m takes.
func sizeOf(m *Message) int {
	return 64 + len(m.From) + len(m.To) + len(m.Request) + sizeOfOp(m.Op) + sizeOfAnswer(m.Answer)
}

func sizeOfOp(o *Op) int {
	if o == nil {
		return 0
	}
	n := 32 + len(o.Namespace) + len(o.Data) + 5*len(o.Attachments)
	for _, ss := range [][]string{o.Rooms, o.Except, o.Names} {
		for _, s := range ss {
			n += 2 + len(s)
		}
	}
	for _, a := range o.Attachments {
		n += len(a)
	}
	return n
}

func sizeOfAnswer(a *Answer) int {
	if a == nil {
		return 0
	}
	n := 32 + len(a.Data) + 24*len(a.Rooms)
	for _, x := range a.Attachments {
		n += 5 + len(x)
	}
	for i := range a.Sockets {
		s := &a.Sockets[i]
		n += 32 + 24*len(s.Rooms) + len(s.Handshake) + len(s.Data)
	}
	return n
}
