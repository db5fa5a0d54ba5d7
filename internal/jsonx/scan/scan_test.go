package scan_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/atollhq/atoll/internal/jsonx/scan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var seeds = []string{
	``, ` `, `null`, `true`, `false`, `nul`, `truee`, `0`, `-0`, `01`, `1.5e+10`, `1.`, `.1`, `1e`, `-`, `""`, `"a`, `"\"`,
	`"\u00e9\ud83d\ude00\ud83d"`, `"\x"`, `"12345678\n12345678"`, `"日本語日本語"`, "\"\xff\"", "\"a\x1f\"", "\"\x7f\"",
	`[]`, `[ ]`, `{}`, `{ }`, `[1,2 , 3]`, `[1,]`, `[,1]`, `{"a":1,"b":[{"c":{}}]}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `[1}`, `{"a":1]`,
	` { "a" : [ 1 , { } ] } `, `[[[[[[[[]]]]]]]]`, `[`, `{`, `]`, `}`, `{"a`, `{"a":`, `"a" "b"`, `1 2`, `{"_placeholder":true,"num":0}`,
	`{"num": 12 , "_placeholder" : true }`, `{"_placeholder":true,"num":0,"x":1}`, `{"\u005fplaceholder":true}`, `[{"_placeholder":true,"num":3},{}]`, `0}0`, `,,`,
}

func FuzzValue(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		end, err := scan.Value(data, 0)
		valid := err == nil && scan.Space(data, end) == len(data)
		if want := json.Valid(data) && utf8.Valid(data) && depth(data) <= scan.MaxDepth; valid != want {
			t.Fatalf("%q: got valid %t (end %d, %v), want %t", data, valid, end, err, want)
		}
		if skipped := scan.Skip(data, 0); skipped < 0 || skipped > len(data)+1 {
			t.Fatalf("%q: got %d from Skip, want an index", data, skipped)
		} else if valid && skipped != end {
			t.Fatalf("%q: got %d from Skip, %d from Value, want the same", data, skipped, end)
		}
		for i, ok := 0, true; ok; {
			before := i
			if _, i, ok = scan.Element(data, i); ok && i <= before {
				t.Fatalf("%q: got from %d to %d, want to go on", data, before, i)
			}
		}
		if !valid {
			scan.Placeholder(data, 0)
			scan.Unquote(data)
			return
		}
		checkPlaceholders(t, data)
		if trimmed := scan.Trim(data); trimmed[0] == '"' {
			var want string
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			if got := string(scan.Unquote(trimmed)); got != want {
				t.Fatalf("%s: got %q, want %q", data, got, want)
			}
		}
	})
}

// depth returns how deep arrays and objects nest in data, which is valid JSON.
func depth(data []byte) int {
	deepest, d := 0, 0
	quoted := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			d++
			deepest = max(deepest, d)
		case c == ']' || c == '}':
			d--
		}
	}
	return deepest
}

// checkPlaceholders compares the placeholders found with those in the decoded value.
func checkPlaceholders(t *testing.T, data []byte) {
	got := 0
	for i := 0; ; got++ {
		start, end, _, err := scan.Placeholder(data, i)
		if err != nil {
			return // also where encoding/json, of two members of one name, sees the other one
		}
		if start < 0 {
			break
		}
		if !json.Valid(data[start:end]) {
			t.Fatalf("%q: got %q, want a value", data, data[start:end])
		}
		i = end
	}
	var v any
	if json.Unmarshal(data, &v) != nil {
		return // a number that is too large
	}
	if want := count(v); got < want {
		t.Fatalf("%s: got %d placeholders, want %d", data, got, want)
	}
}

func count(v any) int {
	n := 0
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			n += count(e)
		}
	case map[string]any:
		if v["_placeholder"] == true {
			return 1
		}
		for _, e := range v {
			n += count(e)
		}
	}
	return n
}

func FuzzAppendString(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Add("a\x00\x1f\b\f\n\r\t\"\\/<>&\u2028\u2029\x7f\xed\xa0\x80\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := scan.AppendString([]byte("x"), s)[1:]
		if end, err := scan.Value(got, 0); err != nil || end != len(got) {
			t.Fatalf("%q: got %s: %v", s, got, err)
		}
		if back, want := string(scan.Unquote(got)), strings.ToValidUTF8(s, "\ufffd"); utf8.ValidString(s) && back != want {
			t.Fatalf("got %q, want %q", back, want)
		}
		if b := scan.AppendString(nil, []byte(s)); !bytes.Equal(b, got) {
			t.Fatalf("got %s, want %s", b, got)
		}
		var want string
		if err := json.Unmarshal(got, &want); err != nil || want != string(scan.Unquote(got)) {
			t.Fatalf("got %q, want %q, %v", scan.Unquote(got), want, err)
		}
	})
}

func TestPlaceholders(t *testing.T) {
	for _, tt := range []struct {
		data    string
		base, n int
		ok      bool
	}{
		{`{"_placeholder":true,"num":0}`, 0, 1, true},
		{`{"_placeholder":true,"num":0}`, 0, 0, false},
		{`{"_placeholder":true,"num":0}`, 1, 1, false},
		{`"_placeholder",{"_placeholder":true,"num":400},[{"num":1,"_placeholder":true}]`, 1, 400, true},
		{`{"_placeholder":true,"num":1},{"_placeholder":true,"num":1}`, 0, 2, false},
		{`"{\"_placeholder\":true,\"num\":7}"`, 0, 1, true},
		{`{"_placeholder":"true","num":7},{"_placeholder":1}`, 0, 1, true},
		{`{"a":{"_placeholder":true}}`, 0, 1, false},
		{`{"_placeholder":true,"num":2147483648}`, 0, 1, false},
	} {
		if err := scan.Placeholders([]byte(tt.data), tt.base, tt.n); (err == nil) != tt.ok {
			t.Errorf("%s from %d, %d: got %v, want %t", tt.data, tt.base, tt.n, err, tt.ok)
		}
	}
}

// What the scanner must do with much input takes time in proportion to it, whatever it is.
func TestLinear(t *testing.T) {
	for _, s := range []string{"[", `{"a":`, `"`, `\`, " ", `{"_placeholder":true,`, `{"_placeholder" `, "{ ", "1,", `"\u005f`, "\xff"} {
		data := []byte(strings.Repeat(s, 1_000_000/len(s)))
		scan.Value(data, 0)
		scan.Skip(data, 0)
		scan.Placeholder(data, 0)
		for i, ok := 0, true; ok; {
			_, i, ok = scan.Element(data, i)
		}
	}
}
