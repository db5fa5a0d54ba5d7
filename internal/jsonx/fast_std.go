//go:build stdjson

package jsonx

import (
	"bytes"
	"encoding/json"
)

// Unmarshal decodes data into v, as encoding/json does.
func Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// Marshal encodes v, as encoding/json does, without escapes for HTML.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return buf.Bytes()[:buf.Len()-1], nil // without the new line
}
