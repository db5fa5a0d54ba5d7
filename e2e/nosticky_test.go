//go:build unix

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A scattered crowd is one of internal/scatter, and its nodes.
type scattered struct {
	nodes  []*exec.Cmd
	ends   []io.Closer // end them
	crowd  *exec.Cmd
	in     io.Closer
	out    *bufio.Reader
	report struct {
		Sessions, Reopened                int
		Echoes, Answered, Events, Retried int64
		Seconds, Slowest                  float64
		Problems, Ended                   map[string]int
		LatencyMS                         [3]float64
	}
}

// scatter starts nodes, of which the first owners get sessions, and a crowd whose requests go to random ones.
func scatter(t testing.TB, nodes, owners, sessions int, args ...string) *scattered {
	t.Helper()
	need(t)
	node, crowd := build(t, "internal/crowdnode"), build(t, "internal/scatter")
	group := fmt.Sprintf("scatter-%d-%d", os.Getpid(), time.Now().UnixNano())
	s := &scattered{}
	var addrs []string
	for i := range nodes {
		cmd, in, out := begin(t, node, "-name", "n"+strconv.Itoa(i), "-cluster", group)
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatalf("node %d said nothing: %v", i, err)
		}
		s.nodes, s.ends = append(s.nodes, cmd), append(s.ends, in)
		addrs = append(addrs, strings.TrimSpace(line))
	}
	args = append([]string{"-nodes", strings.Join(addrs, ","), "-owners", strconv.Itoa(owners), "-sessions", strconv.Itoa(sessions)}, args...)
	s.crowd, s.in, s.out = begin(t, crowd, args...)
	if line, err := s.out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the crowd: got %q (%v), want ready", line, err)
	}
	return s
}

// begin starts a program that ends with its standard input.
func begin(t testing.TB, bin string, args ...string) (*exec.Cmd, io.Closer, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(bin, args...)
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
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Wait()
	})
	return cmd, in, bufio.NewReader(out)
}

// stop ends the nodes.
func (s *scattered) stop() {
	for _, c := range s.ends {
		c.Close()
	}
}

// end lets the crowd finish, and reads its report.
func (s *scattered) end(t testing.TB) {
	t.Helper()
	s.in.Close()
	line, err := s.out.ReadString('\n')
	if err == nil {
		err = json.Unmarshal([]byte(line), &s.report)
	}
	if err != nil {
		t.Fatalf("the crowd's report: %v in %q", err, line)
	}
	r := &s.report
	t.Logf("%d sessions: %d echoes, median %.2f ms, 99 %% %.1f ms, %d events; ended %v, open again %d (slowest %.2f s), %d GETs sent again",
		r.Sessions, r.Echoes, r.LatencyMS[0], r.LatencyMS[2], r.Events, r.Ended, r.Reopened, r.Slowest, r.Retried)
	for problem, n := range r.Problems {
		t.Errorf("%s: %d times", problem, n)
	}
}

// Every request goes to a random node. A node dies that owns no session, then one that does.
func TestNoStickiness(t *testing.T) {
	for _, c := range []struct{ nodes, sessions int }{{3, 10_000}, {5, 3_000}} {
		t.Run(fmt.Sprintf("%d nodes", c.nodes), func(t *testing.T) {
			sessions := c.sessions
			if n, err := strconv.Atoi(os.Getenv("ATOLL_TEST_SESSIONS")); err == nil {
				sessions = n
			}
			if testing.Short() {
				sessions = 300
			}
			owners := c.nodes - 1
			s := scatter(t, c.nodes, owners, sessions, "-rate", "1000", "-broadcasts", "4s")
			time.Sleep(3 * time.Second)
			_ = s.nodes[owners].Process.Kill() // it owns none
			time.Sleep(3 * time.Second)
			_ = s.nodes[0].Process.Kill()
			time.Sleep(3 * time.Second)
			s.end(t)
			for why, n := range s.report.Ended {
				switch {
				case strings.HasPrefix(strings.TrimPrefix(why, "("), "owner 0:"): // in brackets: a POST, while the poll has not found out
				case strings.Contains(why, "POST: its connection broke"):
					// Nobody can say whether it arrived, and no proxy sends it again.
				default:
					t.Errorf("%d sessions of a living node ended: %s", n, why)
				}
			}
			if got, want := s.report.Reopened, sessions/owners; got < want {
				t.Errorf("got %d sessions that were opened again, want the %d of the killed node", got, want)
			}
			// On a machine that is busy with other tests everything takes longer: an echo says how much.
			if limit := 2 + 4*s.report.LatencyMS[2]/1000; s.report.Slowest > limit {
				t.Errorf("the slowest session was open again after %.1f s, want less than %.1f", s.report.Slowest, limit)
			}
		})
	}
}
