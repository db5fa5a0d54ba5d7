package redisstream

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/redis/rueidis"
)

// Between Bus and Dialect an entry is bytes: of each field the name and the value, each with its length before it
// (an unsigned varint).

// The fields of an entry.
const (
	fieldUID  = "uid"
	fieldNSP  = "nsp"
	fieldType = "type"
	fieldData = "data"
)

// appendField appends one field.
func appendField[T string | []byte](dst []byte, name string, value T) []byte {
	dst = append(binary.AppendUvarint(dst, uint64(len(name))), name...)
	return append(binary.AppendUvarint(dst, uint64(len(value))), value...)
}

var errEntry = errors.New("not the fields of an entry")

// eachField calls f for each field of an entry. What f gets shares memory with entry.
func eachField(entry string, f func(name, value string)) error {
	next := func() (s string, ok bool) {
		var n uint64
		for shift := 0; ; shift += 7 {
			if shift > 28 || len(entry) == 0 {
				return "", false
			}
			c := entry[0]
			entry = entry[1:]
			n |= uint64(c&0x7f) << shift
			if c < 0x80 {
				break
			}
		}
		if n > uint64(len(entry)) {
			return "", false
		}
		s, entry = entry[:n], entry[n:]
		return s, true
	}
	if entry == "" {
		return errEntry
	}
	for entry != "" {
		name, ok := next()
		if !ok {
			return errEntry
		}
		value, ok := next()
		if !ok {
			return errEntry
		}
		f(name, value)
	}
	return nil
}

// args returns the fields of an entry as arguments of XADD.
func args(entry string) (args []string, err error) {
	args = make([]string, 0, 10)
	err = eachField(entry, func(name, value string) { args = append(args, name, value) })
	return args, err
}

// join is the inverse of args, and finds the namespace; empty where the entry has none.
func join(fields []rueidis.XRangeFieldValue) (namespace string, entry []byte) {
	n := 0
	for _, f := range fields {
		n += len(f.Field) + len(f.Value) + 6
	}
	entry = make([]byte, 0, n)
	for _, f := range fields {
		if f.Field == fieldNSP {
			namespace = f.Value
		}
		entry = appendField(entry, f.Field, f.Value)
	}
	return strings.Clone(namespace), entry
}
