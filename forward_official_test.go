package atoll_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atollhq/atoll/client"
)

// TestOfficialClientsWithoutStickiness has official clients talk to three nodes, with each request going to any of these.
func TestOfficialClientsWithoutStickiness(t *testing.T) {
	if os.Getenv("ATOLL_E2E") != "1" {
		t.Skip("ATOLL_E2E=1 runs this with the official client")
	}
	modules, err := filepath.Abs("e2e/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(modules); err != nil {
		t.Skip("e2e/node_modules is missing; run npm ci there")
	}
	f := newFleet(t, &fleetOptions{nodes: 3, setup: echoes})
	for _, m := range modes {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, "node", "testdata/talkers.js", f.url, "60", "20", strings.Join(m.transports, ","))
		cmd.Env = append(os.Environ(), "MODULES="+filepath.Dir(modules))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		cancel()
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		want := "done 60 websockets 60\n"
		if len(m.transports) == 1 && m.transports[0] == client.Polling {
			want = "done 60 websockets 0\n"
		}
		if got := string(out); got != want {
			t.Errorf("%s: got %q, want %q", m.name, got, want)
		}
		for i, n := range f.nodes {
			t.Log(m.name, fmt.Sprint("node", i), n.Stats().Forward)
		}
	}
}
