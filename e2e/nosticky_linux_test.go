package e2e

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkStickiness compares what a message costs the nodes where each request goes to the owner of its session, and
// where it goes to any of three: processor time of the nodes, and latency. At two paces, at which the machine has time left, and as
// fast as it can; each with one processor, as three nodes on one machine should have (atoll run gives them that); with clients that poll only, and with a third each that poll, that upgrade, and that begin with a WebSocket.
//
//	ATOLL_E2E=1 go test -run '^$' -bench Stickiness -benchtime 1x -count 5 ./e2e
func BenchmarkStickiness(b *testing.B) {
	type run struct {
		name string
		args []string
	}
	var runs []run
	for _, clients := range []string{"polling", "mix"} {
		for _, rate := range []string{"2000", "7000", "full"} {
			args := []string{"-broadcasts", "0s", "-rate", strings.TrimSuffix(rate, "full")}
			if rate == "full" {
				args[3] = "0"
			}
			if clients == "mix" {
				args = append(args, "-mix")
			}
			name := clients + "/" + rate
			runs = append(runs, run{name + "/sticky", append(slices.Clone(args), "-sticky")}, run{name + "/random", args})
		}
	}
	b.Setenv("GOMAXPROCS", "1")
	for _, c := range runs {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				s := scatter(b, 3, 3, 1000, c.args...)
				time.Sleep(2 * time.Second) // links are made, caches are warm
				before, start := busy(b, s.nodes), time.Now()
				time.Sleep(6 * time.Second)
				used, took := busy(b, s.nodes)-before, time.Since(start)
				s.end(b)
				rate := float64(s.report.Echoes) / s.report.Seconds
				b.ReportMetric(float64(used.Microseconds())/(rate*took.Seconds()), "node-µs/echo")
				b.ReportMetric(s.report.LatencyMS[0], "median-ms")
				b.ReportMetric(s.report.LatencyMS[2], "p99-ms")
				b.ReportMetric(rate, "echoes/s")
				s.stop()
			}
		})
	}
}

// busy is the processor time that processes have used.
func busy(t testing.TB, cmds []*exec.Cmd) (sum time.Duration) {
	t.Helper()
	for _, cmd := range cmds {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, ticks := range f[11:13] { // user, system
			n, err := strconv.Atoi(ticks)
			if err != nil {
				t.Fatal(err)
			}
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}
