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
// and goodbyes: one topic, so that the order of one sender holds for all it says),
// cluster+".node."+id for what is for one node (answers, repair, what is told to it alone), and
// cluster+".room."+hash for what is routed to a room: 16 hexadecimal digits of the 64-bit FNV-1a
// hash of the namespace, a zero byte and the room. Two rooms may share a topic; who listens for
// one drops what is for the other.
//
// A dialect that has an official format writes with Native's Encode all that its format does not
// know, and publishes it on topics of its own: to all nodes Heartbeat and Goodbye, and to the
// node m.To each Missing, Again, Progress and Direct, and each Tell that has To set. Native
// understands its own messages from any topic (Decode looks at the topic only where there is a key).
//
// # Format
//
// A message is a header and a body, and where the nodes have a key (Options.Key) a code of 16 bytes behind
// them. Integers are unsigned varints (as in encoding/binary)
// unless a width is given; a string or byte string is its length and its bytes; a list is the
// number of its elements and the elements; a time is a signed varint of Unix nanoseconds.
//
//	header     0xA7, version (1 byte), kind (1 byte: 32 is added if it is routed to a room, 64 if it is for one
//	           node), life (8 bytes, big endian), number, from (string); if it is for one node: to (string), toLife
//	Tell 1     op, and where it is routed to a room the age of its lane (nanoseconds; 0 from a minute on)
//	Ask 2      request (string), op
//	Reply 3    to (string), request (string), namespace (string), answer
//	Heartbeat 4  name (string), started (time), version, flags (1 byte: 1 routes, 2 strange, 4 observer,
//	           8 all marks), marks
//	Goodbye 5  marks
//	Missing 6  spans
//	Again 7    spans, marks, parts
//	Progress 8 marks, and where it is for a room the age of its lane
//	Direct 9   data (bytes)
//
//	marks      list of: lane (string), next
//	spans      list of: lane (string), first, last, flags (1 byte: 1 void, 2 coming)
//	parts      list of: lane (string), number, message (bytes: its kind (1 byte, with 32 and 64 as in the header),
//	           if it is for one node: to, toLife; and its body)
//
//	op         kind (1 byte), flags (1 byte), close (1 byte, 0 or 1), namespace (string), timeout (nanoseconds),
//	           rooms, except, names (lists of strings), data (bytes), attachments (list of bytes),
//	           fields (1 byte)
//	answer     first (1 byte, 0 or 1), clients, rooms (list of strings), data (bytes), attachments (list of
//	           bytes), sockets (list of: id (string), rooms (list of strings), handshake, data (bytes))
//
// Bytes behind the body are ignored: a later revision may add fields at the end under the
// same version. A kind that a node does not know it counts as malformed, and nothing else happens. A list has at most 1,048,576 elements.
func Native(cluster string) Dialect {
	if cluster == "" {
		cluster = "atoll"
	}
	if !validID(cluster) {
		panic(fmt.Sprintf("cluster: Native(%q): the name of a cluster is 1 to %d letters, digits, - and _", cluster, maxID))
	}
	return native{all: cluster + ".all", node: cluster + ".node.", room: cluster + ".room."}
}

type native struct {
	all, node, room string
	seal            *seal // nil where there is no key
}

var (
	_ Laner  = native{}
	_ Router = native{}
)

const (
	magic      = 0xA7
	maxList    = 1 << 20
	headerSize = 3 + 8
	routedBit  = 32
	toBit      = 64
)

// Route implements Router.
func (d native) Route(namespace, room string) string {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(namespace) {
		h = (h ^ uint64(namespace[i])) * prime
	}
	h *= prime // the zero byte
	for i := range len(room) {
		h = (h ^ uint64(room[i])) * prime
	}
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 96)
	b = append(b, d.room...)
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[h>>shift&15])
	}
	return string(b)
}

// Lane implements Laner: what goes to all is one lane, and what is routed to a room is the lane of its topic.
func (d native) Lane(m *Message) string {
	if m.Routed && m.To == "" && m.Op != nil && len(m.Op.Rooms) == 1 {
		return d.Route(m.Namespace, m.Op.Rooms[0])
	}
	return ""
}

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
	topic := d.topic(m)
	b, _ := d.appendTo(make([]byte, 0, sizeOf(m)), topic, m)
	return topic, b, nil
}

// topic returns where m is published.
func (d native) topic(m *Message) string {
	switch {
	case m.To != "":
		return d.node + m.To
	case m.Kind == Progress && m.Routed && len(m.Marks) > 0:
		return m.Marks[0].Lane
	case m.Routed:
		return d.Lane(m)
	default:
		return d.all
	}
}

// appendTo writes m, which check has found to be in order, for topic. It returns where in it the body begins, which
// ends before the seal.
func (d native) appendTo(b []byte, topic string, m *Message) (data []byte, body int) {
	kind := byte(m.Kind)
	if m.Routed {
		kind |= routedBit
	}
	if m.To != "" && m.Kind != Reply {
		kind |= toBit
	}
	b = append(b, magic, version, kind)
	b = binary.BigEndian.AppendUint64(b, m.Life)
	b = binary.AppendUvarint(b, m.Number)
	b = appendString(b, m.From)
	if kind&toBit != 0 {
		b = appendString(b, m.To)
		b = binary.AppendUvarint(b, m.ToLife)
	}
	body = len(b)
	return d.seal.close(topic, appendBody(b, m)), body
}

