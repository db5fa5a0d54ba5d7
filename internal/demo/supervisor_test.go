package demo

import (
	"errors"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func newTestSupervisor(t *testing.T, role string, ready time.Duration) *Supervisor {
	s := NewSupervisor(SupervisorOptions{
		Names: []string{"a", "b"}, Command: as(role), ReadyTimeout: ready, Grace: 300 * time.Millisecond,
		Config: func(name string) any { return NodeConfig{Name: name} },
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	t.Cleanup(func() { s.Close(t.Context()) })
	return s
}

// await waits until node a is in the given state.
func await(t *testing.T, s *Supervisor, want State) Status {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		got := s.Nodes()[0]
		if got.State == want {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("got state %s (%s), want %s", got.State, got.Exit, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestSupervisorStartKillStart(t *testing.T) {
	s := newTestSupervisor(t, "serves", 0)
	if err := s.Kill("a"); !errors.Is(err, errIsDown) {
		t.Errorf("kill of a node that is down: got %v, want %v", err, errIsDown)
	}
	if err := s.Start("nobody"); !errors.Is(err, errUnknownNode) {
		t.Errorf("start of an unknown node: got %v, want %v", err, errUnknownNode)
	}
	for round := range 2 {
		if err := s.Start("a"); err != nil {
			t.Fatal(err)
		}
		if err := s.Start("a"); !errors.Is(err, errIsUp) {
			t.Errorf("round %d: second start: got %v, want %v", round, err, errIsUp)
		}
		up := await(t, s, Up)
		if up.PID == 0 || up.URL != "http://127.0.0.1:1" {
			t.Errorf("round %d: got pid %d and URL %q, want a pid and the URL that the node told", round, up.PID, up.URL)
		}
		if err := s.Kill("a"); err != nil {
			t.Fatal(err)
		}
		if down := await(t, s, Down); !strings.Contains(down.Exit, "kill") {
			t.Errorf("round %d: got exit %q, want one that names the signal", round, down.Exit)
		}
	}
}

func TestSupervisorFailures(t *testing.T) {
	t.Run("ends at once", func(t *testing.T) {
		s := newTestSupervisor(t, "fails", 0)
		if err := s.Start("a"); err != nil {
			t.Fatal(err)
		}
		if down := await(t, s, Down); !strings.Contains(down.Exit, "exit status 3") {
			t.Errorf("got exit %q, want exit status 3", down.Exit)
		}
	})
	t.Run("never serves", func(t *testing.T) {
		s := newTestSupervisor(t, "mute", 100*time.Millisecond)
		if err := s.Start("a"); err != nil {
			t.Fatal(err)
		}
		await(t, s, Down)
	})
	t.Run("no such program", func(t *testing.T) {
		s := newTestSupervisor(t, "serves", 0)
		s.o.Command = func(string) *exec.Cmd { return exec.Command("/nowhere/atoll") }
		if err := s.Start("a"); err == nil {
			t.Error("got no error, want one")
		}
		if got := s.Nodes()[0].State; got != Down {
			t.Errorf("got state %s, want %s", got, Down)
		}
	})
}

func TestSupervisorCloseLeavesNothing(t *testing.T) {
	for _, role := range []string{"serves", "stubborn"} {
		t.Run(role, func(t *testing.T) {
			s := newTestSupervisor(t, role, 0)
			if err := s.Start("a"); err != nil {
				t.Fatal(err)
			}
			await(t, s, Up)
			begin := time.Now()
			s.Close(t.Context())
			if got := s.Nodes()[0]; got.State != Down {
				t.Errorf("got state %s, want %s", got.State, Down)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("Close took %v", took)
			}
			if err := s.Start("a"); !errors.Is(err, errClosing) {
				t.Errorf("start after Close: got %v, want %v", err, errClosing)
			}
		})
	}
}
