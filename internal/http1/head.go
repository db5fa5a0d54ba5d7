package http1

import "bytes"

// A Name says which header a field is, where that matters to a proxy.
type Name uint8

// The names. HopByHop are those of one connection that need no further look.
const (
	Other Name = iota
	HopByHop
	Connection
	ContentEncoding
	ContentLength
	Date
	Expect
	Forwarded
	Host
	Origin
	SecWebSocketAccept
	SecWebSocketKey
	Trailer
	TransferEncoding
	Upgrade
	AcceptEncoding
	AtollNode
	XForwardedFor
	XForwardedHost
	XForwardedProto
)

// nameOf returns which header name is.
func nameOf(name []byte) Name {
	switch len(name) {
	case 2:
		if equal(name, "te") {
			return HopByHop
		}
	case 4:
		switch {
		case equal(name, "host"):
			return Host
		case equal(name, "date"):
			return Date
		}
	case 6:
		switch {
		case equal(name, "expect"):
			return Expect
		case equal(name, "origin"):
			return Origin
		}
	case 7:
		switch {
		case equal(name, "upgrade"):
			return Upgrade
		case equal(name, "trailer"):
			return Trailer
		}
	case 9:
		if equal(name, "forwarded") {
			return Forwarded
		}
	case 10:
		switch {
		case equal(name, "connection"):
			return Connection
		case equal(name, "keep-alive"):
			return HopByHop
		case equal(name, "atoll-node"):
			return AtollNode
		}
	case 14:
		switch {
		case equal(name, "content-length"):
			return ContentLength
		case equal(name, "http2-settings"):
			return HopByHop
		}
	case 15:
		switch {
		case equal(name, "x-forwarded-for"):
			return XForwardedFor
		case equal(name, "accept-encoding"):
			return AcceptEncoding
		}
	case 16:
		switch {
		case equal(name, "x-forwarded-host"):
			return XForwardedHost
		case equal(name, "content-encoding"):
			return ContentEncoding
		case equal(name, "proxy-connection"):
			return HopByHop
		}
	case 17:
		switch {
		case equal(name, "transfer-encoding"):
			return TransferEncoding
		case equal(name, "x-forwarded-proto"):
			return XForwardedProto
		case equal(name, "sec-websocket-key"):
			return SecWebSocketKey
		}
	case 18:
		if equal(name, "proxy-authenticate") {
			return HopByHop
		}
	case 19:
		if equal(name, "proxy-authorization") {
			return HopByHop
		}
	case 20:
		if equal(name, "sec-websocket-accept") {
			return SecWebSocketAccept
		}
	}
	return Other
}

// A Field is a header line. Its bytes are those of the head it was parsed from.
type Field struct {
	Name  []byte // as it was sent
	Value []byte // without spaces around it
	Is    Name
}

// A Head is what requests and answers have in common. It can be used again for the next message.
type Head struct {
	Fields  []Field
	Old     bool     // HTTP/1.0
	Length  int64    // of the body by Content-Length; -1 where there is none
	Chunked bool     // the body comes in chunks
	Close   bool     // the sender closes the connection after this message
	Keep    bool     // and this says explicitly that it does not
	Upgrade bool     // Connection has the token upgrade
	named   [][]byte // other headers that Connection names
}

// Get returns the first value of the header n, which is not Other.
func (h *Head) Get(n Name) []byte {
	for i := range h.Fields {
		if h.Fields[i].Is == n {
			return h.Fields[i].Value
		}
	}
	return nil
}

// Values returns copies of all values of the header with the given name, in order.
func (h *Head) Values(name string) (values []string) {
	for i := range h.Fields {
		if EqualFold(h.Fields[i].Name, []byte(name)) {
			values = append(values, string(h.Fields[i].Value))
		}
	}
	return values
}

// ForHop reports whether f is about this connection only, and so not to be passed on.
func (h *Head) ForHop(f *Field) bool {
	switch f.Is {
	case HopByHop, Connection, Trailer, TransferEncoding, Upgrade:
		return true
	}
	for _, name := range h.named {
		if EqualFold(name, f.Name) {
			return true
		}
	}
	return false
}

