package client_test

import (
	"bufio"
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atollhq/atoll"
	"github.com/atollhq/atoll/engine"
	"github.com/atollhq/atoll/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serverFor returns an Atoll server that does what testdata/server.js does.
func serverFor(o *atoll.Options) *atoll.Server {
	srv := atoll.NewServer(o)
	serve := func(ns *atoll.Namespace) {
		ns.OnConnect(func(ctx context.Context, s *atoll.Socket) error {
			auth := map[string]any{}
			if err := s.Auth(&auth); err != nil {
				return err
			}
			return s.Emit(ctx, "hello", auth)
		})
		ns.Handle("echo", func(ctx context.Context, s *atoll.Socket, e *atoll.Event) error {
			if e.WantsReply() {
				return e.Reply(e.Args)
			}
			return s.Emit(ctx, "echo", e.Args)
		})
		ns.Handle("ask me", func(ctx context.Context, s *atoll.Socket, e *atoll.Event) error {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			answer, err := s.Ask(ctx, "question", e.Args)
			if err != nil {
				return e.Reply("none")
			}
			return e.Reply(answer)
		})
		atoll.On(ns, "count", func(ctx context.Context, s *atoll.Socket, n int) error {
			for i := range n {
				if err := s.Emit(ctx, "number", i); err != nil {
					return err
				}
			}
			return nil
		})
		atoll.On(ns, "kick", func(_ context.Context, s *atoll.Socket, _ event.None) error {
			s.Disconnect(false)
			return nil
		})
		atoll.On(ns, "drop", func(_ context.Context, s *atoll.Socket, _ event.None) error {
			s.Disconnect(true)
			return nil
		})
		ns.Handle("silent", func(context.Context, *atoll.Socket, *atoll.Event) error { return nil })
	}
	serve(srv.Of("/"))
	serve(srv.Of("/chat"))
	srv.Of("/secret").Use(func(context.Context, *atoll.Socket) error {
		return &atoll.ConnectError{Message: "not you", Data: map[string]int{"code": 7}}
	})
	return srv
}

// startAtoll starts an Atoll server on the loopback and returns its URL.
func startAtoll(t *testing.T) string {
	t.Helper()
	srv := serverFor(&atoll.Options{Engine: engine.Options{PingInterval: 300 * time.Millisecond, PingTimeout: 5 * time.Second}})
	ts := httptest.NewServer(srv)
	t.Cleanup(func() {
		srv.Close()
		ts.Close()
	})
	return ts.URL
}

// startOfficial starts the official server under Node.js and returns its URL.
func startOfficial(t *testing.T) string {
	t.Helper()
	modules, err := filepath.Abs("../e2e/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("ATOLL_E2E") != "1" {
		t.Skip("ATOLL_E2E=1 runs this against the official server")
	}
	if _, err := os.Stat(filepath.Join(modules, "socket.io")); err != nil {
		t.Skip("the official server is not installed: npm ci in e2e")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no node")
	}
	cmd := exec.Command(node, "testdata/server.js", modules)
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
		in.Close() // it ends with its input
		kill := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		defer kill.Stop()
		cmd.Wait()
	})
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(port)
}
