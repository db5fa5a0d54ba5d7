package httpemit_test

import (
	"os"
	"strings"
	"testing"

	"github.com/atollhq/atoll/emitter"
	"github.com/atollhq/atoll/emitter/httpemit"
)

// TestDocs checks that the operations in docs/emit.md are ones.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/emit.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```json\n")
	block, _, _ = strings.Cut(block, "```")
	h, err := httpemit.New(emitter.New(&sink{}, nil), &httpemit.Options{Tokens: []string{token}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(block) {
		n++
		code, got := post(t, h, jsonType, line)
		if asks := strings.Contains(line, `"ask"`) || strings.Contains(line, `"query"`); asks && code != 501 || !asks && code != 200 {
			t.Errorf("%s: got %d %s", line, code, got)
		}
	}
	if n < 10 {
		t.Errorf("got %d operations, want all", n)
	}
}
