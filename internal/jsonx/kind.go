package jsonx

import (
	"encoding"
	"encoding/json"
	"errors"
	"reflect"
	"sync"

	"github.com/atollhq/atoll/internal/jsonx/scan"
)

// A binary says what binary there is in a value, or can be in the values of a type.
type binary uint8

const (
	none  binary = iota
	plain        // []byte itself; for a type with interfaces in it, perhaps
	named        // types like type Blob []byte, too
)

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
	bytesType     = reflect.TypeFor[[]byte]()

	types sync.Map // reflect.Type to binary
)

var errDepth = errors.New("the value nests too deep, or holds itself")

// opaque reports whether values of type t write themselves, so that nobody looks inside.
func opaque(t reflect.Type) bool {
	return t.Implements(marshaler) || t.Implements(textMarshaler)
}

// isBytes reports whether values of type t are bytes, which encoding/json would write in base64.
func isBytes(t reflect.Type) bool {
	if t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Uint8 {
		return false
	}
	p := reflect.PointerTo(t.Elem())
	return !opaque(t) && !p.Implements(marshaler) && !p.Implements(textMarshaler)
}

// kindOf says what binary there is in v. A type without any is recognized by one
// look into a table; in others it walks through the value.
func kindOf(v reflect.Value) (binary, error) {
	if ofType(v.Type()) == none {
		return none, nil
	}
	return walk(v, 0)
}

// ofType says whether there can be binary in values of type t.
func ofType(t reflect.Type) binary {
	if k, ok := types.Load(t); ok {
		return k.(binary)
	}
	k := inType(t, map[reflect.Type]bool{})
	types.Store(t, k)
	return k
}

// inType says what binary there can be in values of type t. The types in seen are being looked at.
func inType(t reflect.Type, seen map[reflect.Type]bool) binary {
	if seen[t] || opaque(t) {
		return none
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return plain
	case reflect.Slice:
		if !isBytes(t) {
			return inType(t.Elem(), seen)
		}
		if t == bytesType {
			return plain
		}
		return named
	case reflect.Pointer, reflect.Map, reflect.Array:
		return inType(t.Elem(), seen)
	case reflect.Struct:
		found := none
		for f := range t.Fields() {
			if encoded(f) {
				found = max(found, inType(f.Type, seen))
			}
		}
		return found
	}
	return none
}

// encoded reports whether f may be part of the JSON of its struct.
func encoded(f reflect.StructField) bool {
	return (f.IsExported() || f.Anonymous) && f.Tag.Get("json") != "-"
}

// walk says what binary there is in v.
func walk(v reflect.Value, depth int) (binary, error) {
	if depth > 2*scan.MaxDepth { // a pointer and what it points to are two steps
		return none, errDepth
	}
	depth++
	t := v.Type()
	if ofType(t) == none {
		return none, nil
	}
	if v.CanAddr() && opaque(reflect.PointerTo(t)) {
		return none, nil
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			return none, nil
		}
		return walk(v.Elem(), depth)
	case reflect.Slice:
		if isBytes(t) {
			switch {
			case v.IsNil():
				return none, nil
			case t == bytesType:
				return plain, nil
			}
			return named, nil
		}
		return elements(v, depth)
	case reflect.Array:
		return elements(v, depth)
	case reflect.Map:
		found := none
		for i := v.MapRange(); i.Next() && found < named; {
			k, err := walk(i.Value(), depth)
			if err != nil {
				return none, err
			}
			found = max(found, k)
		}
		return found, nil
	case reflect.Struct:
		found := none
		for i := 0; i < t.NumField() && found < named; i++ {
			if !encoded(t.Field(i)) {
				continue
			}
			k, err := walk(v.Field(i), depth)
			if err != nil {
				return none, err
			}
			found = max(found, k)
		}
		return found, nil
	}
	return none, nil
}

// elements walks through a slice or an array.
func elements(v reflect.Value, depth int) (binary, error) {
	found := none
	for i := 0; i < v.Len() && found < named; i++ {
		k, err := walk(v.Index(i), depth)
		if err != nil {
			return none, err
		}
		found = max(found, k)
	}
	return found, nil
}
