package client

import (
	"errors"
	"fmt"

	"github.com/atollhq/atoll/event"
)

// ErrClosed is returned by what is asked of a Socket after Close.
var ErrClosed = errors.New("client: closed")

// ErrBufferFull is returned by Emit and Ask where more bytes than Options.MaxBuffer
// would have to wait.
var ErrBufferFull = errors.New("client: too much waits to be sent (Options.MaxBuffer)")

// ErrTooLarge is returned by Emit and Ask where the server has said that it would not take such a
// large message.
var ErrTooLarge = errors.New("client: larger than the server's maxPayload")

// ErrNoReply is returned by Event.Reply where the server did not ask for an ack, or got one already.
var ErrNoReply = errors.New("client: the sender expects no reply")

// ErrAckTimeout is returned by Ask where no answer came within Options.AckTimeout.
var ErrAckTimeout = errors.New("client: no answer in time (Options.AckTimeout)")

// ErrGaveUp ends a Socket after Options.ReconnectAttempts failures.
var ErrGaveUp = errors.New("client: gave up reconnecting (Options.ReconnectAttempts)")

// A ConnectError is the server's refusal to let the client into the namespace.
type ConnectError struct {
	Namespace string
	Message   string
	Data      event.Args // one argument where the server gave data, none otherwise
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("client: the server refuses the namespace %s: %s", e.Namespace, e.Message)
}

// A StatusError is an answer of the server, or of what stands before it, with which no
// connection can be made or kept.
type StatusError struct {
	Status  int    // of HTTP
	Code    int    // of Engine.IO, with Message
	Message string // may be empty
}

func (e *StatusError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("client: HTTP status %d", e.Status)
	}
	return fmt.Sprintf("client: HTTP status %d: %s", e.Status, e.Message)
}

// The reasons for the end of a connection, as the official client names them.
//
// See https://socket.io/docs/v4/client-socket-instance/#disconnect
const (
	ReasonServerDisconnect = "io server disconnect" // the server put the client out of the namespace; it does not come back by itself
	ReasonClientDisconnect = "io client disconnect" // Disconnect, or Close
	ReasonPingTimeout      = "ping timeout"         // the server sent no ping in time
	ReasonTransportClose   = "transport close"      // the connection was closed
	ReasonTransportError   = "transport error"      // the connection broke
	ReasonParseError       = "parse error"          // the server sent what is no packet
)

// A DisconnectError says why a Socket is no longer connected. OnDisconnect gets it, and
// Ask where the connection ends before the answer.
type DisconnectError struct {
	Reason string // one of the Reason constants
	Err    error  // what lies below, where there is more to tell
}

func (e *DisconnectError) Error() string {
	if e.Err == nil {
		return "client: disconnected: " + e.Reason
	}
	return "client: disconnected: " + e.Reason + ": " + e.Err.Error()
}

func (e *DisconnectError) Unwrap() error { return e.Err }

// Active reports whether the client connects again by itself after this, unless Options.DisableReconnect says otherwise.
func (e *DisconnectError) Active() bool {
	return e.Reason != ReasonServerDisconnect && e.Reason != ReasonClientDisconnect
}
