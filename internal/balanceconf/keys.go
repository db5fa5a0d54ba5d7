package balanceconf

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

func errorsAs[T error](err error) (T, bool) {
	var t T
	ok := errors.As(err, &t)
	return t, ok
}

// maxDepth bounds how deep a file is nested.
const maxDepth = 50

// checkKeys reports the first key in n that has no field in the type of v, and anything that v has no use for.
func checkKeys(n ast.Node, v any) *Error { return check(n, reflect.TypeOf(v), maxDepth) }

func check(n ast.Node, t reflect.Type, depth int) *Error {
	if depth == 0 {
		return fault(n, "this is nested too deeply")
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch n := n.(type) {
	case *ast.AnchorNode:
		return check(n.Value, t, depth-1)
	case *ast.TagNode:
		return check(n.Value, t, depth-1)
	case *ast.MappingValueNode:
		return checkMapping(n, []*ast.MappingValueNode{n}, t, depth)
	case *ast.MappingNode:
		return checkMapping(n, n.Values, t, depth)
	case *ast.SequenceNode:
		if t.Kind() != reflect.Slice {
			return fault(n, "there is a list where none is expected")
		}
		for _, v := range n.Values {
			if err := check(v, t.Elem(), depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkMapping(n ast.Node, values []*ast.MappingValueNode, t reflect.Type, depth int) *Error {
	if t.Kind() != reflect.Struct {
		return fault(n, "there is a mapping where none is expected")
	}
	for _, kv := range values {
		if kv.Key.Type() == ast.MergeKeyType {
			continue // what is merged was looked at where it stands
		}
		key := kv.Key.GetToken().Value
		field, ok := fieldOf(t, key)
		if !ok {
			return fault(kv.Key, "unknown key %q%s", key, meant(key, t))
		}
		if err := check(kv.Value, field, depth-1); err != nil {
			return err
		}
	}
	return nil
}

// fieldOf returns the type of the field of t with the given key.
func fieldOf(t reflect.Type, key string) (reflect.Type, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && f.Tag.Get("yaml") == key {
			return f.Type, true
		}
	}
	return nil, false
}

// meant says which key of t was probably meant, or which there are.
func meant(key string, t reflect.Type) string {
	best, least := "", len(key)/2+1
	var all []string
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		k := f.Tag.Get("yaml")
		all = append(all, k)
		if d := distance(strings.ToLower(strings.ReplaceAll(key, "-", "_")), k); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf(": do you mean %q?", best)
	}
	return ": there are " + strings.Join(all, ", ")
}

// distance is how many letters must be put in, taken out or changed to make b of a.
func distance(a, b string) int {
	if len(a) > 100 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}
