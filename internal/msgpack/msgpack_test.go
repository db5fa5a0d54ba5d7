package msgpack

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// pairs are values in both forms. hex is what notepack.io 3.0.1 writes.
var pairs = []struct{ json, hex string }{
	{`null`, "c0"},
	{`true`, "c3"},
	{`false`, "c2"},
	{`0`, "00"},
	{`127`, "7f"},
	{`128`, "cc80"},
	{`255`, "ccff"},
	{`256`, "cd0100"},
	{`65535`, "cdffff"},
	{`65536`, "ce00010000"},
	{`4294967295`, "ceffffffff"},
	{`4294967296`, "cf0000000100000000"},
	{`18446744073709551615`, "cfffffffffffffffff"},
	{`-1`, "ff"},
	{`-32`, "e0"},
	{`-33`, "d0df"},
	{`-128`, "d080"},
	{`-129`, "d1ff7f"},
	{`-32768`, "d18000"},
	{`-32769`, "d2ffff7fff"},
	{`-2147483648`, "d280000000"},
	{`-2147483649`, "d3ffffffff7fffffff"},
	{`-9223372036854775808`, "d38000000000000000"},
	{`0.5`, "cb3fe0000000000000"},
	{`-2.5`, "cbc004000000000000"},
	{`1e+21`, "cb444b1ae4d6e2ef50"}, // notepack.io writes another number
	{`1e-7`, "cb3e7ad7f29abcaf48"},
	{`""`, "a0"},
	{`"é"`, "a2c3a9"},
	{`"` + strings.Repeat("x", 31) + `"`, "bf" + strings.Repeat("78", 31)},
	{`"` + strings.Repeat("x", 32) + `"`, "d920" + strings.Repeat("78", 32)},
	{`"` + strings.Repeat("x", 256) + `"`, "da0100" + strings.Repeat("78", 256)},
	{`"` + strings.Repeat("x", 65536) + `"`, "db00010000" + strings.Repeat("78", 65536)},
	{`[]`, "90"},
	{`[1,[2]]`, "92019102"},
	{"[" + strings.Repeat("1,", 14) + "1]", "9f" + strings.Repeat("01", 15)},
	{"[" + strings.Repeat("1,", 15) + "1]", "dc0010" + strings.Repeat("01", 16)},
	{"[" + strings.Repeat("1,", 65535) + "1]", "dd00010000" + strings.Repeat("01", 65536)},
	{`{}`, "80"},
	{`{"a":{"b":[]}}`, "81a16181a16290"},
	{`"\"\\\b\f\n\r\t\u0000\u001f"`, "a9225c080c0a0d09001f"},
	{`"\u2028"`, "a3e280a8"},
}

func TestPairs(t *testing.T) {
	for _, p := range pairs {
		got, err := AppendFromJSON([]byte("before"), []byte(p.json), nil)
		if err != nil || !strings.HasPrefix(string(got), "before") || hex.EncodeToString(got[6:]) != p.hex {
			t.Errorf("to MessagePack %.60s: got %.80x and error %v, want %.80s", p.json, got, err, p.hex)
		}
		data, _ := hex.DecodeString(p.hex)
		out, atts, rest, err := AppendJSON([]byte("before"), append(data, "rest"...), nil)
		if err != nil || string(out) != "before"+p.json || string(rest) != "rest" || len(atts) != 0 {
			t.Errorf("to JSON %.80s: got %.80s and error %v, want %.60s", p.hex, out, err, p.json)
		}
	}
}

