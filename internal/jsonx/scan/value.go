// Package scan reads JSON in place, without building anything: it checks values,
// skips over them, finds the placeholders of binary attachments, and reads and
// writes strings. It allocates nothing and looks at each byte once.
//
// What it accepts is what JSON.parse accepts, with two limits of our own: strings
// are valid UTF-8 (a text frame with anything else would make the receiver close
// its connection), and values nest at most MaxDepth deep.
package scan

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may nest.
const MaxDepth = 512

// An Error says where JSON is not as it must be.
type Error struct {
	Offset int    // in bytes from the start of what was scanned
	Reason string // what is wrong there
}

func (e *Error) Error() string {
	return fmt.Sprintf("invalid JSON at byte %d: %s", e.Offset, e.Reason)
}

func fail(i int, reason string) (int, error) { return i, &Error{i, reason} }

// Space returns the index of the first byte at or after i that is no white space.
func Space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\r' || data[i] == '\t') {
		i++
	}
	return i
}

// Value checks the JSON value that starts at data[i], after white space, and
// returns the index behind it. The error is an *Error.
func Value(data []byte, i int) (int, error) {
	var objects [MaxDepth / 64]uint64 // for each level: is it an object?
	depth := 0
	for {
		// A value is due.
		if i < len(data) && data[i] <= ' ' {
			i = Space(data, i)
		}
		if i >= len(data) {
			return fail(i, "it ends where a value should stand")
		}
		var err error
		switch c := data[i]; c {
		case '"':
			i, err = String(data, i)
		case '[', '{':
			i = Space(data, i+1)
			if i < len(data) && data[i] == c+2 { // ] and } are two behind [ and {
				i++
				break
			}
			if depth == MaxDepth {
				return fail(i, "values nest too deep")
			}
			if c == '[' {
				objects[depth/64] &^= 1 << (depth % 64)
				depth++
				continue
			}
			objects[depth/64] |= 1 << (depth % 64)
			depth++
			if i, err = key(data, i); err != nil {
				return i, err
			}
			continue
		case 't':
			i, err = literal(data, i, "true")
		case 'f':
			i, err = literal(data, i, "false")
		case 'n':
			i, err = literal(data, i, "null")
		default:
			i, err = number(data, i)
		}
		if err != nil {
			return i, err
		}
		// A value has ended, and perhaps what it stands in.
		for {
			if depth == 0 {
				return i, nil
			}
			if i < len(data) && data[i] <= ' ' {
				i = Space(data, i)
			}
			if i >= len(data) {
				return fail(i, "an array or object does not end")
			}
			object := objects[(depth-1)/64]>>((depth-1)%64)&1 != 0
			c := data[i]
			if c == ',' {
				i++
				if object {
					if i, err = key(data, Space(data, i)); err != nil {
						return i, err
					}
				}
				break
			}
			if object && c != '}' || !object && c != ']' {
				return fail(i, "a comma or the end of the array or object should stand here")
			}
			i++
			depth--
		}
	}
}

// key reads the name and the colon of a member of an object.
func key(data []byte, i int) (int, error) {
	if i >= len(data) || data[i] != '"' {
		return fail(i, "the name of a member should stand here")
	}
	i, err := String(data, i)
	if err != nil {
		return i, err
	}
	if i < len(data) && data[i] <= ' ' {
		i = Space(data, i)
	}
	if i >= len(data) || data[i] != ':' {
		return fail(i, "a colon should stand here")
	}
	return i + 1, nil
}

func literal(data []byte, i int, want string) (int, error) {
	if len(data)-i < len(want) || string(data[i:i+len(want)]) != want {
		return fail(i, "no value starts like this")
	}
	return i + len(want), nil
}

func number(data []byte, i int) (int, error) {
	start := i
	if i < len(data) && data[i] == '-' {
		i++
	}
	switch {
	case i < len(data) && data[i] == '0':
		i++
	case i < len(data) && '1' <= data[i] && data[i] <= '9':
		i = digits(data, i)
	case i > start:
		return fail(i, "a digit should stand here")
	default:
		return fail(i, "no value starts like this")
	}
	if i < len(data) && data[i] == '.' {
		end := digits(data, i+1)
		if end == i+1 {
			return fail(end, "a digit should stand here")
		}
		i = end
	}
	if i < len(data) && data[i]|0x20 == 'e' {
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		end := digits(data, i)
		if end == i {
			return fail(end, "a digit should stand here")
		}
		i = end
	}
	return i, nil
}

func digits(data []byte, i int) int {
	for i < len(data) && data[i]-'0' <= 9 {
		i++
	}
	return i
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plain returns the index of the first byte at or after i that ends or interrupts
// a string (quote, backslash, control), or len(data); and whether a byte beyond
// ASCII may stand before it. It looks at eight bytes at a time.
func plain(data []byte, i int) (end int, wide bool) {
	var high uint64
	for len(data)-i >= 8 {
		x := binary.LittleEndian.Uint64(data[i:])
		quote, slash := x^('"'*ones), x^('\\'*ones)
		// Each term has the high bit of a byte set where it matches; wrong ones only behind a right one.
		stop := ((x-0x20*ones)&^x | (quote-ones)&^quote | (slash-ones)&^slash) & highs
		high |= x & highs
		if stop != 0 {
			return i + bits.TrailingZeros64(stop)/8, high != 0
		}
		i += 8
	}
	for ; i < len(data); i++ {
		c := data[i]
		if c == '"' || c == '\\' || c < 0x20 {
			break
		}
		high |= uint64(c & 0x80)
	}
	return i, high != 0
}

// String checks the JSON string whose opening quote is data[i], and returns the
// index behind its closing quote.
func String(data []byte, i int) (int, error) {
	start := i + 1
	i = start
	wide := false
	for {
		end, w := plain(data, i)
		i, wide = end, wide || w
		if i >= len(data) {
			return fail(i, "a string does not end")
		}
		switch data[i] {
		case '"':
			if wide && !utf8.Valid(data[start:i]) {
				return fail(start, "a string is not UTF-8")
			}
			return i + 1, nil
		case '\\':
			n := escape(data[i:])
			if n == 0 {
				return fail(i, "no escape looks like this")
			}
			i += n
		default:
			return fail(i, "a control character stands in a string")
		}
	}
}

// escape returns the length of the escape that data starts with, or 0 where it is none.
func escape(data []byte) int {
	if len(data) < 2 {
		return 0
	}
	switch data[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex(data, 2); ok {
			return 6
		}
	}
	return 0
}

// hex reads the four hexadecimal digits at data[i].
func hex(data []byte, i int) (rune, bool) {
	if len(data)-i < 4 {
		return 0, false
	}
	var r rune
	for _, c := range data[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
