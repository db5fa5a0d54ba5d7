package http1

import "bytes"

// A Request is the head of a request. Its bytes are those it was parsed from.
type Request struct {
	Head
	Method    []byte
	Target    []byte // in origin form, or * for OPTIONS
	Host      []byte // empty where an HTTP/1.0 client names none
	WebSocket bool   // asks for a WebSocket
	Continue  bool   // waits for 100 before it sends its body
}

// methods that no proxy passes on without being asked to.
var refused = []string{"connect", "trace"}

// framing are headers that say where a message ends, and so cannot come behind it.
var framing = []string{"content-length", "trailer", "transfer-encoding"}

// Parse reads b, which is a whole head as End found it. At most so many header lines are allowed. Empty lines
// before it must have been taken away.
func (r *Request) Parse(b []byte, most int) *Error {
	r.Method, r.Target, r.Host, r.WebSocket, r.Continue, r.Old = nil, nil, nil, false, false, false
	line, rest, ok := bytes.Cut(b, crlf)
	if !ok {
		return ErrLine
	}
	method, line, ok1 := bytes.Cut(line, []byte(" "))
	aim, version, ok2 := bytes.Cut(line, []byte(" "))
	if !ok1 || !ok2 || len(aim) == 0 {
		return ErrLine
	}
	if len(method) == 0 || len(method) > 32 || !all(method, token) {
		return ErrMethod
	}
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		r.Old = true
	default:
		if len(version) == 8 && bytes.HasPrefix(version, []byte("HTTP/")) && version[6] == '.' {
			return ErrVersion
		}
		return ErrLine
	}
	for _, m := range refused {
		if equal(method, m) {
			return ErrRefused
		}
	}
	if !all(aim, target) {
		return ErrTarget
	}
	r.Method = method
	if err := r.fields(rest, most); err != nil {
		return err
	}
	hosts := 0
	for i := range r.Fields {
		switch f := &r.Fields[i]; f.Is {
		case Host:
			hosts++
			r.Host = f.Value
			if len(f.Value) > 0 && !authority(f.Value) {
				return ErrHost
			}
		case Expect:
			if !equal(f.Value, "100-continue") {
				return ErrExpect
			}
			r.Continue = !r.Old
		case Trailer:
			for _, name := range framing {
				if r.HasToken(Trailer, name) {
					return ErrTrailer
				}
			}
		}
	}
	if hosts > 1 || hosts == 0 && !r.Old {
		return ErrHost
	}
	if !r.Keep && r.Old {
		r.Close = true
	}
	if r.Close {
		r.Keep = false
	}
	if err := r.aim(aim); err != nil {
		return err
	}
	r.WebSocket = r.Upgrade && !r.Old && string(method) == "GET" && r.HasToken(Upgrade, "websocket")
	return nil
}

// aim sets the target, which may come in one of three forms.
// See https://www.rfc-editor.org/rfc/rfc9112#section-3.2
func (r *Request) aim(t []byte) *Error {
	if t[0] == '/' {
		r.Target = t
		return nil
	}
	if string(t) == "*" {
		if string(r.Method) != "OPTIONS" {
			return ErrTarget
		}
		r.Target = t
		return nil
	}
	scheme, rest, ok := bytes.Cut(t, []byte("://"))
	if !ok || !equal(scheme, "http") && !equal(scheme, "https") {
		return ErrTarget
	}
	at := bytes.IndexAny(rest, "/?")
	name := rest
	if at >= 0 {
		name = rest[:at]
	}
	if !authority(name) {
		return ErrTarget
	}
	if len(r.Host) > 0 && !EqualFold(name, r.Host) {
		return ErrHost // which of the two is meant?
	}
	r.Host = name
	switch {
	case at < 0:
		r.Target = []byte("/")
	case rest[at] == '?':
		r.Target = append([]byte("/"), rest[at:]...)
	default:
		r.Target = rest[at:]
	}
	return nil
}