func TestFromJSON(t *testing.T) {
	atts := [][]byte{{1, 2}, {}, bytes.Repeat([]byte{7}, 256)}
	for _, c := range []struct{ json, hex string }{
		{" [ 1 , \"a\" ,\t{ \"b\" : 2 }\r\n] ", "9301a16181a16202"},
		{`"\u00e9\ud83c\udf89\/"`, "a7c3a9f09f8e892f"},
		{`"\ud800"`, "a3efbfbd"},
		{`"\ud800\u0041"`, "a4efbfbd41"},
		{`"\udc00x"`, "a4efbfbd78"},
		{"\"\xff\"", "a3efbfbd"},
		{`1.0`, "01"},
		{`-0`, "00"},
		{`-0.0`, "00"},
		{`1e3`, "cd03e8"},
		{`1E400`, "c0"},
		{`-1e400`, "c0"},
		{`18446744073709551616`, "cb43f0000000000000"},
		{`123456789012345678901234567890`, "cb45f8ee90ff6c373e"},
		{`{"_placeholder":true,"num":0}`, "c4020102"},
		{`{ "num" : 1 , "_placeholder" : true }`, "c400"},
		{`[{"_placeholder":true,"num":2},{"_placeholder":true,"num":2}]`, "92c50100" + strings.Repeat("07", 256) + "c50100" + strings.Repeat("07", 256)},
		{`{"_placeholder":false,"num":0}`, "82ac5f706c616365686f6c646572c2a36e756d00"},
		{`{"num":0}`, "81a36e756d00"},
	} {
		got, err := AppendFromJSON(nil, []byte(c.json), atts)
		if err != nil || hex.EncodeToString(got) != c.hex {
			t.Errorf("%s: got %x and error %v, want %s", c.json, got, err, c.hex)
		}
	}
}