// appendBody writes what stands behind the header of m.
func appendBody(b []byte, m *Message) []byte {
	switch m.Kind {
	case Tell:
		b = appendOp(b, m.Op)
		b = appendAge(b, m)
	case Ask:
		b = appendString(b, m.Request)
		b = appendOp(b, m.Op)
	case Reply:
		b = appendString(b, m.To)
		b = appendString(b, m.Request)
		b = appendString(b, m.Namespace)
		b = appendAnswer(b, m.Answer)
	case Heartbeat:
		b = appendString(b, m.Member.Name)
		b = binary.AppendVarint(b, m.Member.Started.UnixNano())
		b = binary.AppendUvarint(b, uint64(m.Member.Version))
		b = append(b, bit(m.Member.Routes)|bit(m.Member.Strange)<<1|bit(m.Member.Observer)<<2|bit(m.AllMarks)<<3)
		b = appendMarks(b, m.Marks)
	case Goodbye, Progress:
		b = appendMarks(b, m.Marks)
		b = appendAge(b, m)
	case Missing:
		b = appendSpans(b, m.Spans)
	case Again:
		b = appendSpans(b, m.Spans)
		b = appendMarks(b, m.Marks)
		b = appendParts(b, m.Parts)
	case Direct:
		b = appendString(b, m.Data)
	}
	return b
}

func (d native) Decode(node, topic string, data []byte) (*Message, error) {
	data, err := d.seal.open(topic, data)
	if err != nil {
		return nil, err
	}
	if len(data) < headerSize || data[0] != magic {
		return nil, errors.New("cluster: not a message of the native format")
	}
	if data[1] != version {
		return nil, fmt.Errorf("cluster: a message of version %d of the native format: this node reads version %d", data[1], version)
	}
	flags := data[2] & (routedBit | toBit)
	kind := MessageKind(data[2] &^ flags)
	r := reader{b: data[headerSize:]}
	number, from := r.uint(), r.bytes()
	if r.err == nil && string(from) == node && node != "" && kind != Heartbeat {
		return nil, nil
	}
	m := &Message{
		Kind: kind, Routed: flags&routedBit != 0, Life: binary.BigEndian.Uint64(data[3:]), Number: number, From: string(from),
	}
	if flags&toBit != 0 {
		m.To, m.ToLife = r.string(), r.uint()
		if r.err == nil && m.To != node && node != "" {
			return nil, nil
		}
		if r.err == nil && m.Kind != Tell && m.Kind < Missing {
			r.fail(errors.New("it is for one node"))
		}
	}
	r.body(m, node)
	if r.err == errNotOurs {
		return nil, nil
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

var errNotOurs = errors.New("a message for another node")

// body reads what stands behind the header of m.
func (r *reader) body(m *Message, node string) {
	switch m.Kind {
	case Tell:
		m.Op = r.op()
		r.age(m)
	case Ask:
		m.Request = r.string()
		m.Op = r.op()
	case Reply:
		m.To = r.string()
		if r.err == nil && m.To != node && node != "" {
			r.fail(errNotOurs)
		}
		m.Request = r.string()
		m.Namespace = r.string()
		m.Answer = r.answer()
		m.Answer.Node = m.From
	case Heartbeat:
		m.Member = &Member{ID: m.From, Name: r.string(), Started: time.Unix(0, r.int()), Version: int(min(r.uint(), math.MaxInt32))}
		flags := r.byte()
		m.Member.Routes, m.Member.Strange, m.Member.Observer = flags&1 != 0, flags&2 != 0, flags&4 != 0
		m.AllMarks = flags&8 != 0
		m.Marks = r.marks()
	case Goodbye, Progress:
		m.Marks = r.marks()
		r.age(m)
	case Missing:
		m.Spans = r.spans()
	case Again:
		m.Spans = r.spans()
		m.Marks = r.marks()
		m.Parts = r.parts()
	case Direct:
		m.Data = r.bytes()
	default:
		r.fail(errors.New("the kind is unknown"))
	}
	if m.Op != nil {
		m.Namespace = m.Op.Namespace
	}
}

const maxAge = time.Minute

// aged reports whether m tells the age of a lane.
func (m *Message) aged() bool {
	return m.Routed && m.To == "" && (m.Kind == Tell || m.Kind == Progress)
}

func appendAge(b []byte, m *Message) []byte {
	switch {
	case !m.aged():
		return b
	case m.Age <= 0 || m.Age >= maxAge:
		return append(b, 0)
	}
	return binary.AppendUvarint(b, uint64(m.Age))
}

func (r *reader) age(m *Message) {
	if m.aged() {
		if age := r.uint(); age < uint64(maxAge) {
			m.Age = time.Duration(age)
		}
	}
}

// check reports whether m has what its kind needs and stays within the limits of the format.
func check(m *Message) error {
	if m.Routed && m.Kind != Tell && m.Kind != Progress {
		return errors.New("routed, but not told")
	}
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
		if m.Routed && len(o.Rooms) != 1 {
			return errors.New("routed, but not to one room")
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
	case Missing, Again, Direct:
		if m.To == "" {
			return errors.New("for no node")
		}
	case Progress:
		if m.To == "" && (!m.Routed || len(m.Marks) != 1) {
			return errors.New("for no node and no room")
		}
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
	b = appendStrings(b, o.Attachments)
	return append(b, byte(o.Fields))
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
	o.Fields = Fields(r.byte())
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
