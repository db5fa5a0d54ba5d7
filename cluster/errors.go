package cluster

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrClosed is what a node's methods return after its Close.
	ErrClosed = errors.New("cluster: the node is closed")

	// ErrDelayed is wrapped by the error of a Tell whose operation is not on its way yet: the node keeps it,
	// and it will be delivered in its place when the bus is back, if it still fits
	// into Options.Resend then. The caller need not tell it again.
	ErrDelayed = errors.New("cluster: not on its way yet, but kept: it will be delivered when the bus is back")

	// ErrUnsupported is wrapped by the error of a Dialect that cannot carry a message.
	ErrUnsupported = errors.New("cluster: the format of this cluster cannot carry it")

	// ErrTrimmed is wrapped by the errors of a Log that no longer keeps what was asked for.
	ErrTrimmed = errors.New("cluster: the log no longer keeps everything behind that place")

	// ErrTooLarge is wrapped by the error of a Bus that cannot carry a message of that size.
	ErrTooLarge = errors.New("cluster: the message is too large for the bus")
)

// An AbsentError is the end of a question that not all answered. The answers that
// came were yielded before it.
type AbsentError struct {
	// Nodes are the known nodes of which no answer, or not all answers, came: for each
	// "name (id)". Nodes that died while they were waited for are among them.
	Nodes []string
	// Unnamed is how many more nodes did not answer, of those that do not tell their
	// names (Node.js nodes on Redis).
	Unnamed int
	// Acks is how many clients' acks nodes had promised that did not come (EmitAck).
	Acks int
	// Err is why the wait ended: the context's error at the deadline, what the bus said
	// when the question could not be sent, nil when the missing nodes are all dead.
	Err error
}

func (e *AbsentError) Error() string {
	var b strings.Builder
	b.WriteString("cluster: ")
	switch n := len(e.Nodes) + e.Unnamed; {
	case n == 1:
		b.WriteString("1 node did not answer")
	case n > 1:
		fmt.Fprintf(&b, "%d nodes did not answer", n)
	case e.Acks > 0:
		fmt.Fprintf(&b, "%d acks did not come", e.Acks)
	default:
		b.WriteString("the question was not answered")
	}
	if len(e.Nodes) > 0 {
		b.WriteString(": ")
		b.WriteString(strings.Join(e.Nodes, ", "))
		if e.Unnamed > 0 {
			fmt.Fprintf(&b, " and %d without a name", e.Unnamed)
		}
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

func (e *AbsentError) Unwrap() error { return e.Err }
