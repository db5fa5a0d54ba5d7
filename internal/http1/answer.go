package http1

import "bytes"

// An Answer is the head of an answer. Its bytes are those it was parsed from.
type Answer struct {
	Head
	Status int
	Reason []byte
}

// Parse reads b, which is a whole head as End found it. At most so many header lines are allowed.
func (a *Answer) Parse(b []byte, most int) *Error {
	line, rest, ok := bytes.Cut(b, crlf)
	if !ok || len(line) < 12 || line[8] != ' ' {
		return ErrStatus
	}
	switch string(line[:8]) {
	case "HTTP/1.1":
		a.Old = false
	case "HTTP/1.0":
		a.Old = true
	default:
		return ErrStatus
	}
	status, ok := number(line[9:12])
	if !ok || status < 100 || len(line) > 12 && line[12] != ' ' || !all(line[12:], text) {
		return ErrStatus
	}
	a.Status, a.Reason = int(status), nil
	if len(line) > 13 {
		a.Reason = line[13:]
	}
	if err := a.fields(rest, most); err != nil {
		return err
	}
	if !a.Keep && a.Old {
		a.Close = true
	}
	return nil
}

// Bodiless reports whether an answer to the given method has no body whatever its header says.
func (a *Answer) Bodiless(method string) bool {
	return method == "HEAD" || a.Status < 200 || a.Status == 204 || a.Status == 304
}
