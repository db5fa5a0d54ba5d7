package jsonx_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/atollhq/atoll/internal/jsonx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	blob   []byte
	octet  uint8
	opaque []byte // writes itself
	list   struct {
		Next *list
		V    any
	}
	chain struct{ Next *chain }
	deep  struct {
		Data  []byte `json:"data"`
		Blob  blob
		Name  string
		Any   any
		Map   map[string][]byte
		Array [3]byte
		List  [][]byte
		Ptr   *[]byte
		Empty []byte `json:"empty,omitempty"`
		Raw   json.RawMessage
		When  time.Time
		Out   []byte `json:"-"`
		inner []byte
		Embedded
	}
	Embedded struct{ Inside []byte }
)

func (o opaque) MarshalJSON() ([]byte, error) { return []byte(`"opaque"`), nil }

func holder(n string) string { return `{"_placeholder":true,"num":` + n + `}` }

func TestAppend(t *testing.T) {
	five, ptr := 5, []byte("ptr")
	when := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		v    any
		want string
		att  []string
	}{
		{"nil", nil, `null`, nil},
		{"string", "a\xff\"<>&\u2028\n", "\"a\ufffd\\\"<>&\u2028\\n\"", nil},
		{"string in a map", map[string]any{"<": "&\xff"}, "{\"<\":\"&\ufffd\"}", nil},
		{"bool", true, `true`, nil},
		{"int", -5, `-5`, nil},
		{"pointer", &five, `5`, nil},
		{"nil pointer", (*int)(nil), `null`, nil},
		{"nil string pointer", (*string)(nil), `null`, nil},
		{"whole float", []any{3.0, -1e15, math.Copysign(0, -1), 1e21, 9007199254740993.0}, `[3,-1000000000000000,-0,1e+21,9007199254740992]`, nil},
		{"float", 1.5e300, `1.5e+300`, nil},
		{"bytes", []byte("x"), holder("0"), []string{"x"}},
		{"empty bytes", []byte{}, holder("0"), []string{""}},
		{"nil bytes", []byte(nil), `null`, nil},
		{"pointer to bytes", &ptr, holder("0"), []string{"ptr"}},
		{"nil pointer to bytes", (*[]byte)(nil), `null`, nil},
		{"named bytes", blob("x"), holder("0"), []string{"x"}},
		{"bytes of a named type", []octet{1, 2}, holder("0"), []string{"\x01\x02"}},
		{"what writes itself", map[string]any{"a": opaque("x"), "t": when}, `{"a":"opaque","t":"2026-11-24T00:00:00Z"}`, nil},
		{"what writes itself beside bytes", []any{opaque("x"), []byte("y"), when}, `["opaque",` + holder("0") + `,"2026-11-24T00:00:00Z"]`, []string{"y"}},
		{"map", map[string]any{"b": []any{1, []byte("1")}, "a": []byte("0"), "c": map[string][]byte{"d": []byte("2")}},
			`{"a":` + holder("0") + `,"b":[1,` + holder("1") + `],"c":{"d":` + holder("2") + `}}`, []string{"0", "1", "2"}},
		{"map without bytes", map[string]any{"b": nil, "a": []any{1.5, "x"}}, `{"a":[1.5,"x"],"b":null}`, nil},
		{"struct", deep{Data: []byte("0"), Blob: blob("1"), Any: blob("2"), Map: map[string][]byte{"k": []byte("3"), "n": nil}, Array: [3]byte{1, 2, 3},
			List: [][]byte{[]byte("4"), nil}, Ptr: &ptr, Raw: json.RawMessage(`{"x": 1}`), When: when, Out: []byte("no"), inner: []byte("no"), Embedded: Embedded{[]byte("6")}},
			`{"data":` + holder("0") + `,"Blob":` + holder("1") + `,"Name":"","Any":` + holder("2") + `,"Map":{"k":` + holder("3") + `,"n":null},"Array":[1,2,3],"List":[` +
				holder("4") + `,null],"Ptr":` + holder("5") + `,"Raw":{"x":1},"When":"2026-11-24T00:00:00Z","Inside":` + holder("6") + `}`,
			[]string{"0", "1", "2", "3", "4", "ptr", "6"}},
		{"struct without bytes", &Embedded{}, `{"Inside":null}`, nil},
		{"list of types", []any{deep{}.Map, []blob{blob("z")}}, `[null,[` + holder("0") + `]]`, []string{"z"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, att, err := jsonx.Append([]byte("x"), nil, tt.v)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != "x"+tt.want {
				t.Errorf("got %s, want x%s", got, tt.want)
			}
			var texts []string
			for _, b := range att {
				texts = append(texts, string(b))
			}
			if diff := cmp.Diff(tt.att, texts); diff != "" {
				t.Errorf("attachments: want -, got +:\n%s", diff)
			}
		})
	}
}

func TestAppendNumbersGoOn(t *testing.T) {
	got, att, err := jsonx.Append(nil, [][]byte{{1}, {2}}, []any{[]byte{3}})
	if want := `[` + holder("2") + `]`; err != nil || string(got) != want || len(att) != 3 {
		t.Errorf("got %s, %v, %v, want %s", got, att, err, want)
	}
}

func TestAppendErrors(t *testing.T) {
	ring := &list{}
	ring.Next, ring.V = ring, ring
	loop := &chain{}
	loop.Next = loop
	self := map[string]any{}
	self["self"] = self
	for name, v := range map[string]any{
		"NaN": math.NaN(), "infinity": []any{math.Inf(-1)}, "infinity beside bytes": []any{[]byte("x"), math.Inf(1)},
		"channel": make(chan int), "function": func() {}, "bad raw": json.RawMessage(`{bad`),
		"ring": ring, "loop": loop, "map in itself": self, "map in itself, in others": map[string]map[string]any{"a": self}, "ring beside bytes": []any{[]byte("x"), ring},
	} {
		dst, att := []byte("x"), [][]byte{{1}}
		if got, att2, err := jsonx.Append(dst, att, v); err == nil || string(got) != "x" || len(att2) != 1 {
			t.Errorf("%s: got %s, %v, %v, want an error", name, got, att2, err)
		}
	}
}

