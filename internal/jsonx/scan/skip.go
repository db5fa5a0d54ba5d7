package scan

import "bytes"

// Skip returns the index behind the JSON value that starts at data[i], after white
// space. It believes that the value is valid and only finds its end, which is
// faster than Value; for other data it returns some index or, for what has no end,
// len(data)+1. It never looks outside data.
func Skip(data []byte, i int) int {
	i = Space(data, i)
	depth := 0
	for i < len(data) {
		switch data[i] {
		case '"':
			i = skipString(data, i+1)
			if depth == 0 || i > len(data) {
				return i
			}
			continue
		case '[', '{':
			depth++
		case ']', '}':
			depth--
			if depth <= 0 {
				return i + 1
			}
		default:
			if depth == 0 {
				for i < len(data) && !ends(data[i]) {
					i++
				}
				return i
			}
		}
		i++
	}
	return len(data) + 1
}

// ends reports whether c ends a number or a literal.
func ends(c byte) bool {
	return c <= ' ' || c == ',' || c == ']' || c == '}'
}

// skipString returns the index behind the quote that ends the string data[i] is in.
func skipString(data []byte, i int) int {
	for i < len(data) {
		end, _ := plain(data, i)
		if end >= len(data) {
			break
		}
		switch data[end] {
		case '"':
			return end + 1
		case '\\':
			i = end + 2
		default:
			i = end + 1
		}
	}
	return len(data) + 1
}

// Element returns the next of the comma-separated values in data[i:], without the
// white space around it, and the index to go on at. It reports false where no
// value is left. It believes that the values are valid.
func Element(data []byte, i int) (value []byte, next int, ok bool) {
	i = Space(data, i)
	if i >= len(data) {
		return nil, i, false
	}
	end := Skip(data, i)
	if end > len(data) || end == i {
		return data[i:], len(data), true // not JSON: whoever decodes it will say so
	}
	next = Space(data, end)
	if next < len(data) && data[next] == ',' {
		next++
	}
	return data[i:end], next, true
}

// Trim returns data without white space at both ends.
func Trim(data []byte) []byte { return bytes.Trim(data, " \t\r\n") }
