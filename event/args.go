package event

import (
	"fmt"

	"github.com/atollhq/atoll/internal/jsonx"
	"github.com/atollhq/atoll/internal/jsonx/scan"
)

// Args are the arguments of an event or of an ack, as they came or will go: JSON,
// and the binary attachments that its placeholders stand for. It is a small value
// that is cheap to copy; nobody changes the bytes in it, so any number of
// goroutines may read it. The zero value has no arguments.
type Args struct {
	raw         []byte // elements with commas between, no brackets around
	attachments [][]byte
}

// NewArgs makes Args of values, as Append encodes them. The Args share the memory of
// the byte slices in values.
func NewArgs(values ...any) (Args, error) {
	raw, attachments, err := Append(nil, nil, values...)
	if err != nil {
		return Args{}, err
	}
	return Args{raw, attachments}, nil
}

// ArgsOf makes Args of what a decoder left: raw holds JSON values with commas
// between and no brackets around, in which placeholders stand for the attachments.
// The Args own both from then on. raw is not checked: what is not JSON becomes
// an error, or nonsense, where it is decoded.
func ArgsOf(raw []byte, attachments [][]byte) Args {
	return Args{raw, attachments}
}

// Len returns how many arguments there are. It counts each time it is called.
func (a Args) Len() int {
	n := 0
	for i := 0; ; n++ {
		_, next, ok := scan.Element(a.raw, i)
		if !ok {
			return n
		}
		i = next
	}
}

// Raw returns the JSON of argument i, counted from 0, or nil where there is none. Placeholders
// in it stand for Attachments. Do not change the bytes.
func (a Args) Raw(i int) []byte {
	at := 0
	for ; ; i-- {
		raw, next, ok := scan.Element(a.raw, at)
		if !ok || i < 0 {
			return nil
		}
		if i == 0 {
			return raw
		}
		at = next
	}
}

// Attachments returns the binary attachments. Do not change them.
func (a Args) Attachments() [][]byte { return a.attachments }

// Elements returns the JSON of all arguments, with commas between and no brackets
// around. Do not change the bytes.
func (a Args) Elements() []byte { return a.raw }

// JSON returns the arguments as a JSON array, in fresh bytes. Placeholders in it
// stand for Attachments.
func (a Args) JSON() []byte {
	out := append(make([]byte, 0, len(a.raw)+2), '[')
	return append(append(out, a.raw...), ']')
}

// String returns the JSON array, for logs and messages.
func (a Args) String() string { return string(a.JSON()) }

// Decode decodes argument i, counted from 0, into v, a pointer, as encoding/json
// does. A placeholder becomes the attachment it stands for, in a []byte and in an
// any; the bytes are not copied. A *Args takes the argument as it is.
// Where there is no argument i, as where JavaScript says undefined, v stays as it is.
func (a Args) Decode(i int, v any) error {
	raw := a.Raw(i)
	if raw == nil {
		return nil
	}
	if rest, ok := v.(*Args); ok {
		*rest = Args{raw, a.attachments}
		return nil
	}
	return a.decode(raw, i, v)
}

// DecodeAll decodes the arguments in turn into vs, which are pointers, as Decode
// does. It is as lenient as a JavaScript function: what is missing leaves its
// pointer's value as it is, what is too much is ignored. A *Args in
// the last place takes all arguments from there on. A nil in vs skips one.
func (a Args) DecodeAll(vs ...any) error {
	at := 0
	for i, v := range vs {
		if rest, ok := v.(*Args); ok && i == len(vs)-1 {
			*rest = Args{scan.Trim(a.raw[at:]), a.attachments}
			return nil
		}
		raw, next, ok := scan.Element(a.raw, at)
		if !ok {
			return nil
		}
		at = next
		switch v := v.(type) {
		case nil:
		case *Args:
			*v = Args{raw, a.attachments}
		default:
			if err := a.decode(raw, i, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a Args) decode(raw []byte, i int, v any) error {
	if err := jsonx.Decode(raw, a.attachments, v); err != nil {
		return fmt.Errorf("event: argument %d: %w", i, err)
	}
	return nil
}
