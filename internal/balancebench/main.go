// Command balancebench compares the balancer of package sticky with nginx and HAProxy, in one run, with the same nodes
// and the same load, each on one processor: round trips by polling and over WebSockets and new connections, for a second
// of processor time of the proxy, and the memory of an idle WebSocket. It takes about a minute, and leaves out
// what is not installed.
//
//	go run ./internal/balancebench
//	go run ./internal/balancebench -only websocket -rounds 9 -profile /tmp/cpu
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	if role := os.Getenv("BALANCEBENCH_ROLE"); role != "" {
		child(role)
		return
	}
	rounds := flag.Int("rounds", 5, "how often each figure is measured")
	only := flag.String("only", "", "measure this only: polling, websocket, connections, upgrades or memory")
	scale := flag.Float64("scale", 1, "multiplies the load")
	flag.IntVar(&atOnce, "clients", atOnce, "how many clients there are at once")
	profile := flag.String("profile", "", "write CPU profiles of our balancer into this directory")
	flag.Parse()
	if err := run(*rounds, *only, *scale, *profile); err != nil {
		fmt.Fprintln(os.Stderr, "balancebench:", err)
		os.Exit(1)
	}
}

type starter func(node, profile string) (*proxy, error)

func run(rounds int, only string, scale float64, profile string) error {
	node, err := startChild("node", "")
	if err != nil {
		return err
	}
	defer node.stop()
	var proxies []*proxy
	for _, start := range []starter{startOurs, startNginx, startHAProxy} {
		p, err := start(node.addr, profile)
		if err != nil {
			fmt.Printf("%v; left out\n", err)
			continue
		}
		defer p.stop()
		p.again = func() (*proxy, error) { return start(node.addr, "") }
		proxies = append(proxies, p)
	}
	for _, m := range []struct {
		name, unit string
		measure    func(p *proxy, scale float64) (float64, error)
		times      int
		less       bool // is better
	}{
		{"polling", "round trips/CPU s", polling, rounds, false},
		{"websocket", "round trips/CPU s", webSocket, rounds, false},
		{"connections", "connections/CPU s", connections, rounds, false},
		{"upgrades", "WebSockets/CPU s", upgrades, rounds, false},
		{"memory", "bytes/idle WebSocket", memory, 1, true},
	} {
		if only != "" && only != m.name {
			continue
		}
		begin := time.Now()
		got := make([][]float64, len(proxies))
		for range m.times {
			for i, p := range proxies { // by turns, so that all meet the same weather
				v, err := m.measure(p, scale)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", p.name, m.name, err)
				}
				got[i] = append(got[i], v)
			}
		}
		line := make([]string, len(proxies))
		for i, p := range proxies {
			line[i] = fmt.Sprintf("%s %.0f", p.name, median(got[i]))
		}
		fmt.Printf("%-12s %-21s %s%s  (%d runs, %.0f s)\n", m.name, m.unit, strings.Join(line, "   "), ratio(got, m.less), m.times, time.Since(begin).Seconds())
	}
	return nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// ratio says how much worse the first is than the best of the others.
func ratio(got [][]float64, less bool) string {
	if len(got) < 2 {
		return ""
	}
	ours, best := median(got[0]), median(got[1])
	for _, g := range got[2:] {
		if m := median(g); less == (m < best) {
			best = m
		}
	}
	r := best / ours
	if less {
		r = ours / best
	}
	return fmt.Sprintf("   ours takes %.2f times the better", r)
}
