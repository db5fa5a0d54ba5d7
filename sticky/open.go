package sticky

import "bytes"

// maxOpen is how much of an answer is searched for a session id, in bytes.
const maxOpen = 512

// openedID returns the session id in the packet "open", which body begins with, as far as it
// has arrived. It reads the payloads of protocol 4 and 3 and the script that wraps the latter.
//
// See https://github.com/socketio/socket.io/blob/main/docs/engine.io-protocol/v4-current.md#handshake
func openedID(body []byte) (string, bool) {
	_, rest, ok := bytes.Cut(body, []byte("sid"))
	if !ok || len(rest) == 0 || rest[0] != '"' && rest[0] != '\\' {
		return "", false
	}
	rest = bytes.TrimLeft(rest, "\\\": \t\r\n")
	end := bytes.IndexAny(rest, "\"\\")
	if end <= 0 || end > maxSID {
		return "", false
	}
	return string(rest[:end]), true
}
