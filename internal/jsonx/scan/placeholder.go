package scan

import "strconv"

// MaxNum is the greatest number that a placeholder may have.
const MaxNum = 1<<31 - 1

// Placeholder finds the first placeholder of a binary attachment at or after
// data[i]: an object that holds "_placeholder":true and an integer "num", in any
// order, and nothing else. data is valid JSON (one value, or several with commas
// between) and i is not inside a string. It returns where the object starts and
// ends, and its number; start is -1 where there is none.
//
// An object that says "_placeholder":true in any other way is an error: what it
// stands for would differ from receiver to receiver.
//
// See https://socket.io/docs/v4/socket-io-protocol/#sending-and-receiving-data
func Placeholder(data []byte, i int) (start, end, num int, err error) {
	for i < len(data) {
		switch data[i] {
		case '{':
			if end, num, ok := canonical(data, i); ok {
				return i, end, num, nil
			}
			i++
		case '"':
			end := skipString(data, i+1)
			if end > len(data) {
				return -1, i, 0, nil
			}
			if claims(data, i, end) {
				return -1, i, 0, &Error{i, "a placeholder must have an integer num from 0 and nothing else"}
			}
			i = end
		default:
			i++
		}
	}
	return -1, i, 0, nil
}

// canonical reads a placeholder whose brace is data[i].
func canonical(data []byte, i int) (end, num int, ok bool) {
	num = -1
	marked := false
	for range 2 {
		i = Space(data, i+1) // behind { or ,
		switch {
		case has(data, i, `"_placeholder"`) && !marked:
			i = Space(data, i+len(`"_placeholder"`))
			if !has(data, i, ":") {
				return 0, 0, false
			}
			if i = Space(data, i+1); !has(data, i, "true") {
				return 0, 0, false
			}
			i += len("true")
			marked = true
		case has(data, i, `"num"`) && num < 0:
			i = Space(data, i+len(`"num"`))
			if !has(data, i, ":") {
				return 0, 0, false
			}
			i = Space(data, i+1)
			start := i
			i = digits(data, i)
			if i == start || i-start > 10 || data[start] == '0' && i-start > 1 {
				return 0, 0, false
			}
			n := int64(0)
			for _, c := range data[start:i] {
				n = n*10 + int64(c-'0')
			}
			if n > MaxNum {
				return 0, 0, false
			}
			num = int(n)
		default:
			return 0, 0, false
		}
		i = Space(data, i)
		want := ","
		if marked && num >= 0 {
			want = "}"
		}
		if !has(data, i, want) {
			return 0, 0, false
		}
	}
	return i + 1, num, true
}

func has(data []byte, i int, s string) bool {
	return len(data)-i >= len(s) && string(data[i:i+len(s)]) == s
}

// claims reports whether the string data[i:end] is the name _placeholder of a member that is true.
func claims(data []byte, i, end int) bool {
	const name = "_placeholder"
	raw := data[i:end]
	if len(raw) < len(name)+2 || len(raw) > 6*len(name)+2 { // each letter may be an escape
		return false
	}
	end = Space(data, end)
	if !has(data, end, ":") || !has(data, Space(data, end+1), "true") {
		return false
	}
	return string(Unquote(raw)) == name
}

// AppendPlaceholder appends the placeholder with the given number.
func AppendPlaceholder(dst []byte, num int) []byte {
	dst = append(dst, `{"_placeholder":true,"num":`...)
	dst = strconv.AppendInt(dst, int64(num), 10)
	return append(dst, '}')
}

// Placeholders checks that the placeholders in data have numbers from base up to,
// not including, base+n, none of them twice. data is as for Placeholder.
func Placeholders(data []byte, base, n int) error {
	var few [4]uint64
	seen := few[:]
	if n > len(few)*64 {
		seen = make([]uint64, (n+63)/64)
	}
	for i := 0; ; {
		start, end, num, err := Placeholder(data, i)
		if err != nil {
			return err
		}
		if start < 0 {
			return nil
		}
		num -= base
		if num < 0 || num >= n {
			return &Error{start, "a placeholder names an attachment that does not exist"}
		}
		if seen[num/64]>>(num%64)&1 != 0 {
			return &Error{start, "two placeholders name the same attachment"}
		}
		seen[num/64] |= 1 << (num % 64)
		i = end
	}
}
