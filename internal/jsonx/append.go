// Package jsonx is JSON with binary inside: []byte values become placeholders and
// attachments, as Socket.IO has them, and come back from them. What holds no
// binary, which is nearly everything, goes through a fast library as it is:
// goccy/go-json, or encoding/json with the build tag stdjson. What does hold
// binary goes through go-json-experiment/json, which lets one type be encoded in
// another way wherever it stands.
package jsonx

import (
	"reflect"
	"strconv"

	"github.com/atollhq/atoll/internal/jsonx/scan"
)

// Append appends the JSON of v to dst. Each []byte in v becomes a placeholder, with
// the next number that attachments has free, and is appended to attachments, not
// copied. On an error it returns dst and attachments as they were.
func Append(dst []byte, attachments [][]byte, v any) ([]byte, [][]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), attachments, nil
	case string:
		return scan.AppendString(dst, v), attachments, nil
	case *string:
		if v != nil {
			return scan.AppendString(dst, *v), attachments, nil
		}
	case bool:
		return strconv.AppendBool(dst, v), attachments, nil
	case int:
		return strconv.AppendInt(dst, int64(v), 10), attachments, nil
	case *int:
		if v != nil {
			return strconv.AppendInt(dst, int64(*v), 10), attachments, nil
		}
	case int64:
		return strconv.AppendInt(dst, v, 10), attachments, nil
	case []byte:
		return appendBytes(dst, attachments, v)
	case *[]byte:
		if v != nil {
			return appendBytes(dst, attachments, *v)
		}
	}
	kind, err := kindOf(reflect.ValueOf(v))
	if err != nil {
		return dst, attachments, err
	}
	if kind != none {
		return appendBinary(dst, attachments, v, kind)
	}
	out, err := Marshal(v)
	if err != nil {
		return dst, attachments, err
	}
	return append(dst, out...), attachments, nil
}

func appendBytes(dst []byte, attachments [][]byte, b []byte) ([]byte, [][]byte, error) {
	if b == nil {
		return append(dst, "null"...), attachments, nil
	}
	return scan.AppendPlaceholder(dst, len(attachments)), append(attachments, b), nil
}