// HasToken reports whether a header n, which is not Other, lists the given token, which is in lower case.
func (h *Head) HasToken(n Name, token string) bool {
	for i := range h.Fields {
		if h.Fields[i].Is != n {
			continue
		}
		for rest := h.Fields[i].Value; len(rest) > 0; {
			var part []byte
			part, rest, _ = bytes.Cut(rest, []byte(","))
			if equal(trim(part), token) {
				return true
			}
		}
	}
	return false
}

var (
	crlf   = []byte("\r\n")
	ending = []byte("\r\n\r\n")
)

// End returns the length of the head that b begins with, the empty line included; 0 where it is
// not all there yet, and -1 where it has a line that ends otherwise than in CR LF. The first seen bytes were there in
// an earlier call.
func End(b []byte, seen int) int {
	from := max(0, seen-len(ending))
	if i := bytes.Index(b[from:], ending); i >= 0 {
		return from + i + len(ending)
	}
	for rest := b[from:]; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return 0
		}
		at := len(b) - len(rest) + i
		if at == 0 || b[at-1] != '\r' {
			return -1
		}
		rest = rest[i+1:]
	}
}

// fields parses header lines up to the empty one.
func (h *Head) fields(b []byte, most int) *Error {
	h.Fields, h.named = h.Fields[:0], h.named[:0]
	h.Length, h.Chunked, h.Close, h.Keep, h.Upgrade = -1, false, false, false, false
	for {
		i := bytes.IndexByte(b, '\r')
		if i < 0 || i+1 >= len(b) || b[i+1] != '\n' {
			return ErrHeader
		}
		line := b[:i]
		b = b[i+2:]
		if len(line) == 0 {
			if len(b) > 0 {
				return ErrHeader
			}
			return nil
		}
		if len(h.Fields) >= most {
			return ErrMany
		}
		colon := 0
		for colon < len(line) && class[line[colon]]&token != 0 {
			colon++
		}
		if colon == 0 || colon == len(line) || line[colon] != ':' {
			return ErrHeader
		}
		f := Field{Name: line[:colon:colon], Value: trim(line[colon+1:]), Is: nameOf(line[:colon])}
		if !all(f.Value, text) {
			return ErrHeader
		}
		h.Fields = append(h.Fields, f)
		if err := h.see(&f); err != nil {
			return err
		}
	}
}

// see draws the conclusions from one field that are the same in requests and answers.
func (h *Head) see(f *Field) *Error {
	switch f.Is {
	case ContentLength:
		n, ok := number(f.Value)
		if !ok || h.Length >= 0 || h.Chunked {
			return ErrLength
		}
		h.Length = n
	case TransferEncoding:
		if h.Length >= 0 {
			return ErrLength
		}
		if h.Chunked || !equal(f.Value, "chunked") || h.Old {
			return ErrCoding
		}
		h.Chunked = true
	case Connection:
		for rest := f.Value; len(rest) > 0; {
			var part []byte
			part, rest, _ = bytes.Cut(rest, []byte(","))
			if err := h.connection(trim(part)); err != nil {
				return err
			}
		}
	}
	return nil
}

// connection sees one option of the header Connection.
func (h *Head) connection(option []byte) *Error {
	switch {
	case len(option) == 0:
		return nil
	case !all(option, token):
		return ErrConnection
	case equal(option, "close"):
		h.Close = true
		return nil
	case equal(option, "keep-alive"):
		h.Keep = true
		return nil
	case equal(option, "upgrade"):
		h.Upgrade = true
		return nil
	}
	switch nameOf(option) {
	case ContentLength, Host, TransferEncoding, Expect:
		return ErrConnection // what frames a message is never for one hop alone
	case Other, Origin, Date, AtollNode, AcceptEncoding, ContentEncoding, SecWebSocketAccept, SecWebSocketKey, Forwarded:
		if len(h.named) >= 16 {
			return ErrConnection
		}
		h.named = append(h.named, option)
	}
	return nil
}
