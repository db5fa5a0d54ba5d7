package e2e

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkStickiness compares what a message costs the nodes where each request goes to the owner of its session, and
// where it goes to any of three: processor time of the nodes, and latency.
//
//	ATOLL_E2E=1 go test -run '^$' -bench Stickiness -benchtime 1x -count 5 ./e2e
func BenchmarkStickiness(b *testing.B) {
	for _, c := range []struct {
		name, rate string
		args       []string
	}{
		{"sticky/2000", "2000", []string{"-sticky"}}, {"random/2000", "2000", nil},
		{"sticky/7000", "7000", []string{"-sticky"}}, {"random/7000", "7000", nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			args := append([]string{"-rate", c.rate, "-broadcasts", "0s"}, c.args...)
			for b.Loop() {
				s := scatter(b, 3, 3, 1000, args...)
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
