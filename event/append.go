package event

import (
	"errors"
	"fmt"

	"github.com/atollhq/atoll/internal/jsonx"
	"github.com/atollhq/atoll/internal/jsonx/scan"
)

var errPlaceholder = errors.New("event: a value looks like the placeholder of an attachment, and the receiver would take it for one; give it another form, or send it without binary values")

// Append appends the JSON of values to dst, with commas between them, and their
// binary parts to attachments. Each []byte, wherever it stands in a value, becomes
// a placeholder and an attachment, as a Buffer does in JavaScript; a nil one is
// null. The attachments share the memory of the values: whoever sends them
// copies, or nobody changes them. A value of type Args stands for all the
// arguments in it, which are taken over as they are. Other values are encoded as
// encoding/json does, without escapes for HTML; bytes that are not UTF-8 become U+FFFD.
//
// What cannot be encoded (NaN, a channel, a cycle) is an error that counts the
// argument from 0. Then dst and attachments are returned as they were.
func Append(dst []byte, attachments [][]byte, values ...any) ([]byte, [][]byte, error) {
	return appendValues(dst, attachments, false, values)
}

// AppendEvent appends the JSON array of an event, its name and then the values as
// Append encodes them, and their binary parts to attachments.
func AppendEvent(dst []byte, attachments [][]byte, name string, values ...any) ([]byte, [][]byte, error) {
	out := append(dst, '[')
	out = scan.AppendString(out, name)
	out, more, err := appendValues(out, attachments, true, values)
	if err != nil {
		return dst, attachments, err
	}
	return append(out, ']'), more, nil
}

// appendValues appends values; behind says that a value stands before them, so that a comma is due.
func appendValues(dst []byte, attachments [][]byte, behind bool, values []any) ([]byte, [][]byte, error) {
	out, more := dst, attachments
	for i, v := range values {
		a, isArgs := v.(Args)
		if p, ok := v.(*Args); ok && p != nil {
			a, isArgs = *p, true
		}
		if isArgs && len(a.raw) == 0 {
			continue
		}
		if behind {
			out = append(out, ',')
		}
		behind = true
		var err error
		if isArgs {
			out, more, err = splice(out, more, a)
		} else {
			out, more, err = jsonx.Append(out, more, v)
		}
		if err != nil {
			return dst, attachments, fmt.Errorf("event: argument %d: %w", i, err)
		}
	}
	// What is no placeholder of ours must not look like one: a client could otherwise
	// have the binary values of others put where it likes.
	if base := len(attachments); len(more) > base {
		if err := scan.Placeholders(out[len(dst):], base, len(more)-base); err != nil {
			return dst, attachments, errPlaceholder
		}
	}
	return out, more, nil
}

// splice appends the arguments in a. The attachments that their placeholders name get the next free numbers.
func splice(dst []byte, attachments [][]byte, a Args) ([]byte, [][]byte, error) {
	if len(a.attachments) == 0 {
		return append(dst, a.raw...), attachments, nil
	}
	for i := 0; ; {
		start, end, num, err := scan.Placeholder(a.raw, i)
		if err != nil {
			return dst, attachments, err
		}
		if start < 0 {
			return append(dst, a.raw[i:]...), attachments, nil
		}
		if num >= len(a.attachments) {
			return dst, attachments, errPlaceholder
		}
		dst = append(dst, a.raw[i:start]...)
		dst = scan.AppendPlaceholder(dst, len(attachments))
		attachments = append(attachments, a.attachments[num])
		i = end
	}
}
