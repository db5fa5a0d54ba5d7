package cluster

import (
	"context"
	"time"
)

// A MessageKind says what a Message is.
type MessageKind uint8

const (
	Tell      MessageKind = iota + 1 // an Op that nobody answers
	Ask                              // an Op that asks
	Reply                            // an Answer
	Heartbeat                        // "I am here"; who does not know the sender answers with its own
	Goodbye                          // "I leave"
	Missing                          // asks one sender for what did not come, or for how far it is
	Again                            // the answer to Missing: what was asked for, as far as it is kept
	Progress                         // tells how far the sender is on lanes that not all listen to
	Direct                           // Data for one node, which only its receiver understands
)

// A Message is what one node says to others.
type Message struct {
	Kind      MessageKind
	From      string // the sending node; empty where the format does not say (emitters)
	To        string // Reply: the node that asked; Missing, Again, Progress, Direct: the only node it is for
	Request   string // Ask, Reply: which question
	Namespace string // Tell, Ask, Reply

	// Routed says that the message is for one room and goes where that room has members, by
	// the topic that Router.Route names, instead of to all. A Tell that has To set too goes to
	// that one node, which has all members of the room there are; then ToLife is the
	// node's Life.
	Routed bool
	ToLife uint64
	// Age is how long before this message the first of its lane was sent, where it is routed to a room and
	// that is less than a minute; otherwise 0. A Tell and a Progress have it, so that who listened
	// before knows that it missed the first.
	Age time.Duration
	// Offset is the place of a Tell in the bus's Log; set by the Node that receives it.
	Offset string

	// Life tells the lives of a sender apart: a random number that it keeps from its
	// start to its end; 0 where the format has none.
	Life uint64
	// Number counts. Tell, Ask: the sender's messages to all, from 1, so that gaps and
	// repetitions are seen. Heartbeat: the number the next of them will have. Reply: the
	// sender's answers to this question, from 1. It is 0 where the format has no numbers.
	Number uint64

	Op     *Op     // Tell, Ask
	Answer *Answer // Reply
	Member *Member // Heartbeat

	// Marks tell how far the sender's lanes are. Heartbeat: those that changed since the last ones; with
	// AllMarks, all that were ever used and are for all nodes. Goodbye, Progress: likewise. Again: the
	// lanes that were asked for.
	Marks    []Mark
	AllMarks bool
	// Spans are runs of numbers. Missing: what is asked for; a span that ends before it begins
	// asks for no message but for the lane's Mark. Again: what is not in Parts.
	Spans []Span
	// Parts are the messages of an Again.
	Parts []Part

	Data []byte // Direct
}

// A Mark says how far a sender is on a lane: all numbers below Next were used.
type Mark struct {
	Lane string
	Next uint64
}

// A Span is a run of the numbers of a sender on a lane. In an Again the messages will not come:
// they are no longer kept, or, with Void, there never were any with these numbers, so that none was lost. With
// Coming they are still on their way.
type Span struct {
	Lane        string
	First, Last uint64
	Void        bool
	Coming      bool
}

// A Part is a Tell or an Ask that is sent again: its kind and its body, as Native writes them.
type Part struct {
	Lane   string
	Number uint64
	Data   []byte
}

// A Dialect is how messages are written. It holds no rooms, no sockets and no logic:
// it translates. Its methods may be called by any number of goroutines at once.
type Dialect interface {
	// Topics names what a node subscribes to: for one namespace, or once for the whole
	// cluster where namespace is empty.
	Topics(node, namespace string) []string

	// Encode writes m and says where it is to be published.
	// An m that the format cannot carry is refused with an error that wraps ErrUnsupported.
	Encode(m *Message) (topic string, data []byte, err error)

	// Decode reads what came on topic to node. It returns nil and no error for what is not
	// for that node: its own messages, another's answers. (Its own heartbeats it may return:
	// so a node finds out that another has the same id.) The message may keep data.
	// Where node is empty it reads for everybody: it returns the messages of all nodes,
	// with From set where the format tells it. So what a Log keeps is read.
	//
	// data is whatever somebody published: Decode returns an error for what it does not
	// understand, never panics, and keeps what it allocates in proportion to len(data).
	Decode(node, topic string, data []byte) (*Message, error)
}

// An Expecter is a Dialect spoken by nodes that do not announce themselves to us. Expect
// says how many nodes besides the given one will answer a question in a namespace. Where node
// is empty an observer asks, which is not among those that are counted (see Observable).
type Expecter interface {
	Expect(ctx context.Context, bus Bus, node, namespace string) (int, error)
}

// An Observable is a Dialect whose nodes count each other by their subscriptions, or that can
// show all namespaces at once. Where a dialect is no Observable, an observer (Options.Observer)
// subscribes to what Topics names.
type Observable interface {
	// ObserverTopics names what an observer subscribes to instead of Topics: where namespace is empty, once,
	// all operations of all namespaces if the medium can (by patterns); for one namespace, what it
	// takes besides to hear the answers to its questions there, and its operations if the first could not.
	// No subscription to them may be counted by Expect, a Node.js node's or ours, and none may
	// bring a message twice.
	ObserverTopics(node, namespace string) []string
}

// A Router is a Dialect that can send what is for one room only to the nodes where the room
// has members.
type Router interface {
	// Route names the topic that a node subscribes to while it has members of a room; it
	// is empty for rooms whose messages go to all nodes.
	Route(namespace, room string) string
}

// A Laner is a Dialect whose messages are numbered in several sequences, called lanes. Who receives
// one message of a lane receives all that follow on it, until it unsubscribes. Where a
// dialect is no Laner and numbers its messages at all, they are one lane.
type Laner interface {
	// Lane names the lane of a Tell or an Ask: of one to be encoded as of one that was decoded.
	Lane(m *Message) string
}
