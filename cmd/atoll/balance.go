package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/atollhq/atoll/internal/balanceconf"
	"github.com/atollhq/atoll/sticky"
)

// balanceFlags are what the command line says. What is not said there, a file may say.
type balanceFlags struct {
	listenFlags
	set func(name string) bool // was the flag given?

	config, policy, path, health, status  string
	admin, log, logFormat, dns, nodesFile string
	backends, affinity, trust             []string
	adminChanges, proxyProtocol, check    bool
	maxSessions, maxConns, maxConnsOfOne  int
}

func balanceCommand() *cobra.Command {
	var b balanceFlags
	cmd := &cobra.Command{
		Use:   "balance --backend URL[,URL...]",
		Short: "A load balancer in front of Socket.IO servers",
		Long: `balance sends each request of a session to the node that the session lives on, also when
a browser or another proxy mixes sessions on one connection. A node that dies is noticed
at once, and its clients reconnect elsewhere. It works in front of Atoll nodes, whose ids
name their node, and of any other Socket.IO server, whose ids it learns.

A configuration file (YAML) can say all that flags can, and more: weights, affinities in
detail, limits, certificates by name. It is read again when it changes and on SIGHUP, and drops no
connection; a file that makes no sense changes nothing. A flag wins over the file. SIGUSR1 opens the access log anew.`,
		Example: `  atoll balance --backend localhost:3001,localhost:3002,localhost:3003
  atoll balance --backend http://10.0.0.1:3000 --backend http://10.0.0.2:3000 --host 0.0.0.0 --port 80
  atoll balance --backend localhost:3001,localhost:3002 --admin 127.0.0.1:9000    status page, metrics
  atoll balance --backend localhost:3001,localhost:3002 --affinity cookie --policy hash
  atoll balance --dns chat.default.svc.cluster.local:3000 --host 0.0.0.0          nodes by name
  atoll balance --config balance.yaml
  atoll balance --config balance.yaml --check-config
  atoll balance --backend localhost:3001,localhost:3002 --health -      Node.js servers without a page for it`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b.set = cmd.Flags().Changed
			return b.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	b.registerBalance(cmd.Flags())
	return cmd
}

func (b *balanceFlags) registerBalance(f *pflag.FlagSet) {
	b.register(f, 3000)
	f.StringVarP(&b.config, "config", "c", "", "configuration `file` (YAML); read again when it changes")
	f.BoolVar(&b.check, "check-config", false, "say whether the configuration makes sense, and end")
	f.StringSliceVarP(&b.backends, "backend", "b", nil, "nodes, as host:port or URL; several by comma or by repeating")
	f.StringVar(&b.dns, "dns", "", "find nodes by name: `host:port` (all its addresses), or an SRV record such as _http._tcp.chat.example")
	f.StringVar(&b.nodesFile, "nodes", "", "find nodes in this `file`, one URL in a line; read again when it changes")
	f.StringVar(&b.policy, "policy", sticky.LeastConnections.String(), "node of a new session: least-connections, round-robin, random or hash (by client address)")
	f.StringSliceVar(&b.affinity, "affinity", nil, "what brings a client back to its node with its next session: cookie, node-cookie=NAME, address, header=NAME, query=NAME; several in their order")
	f.StringVar(&b.path, "path", "/socket.io/", "path of the Socket.IO server on the nodes")
	f.StringVar(&b.health, "health", "/health", `path that nodes are asked for; an answer below 500 is healthy. "-": it is enough to connect, for bare Node.js servers`)
	f.StringVar(&b.admin, "admin", "", "serve the status page (/), /status.json, /metrics and /health on this `address`, such as 127.0.0.1:9000")
	f.BoolVar(&b.adminChanges, "admin-changes", false, "nodes can be drained from the status page")
	f.StringVar(&b.status, "status", "", "serve the state of the nodes as JSON under this path of the public port too; everybody who reaches the balancer can read it")
	f.StringVar(&b.log, "access-log", "", `log requests to this file; "-" is the standard output`)
	f.StringVar(&b.logFormat, "access-log-format", "", "combined (default), common or json")
	f.StringSliceVar(&b.trust, "trust", nil, "addresses or prefixes of proxies whose X-Forwarded headers are true, such as 10.0.0.0/8")
	f.BoolVar(&b.proxyProtocol, "proxy-protocol", false, "connections begin with a header of the PROXY protocol; from --trust only")
	f.IntVar(&b.maxSessions, "max-sessions", 0, "most live sessions on all nodes; 0 for no limit")
	f.IntVar(&b.maxConns, "max-connections", 0, "most connections of all clients; 0 for no limit")
	f.IntVar(&b.maxConnsOfOne, "max-connections-per-address", 0, "most connections of one client address; 0 for no limit")
}

// load reads the file, where there is one, and lays the flags over it.
func (b *balanceFlags) load() (*balanceconf.File, *sticky.Options, error) {
	f := new(balanceconf.File)
	if b.config != "" {
		var err error
		if f, err = balanceconf.Read(b.config); err != nil {
			return nil, nil, err
		}
	}
	if err := b.over(f); err != nil {
		return nil, nil, err
	}
	o, err := f.Options()
	if err != nil {
		return nil, nil, b.where(err)
	}
	if b.dns != "" {
		d, err := dnsOf(b.dns)
		if err != nil {
			return nil, nil, err
		}
		o.Discover = append(o.Discover, d)
	}
	if b.nodesFile != "" {
		d := sticky.File{Path: b.nodesFile}
		if strings.HasSuffix(b.nodesFile, ".yaml") || strings.HasSuffix(b.nodesFile, ".yml") {
			d.Parse = balanceconf.ParseBackends
		}
		o.Discover = append(o.Discover, d)
	}
	o.StatusPath = f.Status
	if len(o.Backends)+len(o.Discover) == 0 {
		return nil, nil, usagef("no nodes to balance to: name them with --backend, for instance --backend localhost:3001,localhost:3002")
	}
	if err := o.Validate(); err != nil {
		return nil, nil, b.where(err)
	}
	return f, o, nil
}

// where says in which file an error may be.
func (b *balanceFlags) where(err error) error {
	if b.config == "" {
		return err
	}
	return fmt.Errorf("%s: %w", b.config, err)
}

// over lays the flags that were given over f.
func (b *balanceFlags) over(f *balanceconf.File) error {
	strings := []struct {
		flag     string
		from, to *string
	}{
		{"policy", &b.policy, &f.Policy}, {"path", &b.path, &f.Path}, {"health", &b.health, &f.Health.Path}, {"status", &b.status, &f.Status},
		{"admin", &b.admin, &f.Admin.Listen}, {"access-log", &b.log, &f.AccessLog.Path}, {"access-log-format", &b.logFormat, &f.AccessLog.Format},
	}
	for _, s := range strings {
		if b.set(s.flag) {
			*s.to = *s.from
		}
	}
	numbers := []struct {
		flag     string
		from, to *int
	}{
		{"max-sessions", &b.maxSessions, &f.Limits.Sessions}, {"max-connections", &b.maxConns, &f.Limits.Connections},
		{"max-connections-per-address", &b.maxConnsOfOne, &f.Limits.ConnectionsAddress},
	}
	for _, n := range numbers {
		if b.set(n.flag) {
			*n.to = *n.from
		}
	}
	if b.set("admin-changes") {
		f.Admin.Changes = b.adminChanges
	}
	if b.set("proxy-protocol") {
		f.ProxyProtocol = b.proxyProtocol
	}
	if b.set("trust") {
		f.Trusted = b.trust
	}
	if b.set("backend") {
		f.Backends = nil
		for _, u := range b.backends {
			f.Backends = append(f.Backends, balanceconf.Backend{URL: u})
		}
	}
	if b.set("affinity") {
		f.Affinity = nil
		for _, word := range b.affinity {
			f.Affinity = append(f.Affinity, balanceconf.Word(word))
		}
	}
	if f.Listen.Host != "" && !b.set("host") {
		b.host = f.Listen.Host
	}
	if f.Listen.Port != nil && !b.set("port") {
		b.port = *f.Listen.Port
	}
	if b.set("tls-cert") || b.set("tls-key") {
		if b.cert == "" || b.key == "" {
			return usagef("--tls-cert and --tls-key go together")
		}
		f.Listen.TLS = []balanceconf.Certificate{{Cert: b.cert, Key: b.key}}
	}
	return nil
}

// dnsOf reads the flag --dns.
func dnsOf(s string) (sticky.DNS, error) {
	if strings.HasPrefix(s, "_") {
		return sticky.DNS{Name: s}, nil
	}
	host, port, err := net.SplitHostPort(s)
	n, err2 := strconv.Atoi(port)
	if err != nil || err2 != nil {
		return sticky.DNS{}, usagef("--dns %q: write host:port, or the name of an SRV record, which begins with an underscore", s)
	}
	return sticky.DNS{Name: host, Port: n}, nil
}

// summary says in a few words what is balanced to.
func summary(o *sticky.Options) string {
	s := fmt.Sprintf("%d nodes", len(o.Backends))
	if len(o.Discover) > 0 {
		s += " and those that are found"
	}
	return s + ", " + o.Policy.String()
}

// shut returns a context that lives for the time that sessions have to end.
func shut(ctx context.Context, f *balanceconf.File) (context.Context, context.CancelFunc) {
	grace := endGrace
	if d := f.Listen.Grace(); d > 0 {
		grace = d
	}
	return context.WithTimeout(context.WithoutCancel(ctx), grace)
}
