// Package origins tests what a page of another origin meets: in headers, against the official
// server, and in a real browser.
package origins

import (
	"bufio"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// need skips the test where something that it needs is not installed.
func need(t *testing.T, modules ...string) {
	t.Helper()
	for _, m := range append(modules, "socket.io") {
		if _, err := os.Stat("../node_modules/" + m); err != nil {
			t.Skipf("%s is not installed: run npm ci in e2e", m)
		}
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not on the PATH")
	}
}

// official starts an official server for each of the options and returns their ports.
func official(t *testing.T, options []any) (ports []int) {
	t.Helper()
	o, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "js/official.js", string(o))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &ports); err != nil {
		t.Fatalf("got %q: %v", line, err)
	}
	return ports
}
