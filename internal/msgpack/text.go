package msgpack

import (
	"unicode/utf16"
	"unicode/utf8"
)

// str reads the JSON string that starts at src[i]. What it returns is valid UTF-8 and
// good until the next call.
func (e *encoder) str() ([]byte, error) {
	e.i++
	start := e.i
	valid := true
	for {
		i := e.i
		for i < len(e.src) && plain[e.src[i]] {
			i++
		}
		if e.i = i; i >= len(e.src) {
			return nil, e.bad("a string without end")
		}
		switch c := e.src[i]; {
		case c == '"':
			s := e.src[start:e.i]
			e.i++
			if !valid && !utf8.Valid(s) {
				e.scratch = appendValid(e.scratch[:0], s)
				return e.scratch, nil
			}
			return s, nil
		case c == '\\':
			return e.escaped(start)
		case c < ' ':
			return nil, e.bad("a control character in a string")
		default:
			valid = false
			e.i++
		}
	}
}

// plain are the bytes that stand for themselves in a JSON string: ASCII without
// control characters, quotes and backslashes.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// escaped goes on with a string in which it found the first backslash.
func (e *encoder) escaped(start int) ([]byte, error) {
	s := appendValid(e.scratch[:0], e.src[start:e.i])
	from := e.i
	for e.i < len(e.src) {
		c := e.src[e.i]
		if c < ' ' {
			return nil, e.bad("a control character in a string")
		}
		if c != '"' && c != '\\' {
			e.i++
			continue
		}
		s = appendValid(s, e.src[from:e.i])
		e.i++
		if c == '"' {
			e.scratch = s
			return s, nil
		}
		if e.i >= len(e.src) {
			break
		}
		c = e.src[e.i]
		e.i++
		switch c {
		case '"', '\\', '/':
			s = append(s, c)
		case 'b':
			s = append(s, '\b')
		case 'f':
			s = append(s, '\f')
		case 'n':
			s = append(s, '\n')
		case 'r':
			s = append(s, '\r')
		case 't':
			s = append(s, '\t')
		case 'u':
			r, ok := e.hex()
			if !ok {
				return nil, e.bad("no four hexadecimal digits")
			}
			if utf16.IsSurrogate(r) {
				r = e.surrogate(r)
			}
			s = utf8.AppendRune(s, r)
		default:
			return nil, e.bad("an unknown escape")
		}
		from = e.i
	}
	return nil, e.bad("a string without end")
}

// surrogate returns what the half r of a pair means together with what follows.
func (e *encoder) surrogate(r rune) rune {
	if len(e.src)-e.i >= 6 && e.src[e.i] == '\\' && e.src[e.i+1] == 'u' {
		mark := e.i
		e.i += 2
		if low, ok := e.hex(); ok {
			if both := utf16.DecodeRune(r, low); both != utf8.RuneError {
				return both
			}
		}
		e.i = mark
	}
	return utf8.RuneError
}

func (e *encoder) hex() (r rune, ok bool) {
	if len(e.src)-e.i < 4 {
		return 0, false
	}
	for _, c := range e.src[e.i : e.i+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	e.i += 4
	return r, true
}

// appendValid appends s with U+FFFD for each byte that is no UTF-8.
func appendValid(dst, s []byte) []byte {
	if utf8.Valid(s) {
		return append(dst, s...)
	}
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		dst = utf8.AppendRune(dst, r)
		s = s[n:]
	}
	return dst
}

// AppendQuoted appends s as a JSON string, as JSON.stringify writes it: only what must
// be is escaped, and U+2028 and U+2029. Bytes that are no UTF-8 become U+FFFD.
func AppendQuoted[S ~string | ~[]byte](dst []byte, s S) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[start:i]...), "\uFFFD"...)
				start = i + 1
			} else if r == '\u2028' || r == '\u2029' { // as encoding/json does: some take them for line ends
				dst = append(append(dst, s[start:i]...), `\u202`...)
				dst = append(dst, digits[r&15])
				start = i + n
			}
			i += n
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}
