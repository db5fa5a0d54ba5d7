// Package jsonx is JSON with binary inside: []byte values become placeholders and
// attachments, as Socket.IO has them, and come back from them. What holds no
// binary, which is nearly everything, goes through a fast library as it is:
// goccy/go-json, or encoding/json with the build tag stdjson. What does hold
// binary goes through go-json-experiment/json, which lets one type be encoded in
// another way wherever it stands.
package jsonx

import (
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"

	"github.com/atollhq/atoll/internal/jsonx/scan"
)

// Append appends the JSON of v to dst. Each []byte in v becomes a placeholder, with
// the next number that attachments has free, and is appended to attachments, not
// copied. On an error it returns dst and attachments as they were.
func Append(dst []byte, attachments [][]byte, v any) ([]byte, [][]byte, error) {
	out, more, err := appendAny(dst, attachments, v, 0)
	if err != nil {
		return dst, attachments, err
	}
	return out, more, nil
}

// appendAny appends what is common, and maps and slices of that, by itself. depth
// counts the maps and slices that v stands in.
func appendAny(dst []byte, attachments [][]byte, v any, depth int) ([]byte, [][]byte, error) {
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
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 && (v != 0 || !math.Signbit(v)) {
			return strconv.AppendInt(dst, int64(v), 10), attachments, nil
		}
	case []byte:
		return appendBytes(dst, attachments, v)
	case *[]byte:
		if v != nil {
			return appendBytes(dst, attachments, *v)
		}
	case []any:
		if v != nil {
			return appendSlice(dst, attachments, v, depth+1)
		}
	case map[string]any:
		if v != nil {
			return appendMap(dst, attachments, v, depth+1)
		}
	}
	kind, err := kindOf(reflect.ValueOf(v))
	if err != nil {
		return nil, nil, err
	}
	if kind != none {
		return appendBinary(dst, attachments, v, kind)
	}
	out, err := Marshal(v)
	return append(dst, out...), attachments, err
}

func appendBytes(dst []byte, attachments [][]byte, b []byte) ([]byte, [][]byte, error) {
	if b == nil {
		return append(dst, "null"...), attachments, nil
	}
	return scan.AppendPlaceholder(dst, len(attachments)), append(attachments, b), nil
}

func appendSlice(dst []byte, attachments [][]byte, list []any, depth int) (_ []byte, _ [][]byte, err error) {
	if depth > scan.MaxDepth {
		return nil, nil, errDepth
	}
	dst = append(dst, '[')
	for i, v := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, attachments, err = appendAny(dst, attachments, v, depth); err != nil {
			return nil, nil, err
		}
	}
	return append(dst, ']'), attachments, nil
}

// appendMap appends m in the order of its keys.
func appendMap(dst []byte, attachments [][]byte, m map[string]any, depth int) (_ []byte, _ [][]byte, err error) {
	if depth > scan.MaxDepth {
		return nil, nil, errDepth
	}
	var few [8]string
	keys := slices.AppendSeq(few[:0], maps.Keys(m))
	slices.Sort(keys)
	dst = append(dst, '{')
	for i, k := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(scan.AppendString(dst, k), ':')
		if dst, attachments, err = appendAny(dst, attachments, m[k], depth); err != nil {
			return nil, nil, err
		}
	}
	return append(dst, '}'), attachments, nil
}
