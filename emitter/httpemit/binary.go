package httpemit

import (
	"encoding/base64"
	"errors"

	"github.com/atollhq/atoll/event"
	"github.com/atollhq/atoll/internal/jsonx/scan"
)

// Bytes stand in JSON as {"$base64":"…"}.
const (
	binaryKey      = `"$base64"`
	placeholderKey = `"_placeholder"`
)

var (
	errBinary      = errors.New(`bytes are written {"$base64":"…"}, with nothing else in the object, in the standard alphabet with padding; who means the key itself writes its dollar as \u0024`)
	errPlaceholder = errors.New(`an object with the key "_placeholder" would be taken for bytes: bytes are written {"$base64":"…"}`)
)

// readArgs makes arguments of raw: valid JSON values with commas between.
func readArgs(raw []byte) (event.Args, error) {
	var out []byte
	var attachments [][]byte
	copied := 0 // of raw
	for i := 0; i < len(raw); {
		switch raw[i] {
		case '{':
			data, end, err := readBinary(raw, i)
			if err != nil {
				return event.Args{}, err
			}
			if end == 0 {
				i++
				continue
			}
			out = scan.AppendPlaceholder(append(out, raw[copied:i]...), len(attachments))
			attachments = append(attachments, data)
			i, copied = end, end
		case '"':
			end, err := scan.String(raw, i)
			if err != nil {
				return event.Args{}, err
			}
			if next := scan.Space(raw, end); next < len(raw) && raw[next] == ':' {
				switch string(raw[i:end]) {
				case binaryKey:
					return event.Args{}, errBinary
				case placeholderKey:
					return event.Args{}, errPlaceholder
				}
			}
			i = end
		default:
			i++
		}
	}
	if copied == 0 {
		return event.ArgsOf(raw, nil), nil
	}
	return event.ArgsOf(append(out, raw[copied:]...), attachments), nil
}

// readBinary reads the bytes that the object at raw[i] stands for; end is 0 where it stands for none.
func readBinary(raw []byte, i int) (data []byte, end int, err error) {
	i = scan.Space(raw, i+1)
	if len(raw)-i < len(binaryKey) || string(raw[i:i+len(binaryKey)]) != binaryKey {
		return nil, 0, nil
	}
	i = scan.Space(raw, i+len(binaryKey)) + 1 // behind the colon
	i = scan.Space(raw, i)
	if i >= len(raw) || raw[i] != '"' {
		return nil, 0, errBinary
	}
	end, err = scan.String(raw, i)
	if err != nil {
		return nil, 0, err
	}
	text := scan.Unquote(raw[i:end])
	data = make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(data, text)
	if err != nil {
		return nil, 0, errBinary
	}
	if end = scan.Space(raw, end); end >= len(raw) || raw[end] != '}' {
		return nil, 0, errBinary
	}
	return data[:n], end + 1, nil
}

// appendArgs appends arguments as an array of JSON.
func appendArgs(dst []byte, a event.Args) ([]byte, error) {
	raw, attachments := a.Elements(), a.Attachments()
	dst = append(dst, '[')
	for i := 0; ; {
		start, end, num, err := scan.Placeholder(raw, i)
		if err != nil {
			return nil, err
		}
		if start < 0 {
			return append(append(dst, raw[i:]...), ']'), nil
		}
		dst = append(dst, raw[i:start]...)
		if num < len(attachments) {
			dst = append(dst, `{`+binaryKey+`:"`...)
			dst = base64.StdEncoding.AppendEncode(dst, attachments[num])
			dst = append(dst, `"}`...)
		} else {
			dst = append(dst, raw[start:end]...)
		}
		i = end
	}
}
