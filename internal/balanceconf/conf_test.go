package balanceconf

import (
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atollhq/atoll/sticky"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const full = `
# All that can be said.
listen: {host: 0.0.0.0, port: 443, tls: [{cert: a.pem, key: a.key}], max_body: 1000000, websocket_idle: 2m}
admin: {listen: "127.0.0.1:9000", changes: true, hosts: [admin.example]}
path: /chat/
policy: round-robin
backends:
  - localhost:3001
  - url: https://localhost:3002
    weight: 2
    name: two
    max_sessions: 100
    drain: true
discover:
  - file: nodes.txt
  - {dns: _http._tcp.chat.example, interval: 10s}
remove_after: 1m
affinity:
  - cookie: {name: node, same_site: None, secure: true, max_age: 1h, http_only: false}
  - node_cookie: io
  - address: {ipv4: 24}
  - header: x-user
  - query=room
hash_load: 1.25
slow_start: 30s
limits: {sessions: 1000, sessions_per_node: 400, opening: 50, opening_per_address: {per_second: 0.5, burst: 9}, connections: 5000, connections_per_address: 50}
retries: 0
health: {path: /ok, expect: 204, interval: 500ms, timeout: 2s, rise: 2, fall: 4}
passive: {errors: 0}
trusted_proxies: [10.0.0.0/8, 192.0.2.1]
proxy_protocol: true
timeouts: {dial: 1s, upgrade: 5s, body: 1m, stall: 2m, header: 5s, idle: 30s, backend_idle: 3s}
sessions: {remember: 1000, idle: 2m}
access_log: {path: access.log, format: json, session_ids: true}
`

func TestFull(t *testing.T) {
	f, err := Parse("/etc/atoll/balance.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Options()
	if err != nil {
		t.Fatal(err)
	}
	want := &sticky.Options{
		Path: "/chat/", Policy: sticky.RoundRobin,
		Backends:    []sticky.Backend{{URL: "localhost:3001"}, {URL: "https://localhost:3002", Weight: 2, Name: "two", MaxSessions: 100, Drain: true}},
		Discover:    []sticky.Discovery{sticky.File{Path: "/etc/atoll/nodes.txt"}, sticky.DNS{Name: "_http._tcp.chat.example", Interval: 10 * time.Second}},
		RemoveAfter: time.Minute,
		Affinity: []sticky.Affinity{
			sticky.Cookie{Name: "node", SameSite: 4, Secure: true, MaxAge: 3600, Script: true}, sticky.NodeCookie("io"), sticky.ClientAddress{IPv4Bits: 24},
			sticky.Header("x-user"), sticky.Query("room"),
		},
		HashLoad: 1.25, SlowStart: 30 * time.Second,
		Limits: sticky.Limits{
			Sessions: 1000, SessionsPerNode: 400, Opening: sticky.Rate{PerSecond: 50}, OpeningPerAddress: sticky.Rate{PerSecond: 0.5, Burst: 9},
		},
		RetryShare: -1, Passive: sticky.Passive{Errors: -1},
		Health:         sticky.Health{Path: "/ok", Expect: 204, Interval: 500 * time.Millisecond, Timeout: 2 * time.Second, Rise: 2, Fall: 4},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")},
		DialTimeout:    time.Second, UpgradeTimeout: 5 * time.Second, BodyTimeout: time.Minute, StallTimeout: 2 * time.Minute, IdleTimeout: 3 * time.Second,
		MaxSessions: 1000, SessionIdle: 2 * time.Minute,
		Front: sticky.Front{
			ProxyProtocol: true, HeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, MaxBody: 1e6, WebSocketIdle: 2 * time.Minute,
			MaxConns: 5000, MaxConnsPerAddress: 50,
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if f.Admin.Listen != "127.0.0.1:9000" || *f.Listen.Port != 443 || f.Listen.TLS[0] != (Certificate{"a.pem", "a.key"}) || !f.AccessLog.Sessions {
		t.Errorf("got %+v", f)
	}
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		if f, err := Parse("x", []byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		} else if o, err := f.Options(); err != nil || !reflect.DeepEqual(o, &sticky.Options{}) {
			t.Errorf("%q: got %+v, %v", text, o, err)
		}
	}
}

// Each error names its place and helps.
func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"polcy: hash": `f:1: unknown key "polcy": do you mean "policy"?`,
		"policy: hash\nhealth:\n  intervall: 1s\n":     `f:3: unknown key "intervall": do you mean "interval"?`,
		"remove-after: 1s":                             `f:1: unknown key "remove-after": do you mean "remove_after"?`,
		"backends:\n- a:1\n- url: a:2\n  wieght: 3":    `f:4: unknown key "wieght": do you mean "weight"?`,
		"listen: {zzzzzzzz: 1}":                        `f:1: unknown key "zzzzzzzz": there are host, port, tls,`,
		"remove_after: 30":                             `f:1: "30" is no duration: write it with its unit`,
		"health:\n  timeout: soon":                     `f:2: "soon" is no duration`,
		"listen:\n  port: many":                        `f:2: `,
		"backends: a:1\n":                              `f:1: `,
		"path: [a]":                                    `f:1: there is a list where none is expected`,
		"policy: {a: 1}":                               `f:1: there is a mapping where none is expected`,
		"path: /a\npath: /b":                           `f:2: `,
		"a: 1\n---\nb: 2":                              `f:3: there is a second document`,
		"path: [":                                      `f:1: `,
		"- a":                                          `f:1: there is a list`,
		"just text":                                    `f:1: `,
		"path: x\na: " + strings.Repeat("[", 60):       `f:2: this is nested too deeply`,
		strings.Repeat("{a: ", 60):                     `f:1: this is nested too deeply`,
		strings.Repeat("a: ", 60):                      `f:1: this is nested too deeply`,
		strings.Repeat("- ", 60):                       `f:1: this is nested too deeply`,
		"a:\n  " + strings.Repeat("&a ", 60):           `f:2: this is nested too deeply`,
		"a: [" + strings.Repeat("!a ", 60):             `f:1: this is nested too deeply`,
		strings.Repeat("]", 60):                        `f:1: this is nested too deeply`,
		"a: [" + strings.Repeat(",", 60):               `f:1: this is nested too deeply`,
		"path: /a-\"\na: " + strings.Repeat("[", 3000): `f:2: this is nested too deeply`,
		"path: |\n \"\na: " + strings.Repeat("- ", 3000) + "\"": `f:3: this is nested too deeply`,
		strings.Repeat("# much\n", 40000):                       `f: this is longer than 262144 bytes`,
	} {
		if _, err := Parse("f", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %q, want %q", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"policy: best":                      `no policy "best"`,
		"affinity: [cookies]":               `no affinity "cookies"`,
		"affinity: [{}]":                    `each element is one of`,
		"affinity: [{header: a, query: b}]": `each element is one of`,
		"discover: [{}]":                    `either file or dns`,
		"trusted_proxies: [all]":            `neither an address nor a prefix`,
		"backend_tls: {ca: nothing.pem}":    `nothing.pem`,
	} {
		f, err := Parse("f", []byte(text))
		if err == nil {
			_, err = f.Options()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", text, err, want)
		}
	}
}

// What looks like nesting, and is none.
func TestNotNested(t *testing.T) {
	for _, text := range []string{
		"path: /a # " + strings.Repeat("[ - : ", 60),
		"path: \"/" + strings.Repeat("[ - : ", 60) + "\"",
		"path: '/it''s " + strings.Repeat("{,,", 60) + "'",
		"path: /it's # don't " + strings.Repeat("{", 60),
		"backends: [" + strings.Repeat("{url: a:1, weight: 2}, ", 200) + "]",
		"backends:\n" + strings.Repeat("- url: a:1\n  weight: 2\n", 200),
		"# [\nbackends:\n" + strings.Repeat("- url: a:1\n  weight: 2\n", 2000),
		"trusted_proxies: [" + strings.Repeat("\"::1\",\n  2001:db8::/32,", 100) + "]",
	} {
		if _, err := Parse("f", []byte(text)); err != nil {
			t.Errorf("%.60q: %v", text, err)
		}
	}
}

func TestParseBackends(t *testing.T) {
	got, err := ParseBackends([]byte("- a:1\n- {url: b:2, weight: 3}\n"))
	if want := []sticky.Backend{{URL: "a:1"}, {URL: "b:2", Weight: 3}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("a: &x {b: c}\n<<: *x"))
	f.Add([]byte("backends:\n- &a {url: x}\n- *a"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := Parse("f", text); err == nil && c.BackendTLS == (BackendTLS{}) { // that reads files
			c.Options()
		}
	})
}

// The file that people copy says nothing but the defaults, and all that it shows in comments is understood.
func TestDeployedFile(t *testing.T) {
	const name = "../../deploy/atoll/balance.yaml"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	o, err := f.Options()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Validate(); err != nil || len(o.Backends) != 2 {
		t.Errorf("got %d backends, %v", len(o.Backends), err)
	}
	// Without the marks of comments in front of keys and elements.
	all := regexp.MustCompile(`(?m)^( *)# ?((?:  )*(?:- |[a-z_0-9]+:))`).ReplaceAllString(string(text), "$1$2")
	all = strings.Replace(all, "affinity: []", "affinity:", 1)
	f, err = Parse(name, []byte(all))
	if err != nil {
		t.Fatalf("%v\n%s", err, all)
	}
	var missing func(v reflect.Value, path string)
	missing = func(v reflect.Value, path string) {
		for i := range v.NumField() {
			key := v.Type().Field(i).Tag.Get("yaml")
			if key != "" && !regexp.MustCompile(`(?m)[ {]`+key+`:|^`+key+`:`).MatchString(all) {
				t.Errorf("%s%s is not shown", path, key)
			}
			if v.Field(i).Kind() == reflect.Struct {
				missing(v.Field(i), path+key+".")
			}
		}
	}
	missing(reflect.ValueOf(*f), "")
}
