//go:build unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Nodes that other machines can reach have a secret: who knows it finds them, and who does not is told what is missing.
func TestClusterWithSecret(t *testing.T) {
	const secret = "a secret of the test"
	// A directory of its own, so that nothing else is found. Paths of sockets are short: so is this.
	t.Setenv("TMPDIR", t.TempDir())
	name := fmt.Sprintf("test-secret-%d", time.Now().UnixNano())
	t.Setenv(secretEnv, secret)
	where := []string{"--cluster", name}
	with := func(args ...string) []string { return append(args, where...) }
	startServer(t, with("serve", "--port", "0", "--name", "anna", "--cluster-listen", "127.0.0.1:0")...)

	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"nodes"}, `(?m)^anna .* serving$`},
		{[]string{"sockets", "--count"}, `^0\n$`},
		{[]string{"rooms"}, `No client is in a room`},
		{[]string{"emit", "x"}, `^Published "x"`},
		{[]string{"tail", "--count", "1"}, `anna +\+ came`},
		{[]string{"drain", "anna", "--undo"}, `^anna takes sessions again`},
	} {
		if out := run(t, 0, with(c.args...)...); !regexp.MustCompile(c.want).MatchString(out) {
			t.Errorf("%s: got %q, want %s", c.args[0], out, c.want)
		}
	}
	for _, c := range []struct{ secret, cluster, want string }{
		{"", name, "have a secret: set ATOLL_SECRET"},
		{"another one of the test", name, "another secret than ATOLL_SECRET"},
		{"", "other", "but " + name + ": name one with --cluster"},
	} {
		cmd := program("nodes", "--cluster", c.cluster)
		cmd.Env = append(cmd.Env, secretEnv+"="+c.secret)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if _ = cmd.Run(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errs.String(), c.want) {
			t.Errorf("with the secret %q: got status %d, %q, want 1, and %q", c.secret, cmd.ProcessState.ExitCode(), errs.String(), c.want)
		}
	}
	if found := grepDir(t, os.Getenv("TMPDIR"), secret); found != "" {
		t.Errorf("the secret is in %s, want it nowhere", found)
	}
}

// grepDir returns a file that holds a text, if there is one.
func grepDir(t *testing.T, dir, text string) (found string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(text)) {
			found = path
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
