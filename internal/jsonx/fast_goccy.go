//go:build !stdjson

package jsonx

import json "github.com/goccy/go-json"

// Unmarshal decodes data into v, as encoding/json does.
func Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// Marshal encodes v, as encoding/json does, without escapes for HTML.
func Marshal(v any) ([]byte, error) {
	return json.MarshalWithOption(v, json.DisableHTMLEscape())
}
