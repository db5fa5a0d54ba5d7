package engine

import (
	"errors"
	"fmt"
)

// ErrClosed is returned by calls on a session that has ended, or is about to.
var ErrClosed = errors.New("engine: session closed")

// The reasons for which a session ends, in the words of the official server.
const (
	ReasonTransportClose = "transport close"      // the client went, or its connection did
	ReasonTransportError = "transport error"      // the client broke the rules of its transport, or a limit
	ReasonPingTimeout    = "ping timeout"         // no pong within [Options.PingTimeout]
	ReasonParseError     = "parse error"          // a packet that is none
	ReasonForcedClose    = "forced close"         // [Conn.Close]
	ReasonShutdown       = "server shutting down" // [Server.Shutdown] or [Server.Close]
	ReasonMoved          = "moved"                // [Server.Release]: the session goes on, on another server
)

// A CloseError says why a session ended. It is the cause that [Handler].Closed gets.
type CloseError struct {
	Reason string // one of the Reason constants, or what the caller of [Conn.Close] put there
	Code   int    // the code of the WebSocket close frame that the client sent; 0 where there was none
	Err    error  // what lies behind, such as a *LimitError; may be nil
}

func (e *CloseError) Error() string {
	switch {
	case e.Err != nil:
		return e.Reason + ": " + e.Err.Error()
	case e.Code != 0:
		return fmt.Sprintf("%s (code %d)", e.Reason, e.Code)
	}
	return e.Reason
}

// Unwrap returns what lies behind the reason.
func (e *CloseError) Unwrap() error { return e.Err }

// The things that have limits.
const (
	LimitPayload   = "payload"   // bytes of one message (WebSocket) or one body (polling): [Options.MaxPayload]
	LimitQueue     = "queue"     // bytes that wait for a client which does not take them: [Options.MaxQueue]
	LimitFragments = "fragments" // frames of one WebSocket message
)

// A LimitError says which limit was broken. A session that breaks one ends with
// [ReasonTransportError] and a LimitError behind it.
type LimitError struct {
	What  string // one of the Limit constants
	Limit int    // what is allowed; bytes, or a number of frames
	Got   int    // what came, or what it would have become
}

func (e *LimitError) Error() string {
	switch e.What {
	case LimitPayload:
		return fmt.Sprintf("payload of %d bytes exceeds MaxPayload (%d)", e.Got, e.Limit)
	case LimitQueue:
		return fmt.Sprintf("client is too slow: %d bytes would wait for it, MaxQueue is %d", e.Got, e.Limit)
	}
	return fmt.Sprintf("%d %s exceed the limit of %d", e.Got, e.What, e.Limit)
}

// asCloseError makes the cause that Close was given a CloseError.
func asCloseError(cause error) *CloseError {
	if e, ok := errors.AsType[*CloseError](cause); ok {
		return e
	}
	return &CloseError{Reason: ReasonForcedClose, Err: cause}
}
