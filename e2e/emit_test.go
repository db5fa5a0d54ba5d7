//go:build unix

package e2e

import (
	"os/exec"
	"slices"
	"testing"
)

// atoll emit reaches the clients of Node.js nodes and of Atoll nodes.
func TestEmitCommand(t *testing.T) {
	w := startWorld(t, classic)
	atoll := build(t, "cmd/atoll")
	out, err := exec.Command(atoll, "emit", "--redis", "redis://"+w.redis.Addr(), "--room", "red", "--except", "blue", "news", `{"text":"grüße"}`, "7").CombinedOutput()
	if err != nil {
		t.Fatalf("atoll emit: %v\n%s", err, out)
	}
	want := []string{`news({"text":"grüße"}, 7)`}
	for _, name := range []string{"a1", "j1"} { // of an Atoll node, of a Node.js node
		eventually(t, "news for "+name, func() bool { return slices.Equal(w.clients.of(name), want) })
	}
	for _, name := range []string{"b1", "b2", "j2"} {
		if got := w.clients.of(name); len(got) != 0 {
			t.Errorf("%s: got %v, want nothing", name, got)
		}
	}
}
