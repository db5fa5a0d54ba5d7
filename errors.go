package atoll

import (
	"errors"
	"fmt"
	"time"

	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/protocol"
)

// ErrClosed is returned by what is asked of a socket or server that is gone.
var ErrClosed = errors.New("atoll: closed")

// ErrNoReply is returned by Event.Reply where the client did not ask for an ack, or got one already.
var ErrNoReply = errors.New("atoll: the sender expects no reply")

// A ConnectError refuses a connection to a namespace. Return it from a middleware or
// from OnConnect: the client's connect_error event carries Message and Data. Of any
// other error the client hears only that it was refused; the error itself is logged.
//
// See https://socket.io/docs/v4/socket-io-protocol/#connection-to-a-namespace
type ConnectError struct {
	Message string
	Data    any // encoded as JSON; nil for none
}

func (e *ConnectError) Error() string { return "atoll: connection refused: " + e.Message }

// A ReplyError, returned by a handler, answers the client's ack with Args: the way to
// say no in words of the application. Where no ack was asked for, it is logged as any error.
type ReplyError struct{ Args []any }

func (e *ReplyError) Error() string { return fmt.Sprint("atoll: answered with ", e.Args) }

// The reasons for the end of a socket, as the official server names them.
//
// See https://socket.io/docs/v4/server-socket-instance/#disconnect
const (
	ReasonTransportClose   = engine.ReasonTransportClose   // the connection was closed by the client or the network
	ReasonTransportError   = engine.ReasonTransportError   // the connection broke, or the client broke a limit
	ReasonPingTimeout      = engine.ReasonPingTimeout      // no pong came in time
	ReasonParseError       = engine.ReasonParseError       // the client sent what is no packet
	ReasonClientDisconnect = "client namespace disconnect" // the client left the namespace
	ReasonServerDisconnect = "server namespace disconnect" // Socket.Disconnect
	ReasonForcedClose      = engine.ReasonForcedClose      // the session was closed by the server
	ReasonShutdown         = engine.ReasonShutdown         // Server.Shutdown or Close
)

// A DisconnectError says why a socket ended. It is what OnDisconnect gets and what
// context.Cause of the socket's context gives.
type DisconnectError struct {
	Reason string // one of the Reason constants
	Err    error  // what lies below, where there is more to tell: an *engine.CloseError, a *LimitError
}

func (e *DisconnectError) Error() string {
	if e.Err == nil {
		return "atoll: disconnected: " + e.Reason
	}
	return "atoll: disconnected: " + e.Reason + ": " + e.Err.Error()
}

func (e *DisconnectError) Unwrap() error { return e.Err }

// A LimitError says which limit a client went over.
type LimitError struct {
	What  string // the name of the option
	Limit int
	Got   int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s is %d, got %d", e.What, e.Limit, e.Got)
}

// An IdleError is the cause of a session that was closed because it was in no namespace.
type IdleError struct{ After time.Duration }

func (e *IdleError) Error() string {
	return fmt.Sprintf("in no namespace for %v (Options.ConnectTimeout)", e.After)
}

var (
	errAskEarly     = errors.New("atoll: a middleware cannot ask its client, which is not connected yet; ask in OnConnect")
	errNotConnected = errors.New("packet for a namespace before CONNECT")
	errTwice        = errors.New("CONNECT to a namespace that the client is in already")
	errPanicked     = errors.New("panic in OnConnect or a middleware")
	errDirection    = errors.New("packet of a type that only servers send")
)

// disconnectCause says in Socket.IO's words how a session ended.
func disconnectCause(cause error) *DisconnectError {
	if e, ok := errors.AsType[*engine.CloseError](cause); ok {
		return &DisconnectError{Reason: e.Reason, Err: cause}
	}
	return &DisconnectError{Reason: ReasonTransportError, Err: cause}
}

// connectErrorData is the JSON of CONNECT_ERROR.
func connectErrorData(err error) []byte {
	refusal := struct {
		Message string `json:"message"`
		Data    any    `json:"data,omitempty"`
	}{Message: "connection refused"}
	if e, ok := errors.AsType[*ConnectError](err); ok {
		refusal.Message, refusal.Data = e.Message, e.Data
	}
	data, _, err := event.Append(nil, nil, refusal)
	if err != nil {
		refusal.Data = nil
		data, _, _ = event.Append(nil, nil, refusal)
	}
	return data
}

// A PartialError ends the answers of AskAll, Fetch or Count when some are missing.
type PartialError struct {
	Missing int   // clients of this node that did not answer
	Err     error // context.Cause of what ended the waiting, or what other nodes did not give (*cluster.AbsentError)
}

func (e *PartialError) Error() string {
	switch {
	case e.Missing == 0:
		return fmt.Sprintf("atoll: not all answered: %v", e.Err)
	case e.Err == nil:
		return fmt.Sprintf("atoll: not all answered: %d clients of this node did not", e.Missing)
	}
	return fmt.Sprintf("atoll: not all answered: %d clients of this node did not: %v", e.Missing, e.Err)
}

func (e *PartialError) Unwrap() error { return e.Err }

// checkName refuses the event names that neither side may send.
//
// See https://socket.io/docs/v4/emit-cheatsheet/#reserved-events
func checkName(name string) error {
	if protocol.Reserved(name) {
		return fmt.Errorf("atoll: event name %q is reserved; choose another", name)
	}
	return nil
}

var (
	_ event.Emitter  = (*Socket)(nil)
	_ event.Asker    = (*Socket)(nil)
	_ event.Emitter  = Target{}
	_ event.AllAsker = Target{}
	_ event.Emitter  = (*Namespace)(nil)
	_ event.AllAsker = (*Namespace)(nil)
	_ event.Emitter  = ServerSide{}
	_ event.AllAsker = ServerSide{}
)
