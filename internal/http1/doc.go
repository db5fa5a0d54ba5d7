// Package http1 reads the heads and the chunked bodies of HTTP/1.1, strictly: what two
// programs could understand differently is an error. It does no I/O, copies nothing, and
// keeps nothing. The rules are those of https://www.rfc-editor.org/rfc/rfc9112, without
// everything that it only tolerates: lines end in CR LF, headers are not folded, a message has
// one length.
package http1

// An Error says why a message is refused.
type Error struct {
	Status int    // what a server answers to such a request
	Text   string // for people
}

func (e *Error) Error() string { return "http1: " + e.Text }

// The errors.
var (
	ErrLine       = &Error{400, "the request line is not proper"}
	ErrMethod     = &Error{400, "the method is not proper"}
	ErrRefused    = &Error{405, "the method is not allowed"}
	ErrTarget     = &Error{400, "the target is not proper"}
	ErrVersion    = &Error{505, "the version of HTTP is not 1.0 or 1.1"}
	ErrStatus     = &Error{502, "the status line is not proper"}
	ErrHeader     = &Error{400, "a header line is not proper"}
	ErrHost       = &Error{400, "the host is missing, given twice, or not proper"}
	ErrConnection = &Error{400, "the header Connection is not proper"}
	ErrLength     = &Error{400, "the length of the body is not proper"}
	ErrCoding     = &Error{400, "the transfer coding is not chunked alone"}
	ErrExpect     = &Error{417, "what is expected cannot be had"}
	ErrMany       = &Error{431, "there are too many header lines"}
	ErrChunk      = &Error{400, "a chunk is not proper"}
	ErrTrailer    = &Error{400, "the trailer is not proper or too long"}
)