func TestDecode(t *testing.T) {
	att := [][]byte{[]byte("zero"), []byte("one")}
	p0, p1 := holder("0"), holder("1")
	ptr := []byte("one")
	for _, tt := range []struct {
		name, raw string
		into      any // a pointer
		want      any
	}{
		{"bytes", p1, new([]byte), []byte("one")},
		{"bytes with space", " { \"num\" : 1 , \"_placeholder\" : true } ", new([]byte), []byte("one")},
		{"named bytes", p1, new(blob), blob("one")},
		{"base64", `"b25l"`, new([]byte), []byte("one")},
		{"any", p0, new(any), []byte("zero")},
		{"any deep", `{"a":[` + p1 + `,1,{"b":` + p0 + `}]}`, new(any), map[string]any{"a": []any{[]byte("one"), 1.0, map[string]any{"b": []byte("zero")}}}},
		{"map", `{"a":` + p1 + `,"b":null,"c":"b25l"}`, new(map[string][]byte), map[string][]byte{"a": []byte("one"), "b": nil, "c": []byte("one")}},
		{"map of any", `{"a":` + p1 + `,"b":2,"c":{"_placeholder":false,"num":0}}`, new(map[string]any),
			map[string]any{"a": []byte("one"), "b": 2.0, "c": map[string]any{"_placeholder": false, "num": 0.0}}},
		{"list", `[` + p1 + `,` + p0 + `]`, new([][]byte), [][]byte{[]byte("one"), []byte("zero")}},
		{"list of any", `[` + p1 + `,"b25l",3]`, new([]any), []any{[]byte("one"), "b25l", 3.0}},
		{"struct", `{"DATA":` + p1 + `,"Blob":` + p0 + `,"Any":{"x":` + p0 + `},"Ptr":` + p1 + `,"Array":[1,2],"Raw":` + p0 + `,"more":1,"Inside":"b25l"}`, new(deep),
			deep{Data: []byte("one"), Blob: blob("zero"), Any: map[string]any{"x": []byte("zero")}, Ptr: &ptr, Array: [3]byte{1, 2}, Raw: json.RawMessage(p0), Embedded: Embedded{[]byte("one")}}},
		{"raw", p1, new(json.RawMessage), json.RawMessage(p1)},
		{"no bytes", `{"a":1}`, new(map[string]int), map[string]int{"a": 1}},
		{"string", `"x"`, new(string), "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := jsonx.Decode([]byte(tt.raw), att, tt.into); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, reflect.ValueOf(tt.into).Elem().Interface(), cmp.AllowUnexported(deep{})); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
	var v any
	if err := jsonx.Decode([]byte(p0), nil, &v); err != nil || v.(map[string]any)["num"] != 0.0 {
		t.Errorf("got %v, %v, want an object like others where there are no attachments", v, err)
	}
}

func TestDecodeErrors(t *testing.T) {
	att := [][]byte{[]byte("zero")}
	for _, tt := range []struct {
		raw  string
		into any
	}{
		{holder("1"), new([]byte)},
		{`{"a":` + holder("1") + `}`, new(map[string][]byte)},
		{`[{"a":1},` + holder("0") + `]`, new([][]byte)},
		{`{"x":` + holder("0") + `}`, new([]byte)},
		{holder("0"), new(string)},
		{`{"Name":` + holder("0") + `}`, new(deep)},
		{`{"_placeholder":true,"num":0,"x":1}`, new(any)},
		{`{`, new(any)},
		{`[` + holder("0"), new(any)},
		{holder("0"), nil},
		{holder("0"), 5},
		{holder("0"), (*[]byte)(nil)},
	} {
		if err := jsonx.Decode([]byte(tt.raw), att, tt.into); err == nil {
			t.Errorf("%s into %T: got no error", tt.raw, tt.into)
		}
	}
}

// What goes through the library for binary looks as what goes through the fast one.
func TestBothWaysAgree(t *testing.T) {
	type all struct {
		I   int8 `json:"i"`
		U   uint64
		F   float64
		G   float32
		S   string `json:",omitempty"`
		N   int    `json:",string"`
		P   *string
		M   map[string]int
		L   []int
		D   time.Duration
		T   time.Time
		Num json.Number
		Any any
		B   []byte
	}
	v := all{-1, math.MaxUint64, 1e-7, 3.4e38, "é\"<\u2028", 7, nil, map[string]int{"b": 1, "a": 2}, nil, time.Second, time.Unix(0, 0).UTC(), "12.5", []any{1, "<", nil, map[string]any{}}, nil}
	fast, _, err := jsonx.Append(nil, nil, []any{nil, v})
	if err != nil {
		t.Fatal(err)
	}
	slow, _, err := jsonx.Append(nil, nil, []any{[]byte("x"), v})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(string(fast), "null", holder("0"), 1)
	if string(slow) != want {
		t.Errorf("got %s, want %s", slow, want)
	}
	var one, two all
	raw, _ := jsonx.Marshal(v)
	if err := jsonx.Decode(raw, nil, &one); err != nil {
		t.Fatal(err)
	}
	raw = []byte(strings.Replace(string(raw), `"B":null`, `"B":`+holder("0"), 1))
	if err := jsonx.Decode(raw, [][]byte{nil}, &two); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(one, two); diff != "" {
		t.Errorf("fast -, slow +:\n%s", diff)
	}
}
