package cluster

import (
	"strconv"
	"time"
)

// A Kind says what an Op does.
type Kind uint8

// The kinds of operations. Those that ask get answers; the others are told.
const (
	Emit       Kind = iota + 1 // send an event to the selected sockets
	JoinRooms                  // the selected sockets enter the rooms in Names
	LeaveRooms                 // the selected sockets leave the rooms in Names
	Disconnect                 // the selected sockets are disconnected; with Close, their connections too
	ServerEmit                 // call the server-side handlers of the other nodes
	EmitAck                    // asks: send an event, collect the acks of the clients
	Fetch                      // asks: describe the selected sockets
	Count                      // asks: how many sockets are selected
	Rooms                      // asks: the rooms that exist
	ServerAsk                  // asks: call the server-side handlers, collect one answer from each node
)

// Asks reports whether operations of this kind have answers.
func (k Kind) Asks() bool { return k >= EmitAck && k <= ServerAsk }

// Flags modify how an event is sent.
type Flags uint8

const (
	Volatile   Flags = 1 << iota // may be dropped where it would have to wait
	NoCompress                   // is not to be compressed
)

// Fields are the parts of a SocketInfo.
type Fields uint8

const (
	FieldID        Fields = 1 << iota // the id, which is always there; alone it asks for nothing else
	FieldRooms                        // SocketInfo.Rooms
	FieldHandshake                    // SocketInfo.Handshake
	FieldData                         // SocketInfo.Data
)

// Has reports whether a Fetch that asks for f wants all of want: f is 0 where it wants everything.
func (f Fields) Has(want Fields) bool { return f == 0 || f&want == want }

// A Selector says which sockets of a namespace an operation is for: those in any of
// Rooms (all, where Rooms is empty) that are in none of Except. A socket's id is a room.
type Selector struct {
	Rooms  []string
	Except []string
}

// An Op is one operation on the sockets of a namespace, as a value: a local call,
// another node's wish and an emitter's all are the same Op, and the server has one
// place that performs it. Whoever receives an Op may keep it, and must not change it.
type Op struct {
	Kind      Kind
	Namespace string
	Selector
	Flags Flags

	// Data is the JSON array of the event, its name first, for Emit, EmitAck,
	// ServerEmit and ServerAsk. Binary arguments are placeholders
	// {"_placeholder":true,"num":N} for Attachments[N].
	Data        []byte
	Attachments [][]byte

	Names   []string      // the rooms of JoinRooms and LeaveRooms
	Close   bool          // Disconnect: close the connection below too
	Timeout time.Duration // EmitAck, ServerAsk: how long answers are waited for; 0 where not known
	Fields  Fields        // Fetch: what is wanted of each socket; 0, as in all formats but Native, is everything

	// Offset is the operation's place in the log of the cluster; empty where it has none.
	// Whoever tells leaves it empty.
	Offset string
}

// An Answer is one answer to an Op that asks. A node gives exactly one answer with
// First set, and to EmitAck as many more as First promised in Clients. An answer to Fetch may come
// in parts where Node.Parts says so: First tells in Clients how many follow, each with Sockets.
type Answer struct {
	Node  string // who answers; empty where the format does not say
	First bool

	Clients     int          // EmitAck: how many acks will follow from this node; Count: the count; Fetch: how many parts will follow
	Sockets     []SocketInfo // Fetch
	Rooms       []string     // Rooms
	Data        []byte       // EmitAck: the JSON array of one client's ack; ServerAsk: of the node's answer
	Attachments [][]byte     // of Data
}

// A SocketInfo describes a socket of some node.
type SocketInfo struct {
	ID        string
	Rooms     []string
	Handshake []byte // JSON object, as the official server describes it; may be nil
	Data      []byte // JSON of the socket's data; may be nil
}

var kindNames = [...]string{
	Emit: "emit", JoinRooms: "join", LeaveRooms: "leave", Disconnect: "disconnect", ServerEmit: "server emit",
	EmitAck: "emit with acks", Fetch: "fetch", Count: "count", Rooms: "rooms", ServerAsk: "server ask",
}

// String returns the kind in words, for logs.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "unknown operation " + strconv.Itoa(int(k))
}
