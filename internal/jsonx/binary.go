package jsonx

import (
	std "encoding/json"
	"errors"
	"reflect"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	v1 "github.com/go-json-experiment/json/v1"

	"github.com/atollhq/atoll/internal/jsonx/scan"
)

// asV1 makes go-json-experiment behave as encoding/json, which the fast path does too.
var asV1 = json.JoinOptions(v1.DefaultOptionsV1(), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(true))

// A codec encodes or decodes one value with binary in it. Its functions are made
// once, because the library remembers for each type which of them it needs.
type codec struct {
	attachments [][]byte
	buf         []byte

	marshal   [named + 1]json.Options
	unmarshal [named + 1]json.Options
}

var codecs = sync.Pool{New: func() any {
	c := new(codec)
	m := json.JoinMarshalers(json.MarshalToFunc(c.writeBytes), json.MarshalToFunc(writeNumber))
	u := json.JoinUnmarshalers(json.UnmarshalFromFunc(c.readBytes), json.UnmarshalFromFunc(c.readAny), json.UnmarshalFromFunc(readNumber))
	c.marshal[plain] = json.JoinOptions(asV1, json.WithMarshalers(m))
	c.marshal[named] = json.JoinOptions(asV1, json.WithMarshalers(json.JoinMarshalers(m, json.MarshalToFunc(c.writeNamed))))
	c.unmarshal[plain] = json.JoinOptions(asV1, json.WithUnmarshalers(u))
	c.unmarshal[named] = json.JoinOptions(asV1, json.WithUnmarshalers(json.JoinUnmarshalers(u, json.UnmarshalFromFunc(c.readNamed))))
	return c
}}

func (c *codec) free() {
	c.attachments = nil
	codecs.Put(c)
}

// appendBinary is Append for a value with binary in it.
func appendBinary(dst []byte, attachments [][]byte, v any, kind binary) ([]byte, [][]byte, error) {
	c := codecs.Get().(*codec)
	defer c.free()
	c.attachments = attachments
	out, err := json.Marshal(v, c.marshal[kind])
	if err != nil {
		return dst, attachments, err
	}
	return append(dst, out...), c.attachments, nil
}

func (c *codec) writeBytes(enc *jsontext.Encoder, b []byte) error {
	if b == nil {
		return enc.WriteToken(jsontext.Null)
	}
	c.buf = scan.AppendPlaceholder(c.buf[:0], len(c.attachments))
	c.attachments = append(c.attachments, b)
	return enc.WriteValue(c.buf)
}

// writeNamed is called for values of every type but []byte; v points to one.
func (c *codec) writeNamed(enc *jsontext.Encoder, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || !isBytes(p.Type().Elem()) {
		return errors.ErrUnsupported
	}
	return c.writeBytes(enc, p.Elem().Bytes())
}

// The library knows a json.Number of its own only; that of the standard library is a string to it.

func writeNumber(enc *jsontext.Encoder, n std.Number) error {
	if n == "" {
		n = "0"
	}
	return enc.WriteValue(jsontext.Value(n))
}

func readNumber(dec *jsontext.Decoder, n *std.Number) error {
	if dec.PeekKind() != '0' {
		return errors.ErrUnsupported
	}
	raw, err := dec.ReadValue()
	if err == nil {
		*n = std.Number(raw)
	}
	return err
}

// Decode decodes raw, one JSON value, into v, a pointer, as encoding/json does. A
// placeholder becomes the attachment it stands for, not copied, in a []byte and in
// an any. Where there are no attachments, nothing is a placeholder.
func Decode(raw []byte, attachments [][]byte, v any) error {
	if len(attachments) == 0 {
		return Unmarshal(raw, v)
	}
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return Unmarshal(raw, v) // says what is wrong
	}
	kind := ofType(p.Type())
	if kind == none {
		return Unmarshal(raw, v)
	}
	switch start, _, _, err := scan.Placeholder(raw, 0); {
	case err != nil:
		return err
	case start < 0:
		return Unmarshal(raw, v)
	}
	c := codecs.Get().(*codec)
	defer c.free()
	c.attachments = attachments
	if b, ok := v.(*[]byte); ok {
		return c.resolve(raw, b)
	}
	return json.Unmarshal(raw, v, c.unmarshal[kind])
}

var errNotBytes = errors.New("an object stands where bytes should be, and is no placeholder")

// resolve sets b to the attachment that raw, an object, stands for.
func (c *codec) resolve(raw []byte, b *[]byte) error {
	start, end, num, err := scan.Placeholder(raw, 0)
	switch {
	case err != nil:
		return err
	case start != scan.Space(raw, 0) || scan.Space(raw, end) < len(raw):
		return errNotBytes
	case num >= len(c.attachments):
		return errors.New("a placeholder names an attachment that does not exist")
	}
	*b = c.attachments[num]
	return nil
}

func (c *codec) readBytes(dec *jsontext.Decoder, b *[]byte) error {
	if dec.PeekKind() != '{' {
		return errors.ErrUnsupported // null, or base64
	}
	raw, err := dec.ReadValue()
	if err != nil {
		return err
	}
	return c.resolve(raw, b)
}

// readNamed is called for values of every type but []byte and any; v points to one.
func (c *codec) readNamed(dec *jsontext.Decoder, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || !isBytes(p.Type().Elem()) || dec.PeekKind() != '{' {
		return errors.ErrUnsupported
	}
	var b []byte
	if err := c.readBytes(dec, &b); err != nil {
		return err
	}
	p.Elem().SetBytes(b)
	return nil
}

func (c *codec) readAny(dec *jsontext.Decoder, v *any) error {
	if k := dec.PeekKind(); k != '{' && k != '[' || *v != nil {
		return errors.ErrUnsupported // no placeholder; or v holds a pointer to decode into
	}
	raw, err := dec.ReadValue()
	if err != nil {
		return err
	}
	var out any
	if err := Unmarshal(raw, &out); err != nil {
		return err
	}
	*v = c.replace(out)
	return nil
}

// replace puts attachments in the place of the placeholders in v.
func (c *codec) replace(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = c.replace(v[i])
		}
	case map[string]any:
		if num, ok := v["num"].(float64); ok && len(v) == 2 && v["_placeholder"] == true &&
			num >= 0 && num < float64(len(c.attachments)) && num == float64(int(num)) {
			return c.attachments[int(num)]
		}
		for k := range v {
			v[k] = c.replace(v[k])
		}
	}
	return v
}
