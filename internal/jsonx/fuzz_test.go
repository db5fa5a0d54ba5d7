package jsonx_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/atollhq/atoll/internal/jsonx"
)

type shape struct {
	A int               `json:"a"`
	B string            `json:"b,omitempty"`
	C []shape           `json:"c,omitempty"`
	D map[string]string `json:"d,omitempty"`
	E *float64          `json:"e"`
	F any               `json:"f"`
	G bool              `json:"g,string"`
	H [2]uint8
	I []string
	J []byte
	K json.RawMessage `json:"k,omitempty"`
}

// FuzzAgainstStandard compares what the fast library decodes and encodes with
// what encoding/json does. It finds nothing where the tag stdjson is set.
func FuzzAgainstStandard(f *testing.F) {
	for _, s := range []string{
		`null`, `{}`, `[]`, `0`, `"a"`, `{"a":1,"b":"x","c":[{"a":2}],"d":{"k":"v"},"e":1.5,"f":[1,{"x":null}],"g":"true","H":[1,2],"I":["a"],"J":"AQI=","k":{"r":1}}`,
		`{"A":1,"B":"\u00e9\ud83d\ude00<>&","E":null,"F":1e400}`, `{"a":1.5}`, `{"a":9223372036854775808}`, `{"f":"\ud800"}`, `{"h":[1,2,3]}`, `{"g":true}`, `[1,2`, "{\"b\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) {
			return // a packet with it does not come this far
		}
		compare(t, data, new(any), new(any))
		compare(t, data, new(shape), new(shape))
		compare(t, data, new(map[string]any), new(map[string]any))
		compare(t, data, new([]string), new([]string))
	})
}

func compare(t *testing.T, data []byte, got, want any) {
	err, wantErr := jsonx.Unmarshal(data, got), json.Unmarshal(data, want)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q into %T: got %v, want %v", data, got, err, wantErr)
	}
	if err != nil {
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q: got %#v, want %#v", data, got, want)
	}
	out, err := jsonx.Marshal(got)
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	wantErr = enc.Encode(want)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q: got %v, want %v", data, err, wantErr)
	}
	if err == nil && string(out) != string(bytes.TrimSuffix(buf.Bytes(), []byte("\n"))) {
		t.Fatalf("%q: got %s, want %s", data, out, buf.Bytes())
	}
}

// FuzzRoundTrip decodes values with placeholders and encodes them again.
func FuzzRoundTrip(f *testing.F) {
	for _, s := range []string{holder("0"), `[` + holder("0") + `,` + holder("1") + `]`, `{"a":{"b":` + holder("1") + `},"J":` + holder("0") + `}`, `{"f":` + holder("1") + `}`} {
		f.Add([]byte(s))
	}
	att := [][]byte{[]byte("zero"), []byte("one")}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range []any{new(any), new(shape), new(map[string]any), new([][]byte)} {
			if jsonx.Decode(data, att, v) != nil {
				continue
			}
			out, att2, err := jsonx.Append(nil, nil, v)
			if err != nil {
				continue
			}
			again := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err := jsonx.Decode(out, att2, again); err != nil {
				t.Fatalf("%q: %s: %v", data, out, err)
			}
			out2, att3, err := jsonx.Append(nil, nil, again)
			if err != nil || !bytes.Equal(out, out2) || !reflect.DeepEqual(att2, att3) {
				t.Fatalf("%q: got %s %q, want %s %q, %v", data, out2, att3, out, att2, err)
			}
		}
	})
}

// FuzzAppendAny compares how plain maps and slices are encoded with what encoding/json does.
func FuzzAppendAny(f *testing.F) {
	for _, s := range []string{`null`, `{"b":[1,2.5,-0,1e30,"x\u2028\n<"],"a":{"":null}}`, `[[],{},true,"\ud800"]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v, again any
		if json.Unmarshal(data, &v) != nil {
			return
		}
		out, _, err := jsonx.Append(nil, nil, v)
		if err != nil {
			return // too deep
		}
		if err := json.Unmarshal(out, &again); err != nil || !reflect.DeepEqual(v, again) {
			t.Fatalf("%q: got %s, %v", data, out, err)
		}
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		// The two escape other characters in strings.
		if bytes.Contains(data, []byte(`"`)) {
			return
		}
		if !bytes.Equal(out, want) {
			t.Fatalf("%q: got %s, want %s", data, out, want)
		}
	})
}
