//go:build unix

package proxies

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

func init() {
	setUps = append(setUps,
		setUp{
			name: "atoll balance", program: "atoll", file: "atoll/balance.yaml", foreign: true, h2: true,
			start: startBalance(),
		},
		setUp{
			name: "atoll balance cookie", program: "atoll", file: "atoll/balance.yaml", foreign: true, h2: true,
			needs: "cookies", cookies: true,
			start: startBalance("affinity: []", "affinity: [{cookie: {}}]"),
		},
	)
}

// startBalance starts our own balancer with the file of deploy, and with the same over TLS.
func startBalance(pairs ...string) func(t testing.TB, f *front) {
	return func(t testing.TB, f *front) {
		t.Helper()
		// The file has two nodes, to show what can be said of one.
		two := &front{dir: f.dir, nodes: f.nodes[:2]}
		const last = "    drain: false              # true: keeps its sessions and gets no new ones\n"
		more := last
		for _, n := range f.nodes[2:] {
			more += "  - http://" + n.addr + "\n"
		}
		conf := two.deployed(t, "atoll/balance.yaml", append(pairs, last, more, "0.0.0.0", "127.0.0.1")...)
		run := func(name string, port int, pairs ...string) {
			text := strings.NewReplacer(append(pairs, "  port: 3000", "  port: "+strconv.Itoa(port), "127.0.0.1:9000", fmt.Sprintf("127.0.0.1:%d", freePort(t)))...).Replace(conf)
			p := launch(t, f.dir, f.atoll, "balance", "--config", f.write(t, name, text))
			p.await(t, accepts("127.0.0.1:"+strconv.Itoa(port)))
		}
		run("plain.yaml", f.port)
		run("tls.yaml", f.tls,
			"  # tls:  ", "  tls:  ", "  #   - {cert: chat.pem, key: chat.key}", fmt.Sprintf("    - {cert: %s, key: %s}", f.cert, f.key))
	}
}
