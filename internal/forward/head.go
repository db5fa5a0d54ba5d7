package forward

import (
	"crypto/tls"
	"encoding/binary"
	"net/http"
	"net/url"
	"strings"
)

// The payload of a request's head:
//
//	flags, hops, protocol (1 byte each; the protocol's numbers are its two halves), content length (signed varint),
//	headers (varint: how many values), size (varint) of
//	  method, request URI, host, remote address, then for each value: name, value (strings)
//	the body, as far as it is there
//
// and of an answer's:
//
//	flags (1 byte), status (2 bytes), headers, size of
//	  for each value: name, value
//	the body, as far as it is there
//
// A string is its length and its bytes, and lengths are unsigned varints.

// A requestHead is the head of a request as it came.
type requestHead struct {
	flags, hops, proto         byte
	length                     int64
	method, uri, host, address string
	header                     http.Header
	body                       []byte // in the memory of the frame
}

// hopByHop are headers that are between a client and the node that it talks to. Connection and Upgrade stay where
// the request asks for a change of protocol.
func hopByHop(name string, upgrade bool) bool {
	switch name {
	case "Connection", "Upgrade":
		return !upgrade
	case "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding":
		return true
	}
	return false
}

// appendRequest writes the head of r.
func appendRequest(b []byte, r *http.Request, flags, hops byte, scratch []byte) []byte {
	if r.TLS != nil {
		flags |= flagTLS
	}
	b = append(b, flags, hops, byte(r.ProtoMajor<<4|r.ProtoMinor&15))
	b = binary.AppendVarint(b, r.ContentLength)
	s := appendString(scratch[:0], r.Method)
	uri := r.RequestURI
	if uri == "" && r.URL != nil {
		uri = r.URL.RequestURI()
	}
	s = appendString(s, uri)
	s = appendString(s, r.Host)
	s = appendString(s, r.RemoteAddr)
	s, n := appendHeader(s, r.Header, len(r.Header["Upgrade"]) > 0)
	b = binary.AppendUvarint(b, uint64(n))
	return appendString(b, s)
}

func appendHeader(s []byte, h http.Header, upgrade bool) (_ []byte, n int) {
	for name, values := range h {
		if hopByHop(name, upgrade) {
			continue
		}
		for _, v := range values {
			s = appendString(appendString(s, name), v)
			n++
		}
	}
	return s, n
}

// readRequest reads the payload of a request's head. All its strings share one piece of memory.
func readRequest(payload []byte) (h requestHead, err error) {
	r := reader{b: payload}
	h.flags, h.hops, h.proto = r.byte(), r.byte(), r.byte()
	h.length = r.int()
	n := r.uint()
	block := r.string()
	h.body = r.b
	if r.err != nil || h.length < -1 {
		return h, errMalformed
	}
	for _, s := range [...]*string{&h.method, &h.uri, &h.host, &h.address} {
		var ok bool
		if *s, block, ok = cutString(block); !ok {
			return h, errMalformed
		}
	}
	h.header, err = readHeader(make(http.Header, min(n, 64)), block, n)
	return h, err
}

// readHeader adds n values in block to h, in place of those with the same name.
func readHeader(h http.Header, block string, n uint64) (http.Header, error) {
	if n > uint64(len(block))/2 {
		return nil, errMalformed
	}
	values := make([]string, n)
	last, from := "", 0
	for i := range values {
		var name string
		var ok bool
		if name, block, ok = cutString(block); !ok {
			return nil, errMalformed
		}
		if values[i], block, ok = cutString(block); !ok {
			return nil, errMalformed
		}
		if i == 0 || name != last {
			last, from = name, i
		}
		h[name] = values[from : i+1 : i+1]
	}
	if block != "" {
		return nil, errMalformed
	}
	return h, nil
}

// encrypted is the state of every connection to another node that was encrypted.
var encrypted = &tls.ConnectionState{HandshakeComplete: true}

// parseURI is what net/http makes of the URI of a request.
func parseURI(uri string) (*url.URL, error) {
	if !strings.HasPrefix(uri, "/") || strings.HasPrefix(uri, "//") {
		return url.ParseRequestURI(uri)
	}
	for i := range len(uri) {
		if c := uri[i]; c == '%' || c == '#' || c <= ' ' || c >= 0x7f {
			return url.ParseRequestURI(uri)
		}
	}
	path, query, ok := strings.Cut(uri, "?")
	return &url.URL{Path: path, RawQuery: query, ForceQuery: ok && query == ""}, nil
}

// An answerHead is the head of an answer as it came.
type answerHead struct {
	flags  byte
	status int
	body   []byte // in the memory of the frame
}

func appendAnswer(b []byte, flags byte, status int, h http.Header, scratch []byte) []byte {
	b = append(b, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(status))
	s, n := appendHeader(scratch[:0], h, true)
	b = binary.AppendUvarint(b, uint64(n))
	return appendString(b, s)
}

// readAnswer reads the payload of an answer's head. It sets the headers in h, unless that is nil.
func readAnswer(payload []byte, h http.Header) (a answerHead, err error) {
	r := reader{b: payload}
	a.flags, a.status = r.byte(), r.uint16()
	n, block := r.uint(), r.take(r.uint())
	a.body = r.b
	if r.err != nil || a.flags&flagRaw == 0 && (a.status < 200 || a.status > 999) {
		return a, errMalformed
	}
	if h != nil {
		_, err = readHeader(h, string(block), n)
	}
	return a, err
}
