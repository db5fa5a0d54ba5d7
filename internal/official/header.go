package official

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/internal/jsonx/scan"
)

// A Kind says what a message is.
type Kind int

// The kinds of messages, as they are numbered on the wire.
const (
	InitialHeartbeat   Kind = iota + 1 // "I am here, who else is?"; Postgres, and streams before 0.3
	Heartbeat                          // "I am here"
	Broadcast                          // an event for sockets, with a request id where acks are wanted
	SocketsJoin                        // sockets enter rooms
	SocketsLeave                       // sockets leave rooms
	DisconnectSockets                  // sockets are disconnected
	FetchSockets                       // a question: which sockets?
	FetchResponse                      // its answer
	ServerSideEmit                     // a server-side event, with a request id where answers are wanted
	ServerSideResponse                 // one answer to it
	ClientCount                        // how many acks will come from this node
	BroadcastAck                       // one of them
	AdapterClose                       // "I leave"
)

// IsResponse reports whether k answers a question.
func (k Kind) IsResponse() bool {
	return k == FetchResponse || k == ServerSideResponse || k == ClientCount || k == BroadcastAck
}

// IsPresence reports whether k only says that a node is there or leaves; such messages have no data.
func (k Kind) IsPresence() bool {
	return k == InitialHeartbeat || k == Heartbeat || k == AdapterClose
}

// A Header is what stands around the data of a message.
type Header struct {
	Kind      Kind
	UID       string // who sends it: cluster.Emitter for emitters
	Namespace string // empty where the message does not say
	Life      uint64 // of the sender; 0 where the message has no number
	Number    uint64 // of the message in its lane; 0 where it has none

	// Attachment names the row that holds the whole message (Postgres); empty where this is the message.
	Attachment string
}

// HeaderOf returns the header that m is written with. An m that the format does not know is
// refused with an error that wraps cluster.ErrUnsupported.
func HeaderOf(m *cluster.Message) (Header, error) {
	h := Header{UID: m.From, Namespace: namespaceOf(m)}
	if m.Number > 0 {
		h.Life, h.Number = m.Life, m.Number
	}
	switch m.Kind {
	case cluster.Tell, cluster.Ask:
		if m.Op == nil || m.Op.Kind.Asks() != (m.Kind == cluster.Ask) || m.Kind == cluster.Ask && m.Request == "" {
			return h, fmt.Errorf("official: a message without its operation or its id: %w", cluster.ErrUnsupported)
		}
		h.Kind = kindOfOp[min(int(m.Op.Kind), len(kindOfOp)-1)]
	case cluster.Reply:
		if m.Answer == nil {
			return h, fmt.Errorf("official: a reply without its answer: %w", cluster.ErrUnsupported)
		}
		h.Kind = kindOfAnswer(m)
	}
	if h.Kind == 0 {
		return h, fmt.Errorf("official: a message of kind %d: %w", m.Kind, cluster.ErrUnsupported)
	}
	return h, nil
}

var kindOfOp = [...]Kind{
	cluster.Emit: Broadcast, cluster.JoinRooms: SocketsJoin, cluster.LeaveRooms: SocketsLeave,
	cluster.Disconnect: DisconnectSockets, cluster.ServerEmit: ServerSideEmit, cluster.EmitAck: Broadcast,
	cluster.Fetch: FetchSockets, cluster.Count: FetchSockets, cluster.Rooms: FetchSockets,
	cluster.ServerAsk: ServerSideEmit, cluster.ServerAsk + 1: 0,
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

// AppendJSON appends the header alone: all of a message of presence, and with Attachment what
// stands for a message that lies in a row.
func (h Header) AppendJSON(dst []byte) []byte {
	if h.Attachment != "" {
		dst = scan.AppendString(append(dst, `{"uid":`...), h.UID)
		dst = strconv.AppendInt(append(dst, `,"type":`...), int64(h.Kind), 10)
		dst = scan.AppendString(append(dst, `,"attachmentId":`...), h.Attachment)
		return append(dst, '}')
	}
	dst = strconv.AppendInt(append(dst, `{"type":`...), int64(h.Kind), 10)
	return h.appendTail(dst)
}

// appendTail appends what stands behind the data.
func (h Header) appendTail(dst []byte) []byte {
	dst = scan.AppendString(append(dst, `,"uid":`...), h.UID)
	dst = scan.AppendString(append(dst, `,"nsp":`...), h.Namespace)
	if h.Number > 0 {
		dst = append(h.appendMark(append(dst, `,"`+MarkField+`":"`...)), '"')
	}
	return append(dst, '}')
}

// MarkField is the name of the field that holds the place of a message in its sender's sequence,
// which Node.js nodes do not read.
const MarkField = "atoll"

// Mark returns the value of MarkField; it is empty where the message has no number.
func (h Header) Mark() string {
	if h.Number == 0 {
		return ""
	}
	return string(h.appendMark(nil))
}

func (h Header) appendMark(dst []byte) []byte {
	dst = strconv.AppendUint(dst, h.Life, 16)
	return strconv.AppendUint(append(dst, '.'), h.Number, 16)
}

// SetMark sets Life and Number from the value of MarkField.
func (h *Header) SetMark(mark string) error {
	life, number, ok := strings.Cut(mark, ".")
	l, err1 := strconv.ParseUint(life, 16, 64)
	n, err2 := strconv.ParseUint(number, 16, 64)
	if !ok || err1 != nil || err2 != nil || n == 0 {
		return errors.New("a sequence number that is none")
	}
	h.Life, h.Number = l, n
	return nil
}