func TestFromJSONBad(t *testing.T) {
	for _, s := range []string{
		``, ` `, `[`, `[1`, `[1,`, `[1,]`, `[,]`, `[1 2]`, `]`, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{a:1}`, `{1:1}`, `{"a" 1}`,
		`"`, `"a`, `"\`, `"\u12`, `"\x"`, `"\u12g4"`, "\"\n\"", "\"\\n\x01\"", `tru`, `nul`, `falsy`, `01`, `-`, `-01`, `1.`, `.5`, `1e`, `1e+`, `+1`, `1 2`, `NaN`, `'a'`,
		`{"_placeholder":true}`, `{"_placeholder":true,"num":1}`, `{"_placeholder":true,"num":-1}`, `{"_placeholder":true,"num":0.5}`,
		`{"_placeholder":true,"num":0,"x":1}`, `{"_placeholder":true,"_placeholder":true}`, `{"num":0,"_placeholder":true,"num":5}`,
		strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
		strings.Repeat("[", 1<<20), strings.Repeat(`{"a":`, 1<<20),
	} {
		if got, err := AppendFromJSON(nil, []byte(s), [][]byte{{1}}); !errors.Is(err, ErrSyntax) {
			t.Errorf("%.60s: got %.40x and error %v, want one that wraps ErrSyntax", s, got, err)
		}
	}
}

func TestToJSON(t *testing.T) {
	for _, c := range []struct {
		name, hex, json string
		atts            []string
	}{
		{"bin 8", "c40301ff02", `{"_placeholder":true,"num":0}`, []string{"01ff02"}},
		{"bin 16, twice", "92c5000101c50000", `[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, []string{"01", ""}},
		{"ArrayBuffer", "c702000102", `{"_placeholder":true,"num":0}`, []string{"0102"}},
		{"undefined in an array", "9301d4000002", `[1,null,2]`, nil},
		{"undefined in a map", "83a161d40000a16201a163d40000", `{"b":1}`, nil},
		{"array of undefined in a map", "81a16191d40000", `{"a":[null]}`, nil},
		{"old date", "d7000000018cc820db2e", `"2024-01-02T03:04:05.678Z"`, nil},
		{"timestamp 32", "d6ff65937d25", `"2024-01-02T03:04:05.000Z"`, nil},
		{"timestamp 64", "d7ffa1a5d60065937d25", `"2024-01-02T03:04:05.678Z"`, nil},
		{"timestamp 96", "c70cff00000000ffffffffffffffff", `"1969-12-31T23:59:59.000Z"`, nil},
		{"year 10000", "c70cff000000000000003afff44180", `"+010000-01-01T00:00:00.000Z"`, nil},
		{"invalid date", "c70cff000000007fffffffffffffff", `null`, nil},
		{"year -1", "c70cff00000000fffffff184aa5080", `"-000001-01-01T00:00:00.000Z"`, nil},
		{"unknown extension", "d4050a", `[5,{"_placeholder":true,"num":0}]`, []string{"0a"}},
		{"unknown extension, 16 bits", "c80002fb0a0b", `[-5,{"_placeholder":true,"num":0}]`, []string{"0a0b"}},
		{"float 32", "ca3f000000", `0.5`, nil},
		{"NaN", "cb7ff8000000000000", `null`, nil},
		{"infinity", "cbfff0000000000000", `null`, nil},
		{"minus zero", "cb8000000000000000", `0`, nil},
		{"numbers as keys", "8401c0ffc0c3c0c0c0", `{"1":null,"-1":null,"true":null,"null":null}`, nil},
		{"bad UTF-8", "a261ff", `"a` + "\uFFFD" + `"`, nil},
		{"_placeholder that is not true", "81ac5f706c616365686f6c646572c2", `{"_placeholder":false}`, nil},
	} {
		data, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		out, atts, rest, err := AppendJSON(nil, data, nil)
		if err != nil || string(out) != c.json || len(rest) != 0 {
			t.Errorf("%s: got %s, %d bytes left and error %v, want %s", c.name, out, len(rest), err, c.json)
		}
		var got []string
		for _, a := range atts {
			got = append(got, hex.EncodeToString(a))
		}
		if !reflect.DeepEqual(got, c.atts) {
			t.Errorf("%s: got attachments %v, want %v", c.name, got, c.atts)
		}
	}
}

func TestToJSONBad(t *testing.T) {
	for _, s := range []string{
		"", "c1", "91", "81", "81a161", "a2", "a261", "d9", "d905", "da00", "db000000", "c4", "c405", "c500", "c6ffffffff00",
		"dd00ffffff", "dfffffffff", "ddffffffff00", "cc", "cd00", "ce0000", "cf00", "d0", "d3", "ca00", "cb00", "d4", "d400", "d8000000", "c7", "c705", "c70500", "c9ffffffff00",
		"819001", "8180c0", "81c4016100", "81d400000000",
		"81ac5f706c616365686f6c646572c3",
		strings.Repeat("91", MaxDepth+1) + "c0",
		strings.Repeat("81a161", 1<<16),
	} {
		data, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		if out, _, _, err := AppendJSON(nil, data, nil); !errors.Is(err, ErrSyntax) {
			t.Errorf("%.40s: got %.40s and error %v, want one that wraps ErrSyntax", s, out, err)
		}
	}
}

func TestBuffers(t *testing.T) {
	for _, c := range []struct{ json, hex string }{
		{`{"type":"Buffer","data":[1,255,0]}`, "c40301ff00"},
		{`["x",{"type":"Buffer","data":[]}]`, "92a178c400"},
		{`{"type":"Buffer"}`, "81a474797065a6427566666572"},
		{`{"type":"Buffer","data":[256]}`, "82a474797065a6427566666572a46461746191cd0100"},
		{`{"type":"Buffer","data":"x"}`, "82a474797065a6427566666572a464617461a178"},
		{`{"type":"Buffer","more":[1]}`, "82a474797065a6427566666572a46d6f72659101"},
		{`{"type":"Other","data":[1]}`, "82a474797065a54f74686572a4646174619101"},
	} {
		got, err := AppendFromBufferJSON(nil, []byte(c.json))
		if err != nil || hex.EncodeToString(got) != c.hex {
			t.Errorf("%s: got %x and error %v, want %s", c.json, got, err, c.hex)
			continue
		}
		out, rest, err := AppendBufferJSON(nil, got)
		if err != nil || string(out) != c.json || len(rest) != 0 {
			t.Errorf("%x: got %s and error %v, want %s", got, out, err, c.json)
		}
	}
}

func TestFloat(t *testing.T) {
	for _, c := range []struct {
		v    float64
		want string
	}{{1, "01"}, {-1, "ff"}, {0.5, "cb3fe0000000000000"}, {1 << 53, "cf0020000000000000"}, {-1 << 63, "d38000000000000000"}, {1 << 64, "cb43f0000000000000"}} {
		if got := hex.EncodeToString(appendFloat(nil, c.v)); got != c.want {
			t.Errorf("%v: got %s, want %s", c.v, got, c.want)
		}
	}
}

// FuzzFromJSON compares with encoding/json: what it takes for JSON, and what it means by it.
func FuzzFromJSON(f *testing.F) {
	for _, p := range pairs {
		if len(p.json) < 1000 {
			f.Add(p.json)
		}
	}
	for _, s := range []string{`{"a":[1,2.5,"\ud83c\udf89",{"type":"Buffer","data":[1]}],"b":null}`, `[1e999]`, "\"\xff\"", `{"":{"":[]}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		packed, err := AppendFromJSON(nil, []byte(s), nil)
		if strings.Contains(s, "_pl") || strings.Contains(s, `\u`) && strings.Contains(s, "laceholder") {
			return
		}
		if valid := json.Valid([]byte(s)); valid != (err == nil) {
			if valid && strings.Contains(err.Error(), "deep") {
				return
			}
			t.Fatalf("%q: got error %v, but JSON valid: %v", s, err, valid)
		}
		if err != nil {
			return
		}
		out, atts, rest, err := AppendJSON(nil, packed, nil)
		if err != nil {
			if strings.Contains(err.Error(), "_placeholder") {
				return
			}
			t.Fatalf("%q: %x: %v", s, packed, err)
		}
		if len(rest) > 0 || len(atts) > 0 {
			t.Fatalf("%q: got %d bytes left and %d attachments, want none", s, len(rest), len(atts))
		}
		var want, got any
		if json.Unmarshal([]byte(s), &want) != nil {
			return // a number out of range
		}
		if err := json.Unmarshal(out, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %q (%v), want the same", s, out, err)
		}
	})
}

// FuzzToJSON checks that what comes is JSON, and comes back from MessagePack as the same JSON.
func FuzzToJSON(f *testing.F) {
	for _, p := range pairs {
		if b, _ := hex.DecodeString(p.hex); len(b) < 1000 {
			f.Add(b)
		}
	}
	for _, s := range []string{"83a161d40000a16201a163d40000", "c70cff00000000ffffffffffffffff", "92c5000101c50000", "ddffffffff00", "81ac5f706c616365686f6c646572c3"} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out, atts, _, err := AppendJSON(nil, b, nil)
		if err != nil {
			return
		}
		if len(out) > 64+40*len(b) {
			t.Fatalf("%x: got %d bytes of %d", b, len(out), len(b))
		}
		if !json.Valid(out) {
			t.Fatalf("%x: got %q, want JSON", b, out)
		}
		packed, err := AppendFromJSON(nil, out, atts)
		if err != nil {
			t.Fatalf("%x: %q does not come back: %v", b, out, err)
		}
		again, _, _, err := AppendJSON(nil, packed, nil)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%x: got %q, and of that %q (%v), want the same", b, out, again, err)
		}
	})
}

var benchEvent = []byte(`["message",{"room":"lobby","user":"ada","text":"hello, world: this is a message of common length, with some more words","time":1700000000000,"tags":["a","b"],"seen":false},1]`)

func BenchmarkFromJSON(b *testing.B) {
	var buf []byte
	b.ReportAllocs()
	b.SetBytes(int64(len(benchEvent)))
	for b.Loop() {
		var err error
		if buf, err = AppendFromJSON(buf[:0], benchEvent, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkToJSON(b *testing.B) {
	packed, err := AppendFromJSON(nil, benchEvent, nil)
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.ReportAllocs()
	b.SetBytes(int64(len(benchEvent)))
	for b.Loop() {
		if buf, _, _, err = AppendJSON(buf[:0], packed, nil); err != nil {
			b.Fatal(err)
		}
	}
}
