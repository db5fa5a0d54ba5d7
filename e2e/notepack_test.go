//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/atollhq/atoll/internal/msgpack"
)

// TestNotepack holds our MessagePack against the codec of the official Redis packages:
// the same bytes from the same JSON, and the same JSON from the same bytes.
func TestNotepack(t *testing.T) {
	p := startPeer(t)
	r := rand.New(rand.NewPCG(1, 2))
	var docs []string
	for range 400 {
		docs = append(docs, document(r, 4))
	}
	docs = append(docs, "["+strings.Repeat("0,", 70_000)+"0]", `"`+strings.Repeat("é", 70_000)+`"`)

	var wrote []struct {
		B []byte `json:"$b"`
	}
	check(t, json.Unmarshal(p.do(t, "notepack.encode", object{"values": docs}), &wrote))
	ours := make([]any, len(docs))
	for i, doc := range docs {
		b, err := msgpack.AppendFromJSON(nil, []byte(doc), nil)
		if err != nil {
			t.Fatalf("%.200s: %v", doc, err)
		}
		ours[i] = b
		if string(b) != string(wrote[i].B) {
			t.Errorf("%.200s: got %.200x, want %.200x", doc, b, wrote[i].B)
		}
	}

	var read []string
	check(t, json.Unmarshal(p.do(t, "notepack.decode", object{"values": ours}), &read))
	for i, b := range ours {
		got, _, _, err := msgpack.AppendJSON(nil, b.([]byte), nil)
		if err != nil {
			t.Fatalf("%.200x: %v", b, err)
		}
		if string(got) != read[i] {
			t.Errorf("%.200x: got %.200s, want %.200s", b, got, read[i])
		}
	}
}

// document makes JSON as JSON.stringify would write it: without keys that look like
// numbers, which JavaScript puts first, without integers beyond 2^53, which it rounds, and
// without those from 2^64, which notepack.io writes as others.
func document(r *rand.Rand, depth int) string {
	kinds := 9
	if depth == 0 {
		kinds = 7
	}
	switch r.IntN(kinds) {
	case 0:
		return []string{"null", "true", "false", "0", "-1", `""`, "[]", "{}"}[r.IntN(8)]
	case 1, 2:
		v := int64(1) << r.IntN(53)
		v += r.Int64N(3) - 1
		if r.IntN(2) == 0 {
			v = -v
		}
		return fmt.Sprint(v)
	case 3:
		b, _ := json.Marshal(r.NormFloat64() * []float64{1, 1e-9, 1e9, 1e-300}[r.IntN(4)])
		return string(b)
	case 4, 5, 6:
		return quoted(r)
	case 7:
		n := r.IntN(20)
		s := make([]string, n)
		for i := range s {
			s[i] = document(r, depth-1)
		}
		return "[" + strings.Join(s, ",") + "]"
	default:
		n := r.IntN(20)
		s := make([]string, n)
		for i := range s {
			s[i] = fmt.Sprintf(`"k%d%s:%s`, i, quoted(r)[1:], document(r, depth-1))
		}
		return "{" + strings.Join(s, ",") + "}"
	}
}

func quoted(r *rand.Rand) string {
	letters := []rune("abcXYZ 019 _-\"\\/\n\t\x01\x7fäöÿ\u0800\uffff€😀𝄞")
	s := make([]rune, r.IntN(40))
	for i := range s {
		s[i] = letters[r.IntN(len(letters))]
	}
	return string(msgpack.AppendQuoted(nil, string(s)))
}
