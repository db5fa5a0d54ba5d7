package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// programEnv makes the test program the program itself.
const programEnv = "ATOLL_TEST_IS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programEnv) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// program returns the command that runs atoll with args.
func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	// The race detector would have each process wait for a second before it ends.
	cmd.Env = append(os.Environ(), programEnv+"=1", leadEnv+"=0s", "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	return cmd
}

func TestFailuresSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"demo --nodes 99", 1, "choose 1 to 7 with --nodes"},
		{"demo --port 99999", 1, "choose one from 1 to 65535"},
		{"demo --prot 1", 2, "atoll demo --help"},
		{"demo now", 2, "takes no arguments"},
		{"serve --static /nowhere", 2, "is not a folder"},
		{"serve --cors-origin *foo", 2, "https://example.com"},
		{"check", 2, "which server?"},
		{"check ftp://x", 2, "http:// or https://"},
		{"check x --sessions 1", 2, "2 to 200"},
		{"check x --origin page", 2, "https://app.example.com"},
		{"check 127.0.0.1:1", 3, "cannot be reached"},
		{"serve --cors-credentials", 2, "needs --cors-origin"},
		{"serve --cors-credentials --cors-origin *", 2, "exclude each other"},
		{"serve --cookie io;Secura", 2, "SameSite=None; Secure"},
		{"serve --cookie=io;Secure;SameSite=None --port 70000 --cluster test-cookie", 2, "choose one from 1 to 65535"},
		{"serve --nats x --redis y", 2, "choose one of --bus, --redis and --nats"},
		{"serve --nats x --cluster-routes y:1", 2, "--cluster-routes"},
		{"serve --cluster-listen 0.0.0.0:0", 1, "secret"},
		{"serve --port 70000 --cluster test-port", 2, "choose one from 1 to 65535"},
		{"emit news --cluster nobody-has-this-name", 1, "atoll serve"},
		{"balance", 2, "--backend localhost:3001"},
		{"balance --backend ftp://x", 2, "must be http or https"},
		{"balance --backend x:1 --policy best", 2, "least-connections, round-robin, random or hash"},
		{"balance --backend x:1 --status status", 2, "begin with a slash"},
		{"balance --backend x:1 --health health", 2, "begin with a slash"},
		{"balance --backend x:1 --status / --tls-cert x", 2, "go together"},
		{"serve --path /", 2, "/socket.io/"},
		{"serve --path /{x", 2, "/socket.io/"},
		{"serve --path /a//b", 2, "/socket.io/"},
		{"serve --nsp /a,a --rooms --port 70000 --cluster test-nsp", 2, "choose one from 1 to 65535"},
		{"balance --backend x:1 --tls-cert x", 2, "go together"},
		{"emit", 2, "which event?"},
		{"emit news hello", 2, `'"hello"'`},
		{"emit connect --redis redis://127.0.0.1:1", 1, "Redis"},
		{"emit news --redis http://x", 2, "redis://"},
		{"emit news --nats nats://127.0.0.1:1", 1, "NATS"},
		{"serve --bus localhost:6379", 2, "redis+streams://"},
		{"serve --bus mysql://x", 2, "there is no bus mysql://"},
		{"serve --bus redis://x/notanumber", 2, "is a number"},
		{"serve --bus redis://u:se%cret@x", 2, "malformed"},
		{"serve --bus redis://x?prefixx=a", 2, `no parameter "prefixx"`},
		{"serve --bus redis://x?shared_responses=maybe", 2, "true or false"},
		{"serve --bus redis://x?ca=file", 2, "rediss://"},
		{"serve --bus redis://x --cluster-listen :1", 2, "--cluster-listen"},
		{"nodes --cluster nobody-has-this-name", 1, "atoll serve"},
		{"sockets --cluster nobody-has-this-name", 1, "--bus redis://localhost:6379"},
		{"rooms --sort size", 2, "members or name"},
		{"tail --kind emmit", 2, "choose from emit, join"},
		{"tail --bus redis://127.0.0.1:1", 1, "cannot reach Redis at 127.0.0.1:1"},
		{"gateway", 2, "--token-file"},
		{"gateway --open --token-file x", 2, "choose one"},
		{"gateway --open --host 0.0.0.0", 2, "this machine only"},
		{"gateway --token-file /nowhere", 2, "cannot read the tokens"},
		{"gateway --token-file /dev/null", 2, "openssl rand"},
		{"emit news --server --room a", 2, "for clients"},
		{"nodes --timeout 0", 2, "more than 0"},
		{"emit news --timeout 5", 2, "5s"},
		{"demo-node", 1, "atoll demo"},
		{"run", 2, "which program?"},
		{"run --nodes -1 -- x", 2, "--nodes is 0 to 512"},
		{"run --port 70000 -- ls", 2, "choose one from 1 to 65535"},
		{"run -- no-such-program-here", 1, "cannot run no-such-program-here"},
		{"drain", 2, "which node?"},
		{"drain a --undo --rate 5", 2, "--undo goes with none"},
		{"drain a --lead -1s", 2, "cannot be negative"},
		{"drain a --cluster nobody-has-this-name", 1, "atoll serve"},
		{"serve --drain-window -1s", 2, "0 is none"},
		{"dmeo", 2, "did you mean `atoll demo`?"},
		{"serve --cluster a/b --port 0", 2, "letters, digits"},
		{"emit news --cluster ../x", 2, "letters, digits"},
		{"run --cluster a/b -- ls", 2, "letters, digits"},
		{"drain a --timeout 0", 2, "more than 0"},
		{"check x --timeout 0", 2, "more than 0"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			cmd := program(strings.Fields(c.args)...)
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != c.code {
				t.Errorf("got exit status %d, want %d", got, c.code)
			}
			_, last, _ := strings.Cut("\n"+errs.String(), "\natoll: ") // behind what was logged
			if last == "" || !strings.Contains(errs.String(), c.want) {
				t.Errorf("got %q, want atoll: … %q …", errs.String(), c.want)
			}
			if out.Len() > 0 {
				t.Errorf("standard output got %q, want nothing", out.String())
			}
		})
	}
}

func TestHelpIsShort(t *testing.T) {
	for _, name := range []string{"", "demo", "serve", "balance", "emit", "gateway", "tail", "nodes", "drain", "run", "sockets", "rooms", "bus", "version"} {
		var out bytes.Buffer
		cmd := root()
		cmd.SetArgs(append(strings.Fields(name), "--help"))
		cmd.SetOut(&out)
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "\n"); n > 50 {
			t.Errorf("help of %q has %d lines, want at most 50", name, n)
		}
		if name != "version" && !strings.Contains(out.String(), "Examples:") {
			t.Errorf("help of %q has no examples:\n%s", name, out.String())
		}
		for line := range strings.Lines(out.String()) {
			if strings.Contains(line, demoNode) {
				t.Errorf("help of %q shows the hidden command: %s", name, line)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	out, err := program("version", "--licenses").Output()
	if err != nil || !strings.Contains(string(out), "socket.io-client 4.8.4") || !strings.Contains(string(out), "Permission is hereby granted") {
		t.Errorf("got %.200q, %v, want the version of the client and its licence", out, err)
	}
}
