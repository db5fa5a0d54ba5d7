//go:build unix

package proxies

import (
	"fmt"
	"testing"
)

func init() {
	setUps = append(setUps,
		setUp{
			// Not in the documentation of the official server: the cookie of Caddy's own, with nothing else said.
			name: "Caddy cookie alone", program: "caddy", needs: "cookies", cookies: true, foreign: true,
			start: func(t testing.TB, f *front) {
				f.caddy(t, fmt.Sprintf("http://%s {\n\treverse_proxy%s {\n\t\tlb_policy cookie lb_id secret\n\t}\n}\n", f.addr(), f.each(" ADDR")))
			},
		},
		setUp{
			name: "Caddy without stickiness", program: "caddy", file: "caddy/Caddyfile", loose: true, h2: true,
			start: startCaddy("caddy/Caddyfile"),
		},
		setUp{
			name: "Caddy cookie", program: "caddy", file: "caddy/Caddyfile.cookie", h2: true,
			needs: "cookies", cookies: true, foreign: true,
			start: startCaddy("caddy/Caddyfile.cookie"),
		},
	)
}

// startCaddy starts Caddy with a file of deploy, whose site is served with and without TLS.
func startCaddy(file string) func(t testing.TB, f *front) {
	return func(t testing.TB, f *front) {
		t.Helper()
		const site = "\nchat.example.com {\n"
		f.caddy(t, f.deployed(t, file, site, fmt.Sprintf("\nhttp://%s {\n", f.addr()))+
			f.deployed(t, file, site, fmt.Sprintf("\nhttps://127.0.0.1:%d {\n\ttls %s %s\n", f.tls, f.cert, f.key)))
	}
}

// caddy starts Caddy with a configuration.
func (f *front) caddy(t testing.TB, conf string) {
	t.Helper()
	bin, _ := find("caddy")
	// Nothing of the machine is touched: no port of its own, no certificates from elsewhere.
	conf = "{\n\tadmin off\n\tauto_https off\n\tskip_install_trust\n}\n" + conf
	p := launch(t, f.dir, bin, "run", "--config", f.write(t, "Caddyfile", conf), "--adapter", "caddyfile")
	p.await(t, f.routed)
}
