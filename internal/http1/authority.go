package http1

import (
	"bytes"
	"net/netip"
)

// authority reports whether b names a host, and perhaps its port, in a way that nobody reads differently: a name or
// an IPv4 address, or an IPv6 address in brackets. There is no user, no zone, and no escape, which some programs would
// resolve and others not.
// See https://www.rfc-editor.org/rfc/rfc3986#section-3.2
func authority(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	if b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 || bytes.IndexByte(b[:end], '%') >= 0 {
			return false
		}
		ip, err := netip.ParseAddr(string(b[1:end]))
		return err == nil && ip.Is6() && port(b[end+1:])
	}
	end := bytes.IndexByte(b, ':')
	if end < 0 {
		end = len(b)
	}
	return end > 0 && all(b[:end], host) && port(b[end:])
}

// port reports whether b is empty or a colon and the digits of a port.
func port(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if b[0] != ':' {
		return false
	}
	for _, c := range b[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
