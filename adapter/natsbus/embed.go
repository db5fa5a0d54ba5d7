package natsbus

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// EmbedOptions are the settings of an embedded server. A nil *EmbedOptions means all
// defaults: a cluster of the nodes of this user on this machine.
type EmbedOptions struct {
	// Cluster is the name of the cluster: 1 to 64 letters, digits, "-" and "_". If empty,
	// "atoll". Nodes with different names do not meet.
	Cluster string

	// Secret is what the nodes of a cluster know and nobody else does. If empty, the nodes
	// of this machine make one and keep it in Dir. It must be set where there are Routes or
	// others than this machine can reach Listen. At least 16 characters.
	Secret string

	// Listen is the address for other nodes, host:port. If empty, 127.0.0.1 and a free port.
	Listen string

	// Advertise is where other nodes reach Listen, host:port, if they do not by its own address.
	Advertise string

	// Routes are the addresses (Listen or Advertise) of nodes on other machines. One that
	// is alive is enough to join; name several so that the cluster finds together again
	// whatever dies. A node may name itself, so all can have the same list.
	Routes []string

	// Dir is where the nodes of this machine find each other; only its owner may be able to
	// read it. If empty, atoll-<uid>/<cluster> in the directory for temporary files.
	Dir string

	// NoDiscovery switches Dir off: the node knows Routes only. It needs a Secret.
	NoDiscovery bool

	// TLS, where set, protects the connections between nodes. It is used by both
	// sides, so it needs a certificate, RootCAs and ClientCAs.
	TLS *tls.Config

	// Store, where set, is a directory for messages and sessions, so that OpenLog works; only its owner may
	// be able to read it.
	//
	// Without Routes all nodes of the machine name the same directory. One of them keeps the store for all;
	// when it ends, even by SIGKILL, another goes on within a second, with everything that was
	// stored. While that one is frozen (SIGSTOP) the log is away.
	//
	// With Routes each node has a directory of its own, which it keeps for life, and Routes names all the
	// machines. Three or more keep everything on three of them, and go on as long as
	// most are alive.
	Store string

	// MaxPayload is the largest message in bytes. If zero, 64 MiB. At most 1 GiB.
	MaxPayload int

	// Logger is told what an operator should know. If nil, slog.Default().
	Logger *slog.Logger
}

// Embedded is a NATS server in this process, and a connection to it. It listens on
// two ports, both on 127.0.0.1 if not told otherwise, and both refuse whoever does not
// know the cluster's secret: one for other nodes, one for clients on this machine (Local).
type Embedded struct {
	o      EmbedOptions
	name   string
	log    *slog.Logger
	server *server.Server
	base   *server.Options // without the routes to nodes on this machine
	conn   *nats.Conn
	bus    *Bus

	dir     directory // path is empty without discovery
	store   *store    // of this machine; nil without one
	record  record
	entry   *registration
	stop    chan struct{}
	finder  sync.WaitGroup
	closing sync.Once
}

const (
	minSecret       = 16
	defaultPayload  = 64 << 20
	maxPayload      = 1 << 30
	readyTimeout    = 5 * time.Second
	meetTimeout     = 2 * time.Second // for the nodes that are there
	clientUser      = "atoll"
	routeUser       = "atoll-route"
	routePing       = 2 * time.Second
	routePingsOut   = 3
	remoteRetries   = math.MaxInt32
	machineRetries  = 5
	defaultListenOn = "127.0.0.1:0"
)

// Embed starts a NATS server in this process, joins it to the cluster, and waits until it has met
// the nodes that are there, two seconds at most. It returns an error if an
// option is wrong, an address is taken, or Dir cannot be trusted.
func Embed(ctx context.Context, o *EmbedOptions) (_ *Embedded, err error) {
	e := &Embedded{name: rand.Text(), stop: make(chan struct{})}
	if o != nil {
		e.o = *o
	}
	defer func() {
		if err != nil {
			e.Close()
			err = fmt.Errorf("natsbus: embed: %w", err)
		}
	}()
	if err := e.prepare(); err != nil {
		return nil, err
	}
	if e.server, err = server.NewServer(e.base.Clone()); err != nil {
		return nil, err
	}
	e.server.SetLoggerV2(logger{e.log}, false, false, false)
	e.server.Start()
	if !e.server.ReadyForConnections(readyTimeout) || e.server.ClusterAddr() == nil {
		return nil, fmt.Errorf("the server did not start listening on %s within %v: is the address taken?", e.o.Listen, readyTimeout)
	}
	if e.conn, err = nats.Connect("", append(clientOptions(e.o.Cluster, e.o.Secret), nats.InProcessServer(e.server))...); err != nil {
		return nil, fmt.Errorf("connect to the embedded server: %w", err)
	}
	e.bus = New(e.conn, &Options{Cluster: e.o.Cluster})
	e.bus.routed = e.Peers
	if e.o.Store != "" && len(e.o.Routes) == 0 {
		if e.store, err = openStore(ctx, e.o.Store, e.o.Cluster, e.o.Secret, e.o.MaxPayload, e.log); err != nil {
			return nil, fmt.Errorf("EmbedOptions.Store: %w", err)
		}
		e.bus.store = e.store.conn
	}
	if err := e.bus.answers(); err != nil {
		return nil, err
	}
	if err := e.find(ctx); err != nil {
		return nil, err
	}
	if err := e.bus.spread(ctx); err != nil { // so that the routes carry in both directions
		return nil, err
	}
	return e, nil
}

// prepare checks the options, gives each its value and makes the server's options.
func (e *Embedded) prepare() error {
	o := &e.o
	if e.log = o.Logger; e.log == nil {
		e.log = slog.Default()
	}
	if o.Cluster == "" {
		o.Cluster = "atoll"
	}
	if o.Listen == "" {
		o.Listen = defaultListenOn
	}
	host, port, err := splitAddress(o.Listen)
	if err != nil {
		return fmt.Errorf("EmbedOptions.Listen: %w", err)
	}
	switch {
	case !validName(o.Cluster):
		return fmt.Errorf("EmbedOptions.Cluster is %q: the name of a cluster is 1 to 64 letters, digits, - and _", o.Cluster)
	case o.Secret != "" && len(o.Secret) < minSecret:
		return fmt.Errorf("EmbedOptions.Secret has %d characters: it must have at least %d", len(o.Secret), minSecret)
	case o.Secret == "" && len(o.Routes) > 0:
		return errors.New("EmbedOptions.Secret is empty: nodes that meet by Routes need the same secret")
	case o.Secret == "" && !loopback(host):
		return fmt.Errorf("EmbedOptions.Secret is empty: %s can be reached by other machines, so a secret must protect it", o.Listen)
	case o.Secret == "" && o.NoDiscovery:
		return errors.New("EmbedOptions.Secret is empty: without discovery nobody else would know it")
	case o.MaxPayload < 0 || o.MaxPayload > maxPayload:
		return fmt.Errorf("EmbedOptions.MaxPayload is %d: it must be between 1 and %d bytes", o.MaxPayload, maxPayload)
	case o.MaxPayload == 0:
		o.MaxPayload = defaultPayload
	}
	// The server would say that it cannot listen only in its log.
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(max(port, 0))))
	if err != nil {
		return fmt.Errorf("EmbedOptions.Listen: %w", err)
	}
	l.Close()
	if !o.NoDiscovery {
		if err := e.openDir(); err != nil {
			return err
		}
	}
	key := routeKey(o.Cluster, o.Secret)
	routes := make([]*url.URL, 0, len(o.Routes))
	for _, r := range o.Routes {
		if _, _, err := splitAddress(r); err != nil {
			return fmt.Errorf("EmbedOptions.Routes: %w", err)
		}
		routes = append(routes, routeURL(r, key))
	}
	e.base = &server.Options{
		ServerName: e.name,
		Host:       "127.0.0.1",
		Port:       server.RANDOM_PORT,
		// One of Users, not Username: a reload cuts off the clients of that one.
		Users: []*server.User{{Username: clientUser, Password: clientKey(o.Cluster, o.Secret)}},

		MaxPayload:          int32(o.MaxPayload),
		MaxPending:          2 * int64(o.MaxPayload),
		NoFastProducerStall: true, // one frozen node must not slow down the others
		NoSigs:              true,
		NoSystemAccount:     true,
		MaxControlLine:      4096,
		Routes:              routes,
		Cluster: server.ClusterOpts{
			Name: o.Cluster,
			Host: host, Port: port,
			Advertise: o.Advertise,
			Username:  routeUser, Password: key,
			AuthTimeout:    5,
			ConnectBackoff: true,
			ConnectRetries: remoteRetries,
			PoolSize:       1,
			PingInterval:   routePing,
			MaxPingsOut:    routePingsOut,
		},
	}
	if o.Store != "" && len(o.Routes) > 0 {
		if e.name, err = nameOf(o.Store); err != nil {
			return fmt.Errorf("EmbedOptions.Store: %w", err)
		}
		e.base.ServerName, e.base.NoSystemAccount = e.name, false
		e.base.JetStream, e.base.StoreDir = true, filepath.Join(o.Store, storeFiles)
	}
	if len(o.Routes) == 0 && loopback(host) {
		e.base.Cluster.ConnectRetries = machineRetries // the directory finds them again
	}
	if o.TLS != nil {
		e.base.Cluster.TLSConfig = o.TLS
		e.base.Cluster.TLSTimeout = 5
	}
	return nil
}

// openDir opens the directory where the nodes of this machine meet. Clusters with
// a secret of their own have a directory of their own.
func (e *Embedded) openDir() error {
	var err error
	if e.dir, err = openDirectory(dirOf(&e.o)); err != nil {
		return err
	}
	if e.o.Secret == "" {
		e.o.Secret, err = e.dir.secret()
	}
	return err
}

func dirOf(o *EmbedOptions) string {
	name := o.Cluster
	if name == "" {
		name = "atoll"
	}
	if o.Secret != "" {
		name += "-" + derive(o.Secret, "directory", o.Cluster)[:12]
	}
	if o.Dir != "" {
		return filepath.Join(o.Dir, name)
	}
	return filepath.Join(userDirectory(), name)
}

func clientOptions(cluster, secret string) []nats.Option {
	return []nats.Option{
		nats.Name("atoll"),
		nats.UserInfo(clientUser, clientKey(cluster, secret)),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(5),
		nats.IgnoreDiscoveredServers(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // counted by Stats
	}
}

// derive makes keys for different uses of one secret.
func derive(secret, use, cluster string) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte("atoll/" + use + "/" + cluster))
	return hex.EncodeToString(h.Sum(nil))
}

func clientKey(cluster, secret string) string { return derive(secret, "client", cluster) }
func routeKey(cluster, secret string) string  { return derive(secret, "route", cluster) }

func routeURL(address, key string) *url.URL {
	return &url.URL{Scheme: "nats-route", User: url.UserPassword(routeUser, key), Host: address}
}

// splitAddress takes host:port apart. Port 0 becomes the server's word for a free port.
func splitAddress(a string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(a)
	if err == nil {
		port, err = strconv.Atoi(p)
	}
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%q is no address: it must be host:port", a)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, port, nil
}

// validName reports whether name can be a cluster's: it begins subjects and names a directory.
func validName(name string) bool {
	return name != "" && len(name) <= 64 && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Bus returns the bus on the embedded server. It is closed with it.
func (e *Embedded) Bus() *Bus { return e.bus }

// Conn returns the connection to the embedded server. It is closed with it.
func (e *Embedded) Conn() *nats.Conn { return e.conn }

// Addr returns the address for other nodes, host:port: what their Routes may hold.
func (e *Embedded) Addr() string { return e.server.ClusterAddr().String() }

// Peers returns the names of the servers that this one has a route to.
func (e *Embedded) Peers() []string {
	z, err := e.server.Routez(nil)
	if err != nil {
		return nil
	}
	var names []string
	for _, r := range z.Routes {
		if r.RemoteName != "" && !slices.Contains(names, r.RemoteName) {
			names = append(names, r.RemoteName)
		}
	}
	return names
}

// Close ends the bus, the connection and the server, and waits for them. Nodes must be closed before.
func (e *Embedded) Close() error {
	e.closing.Do(func() {
		close(e.stop)
		e.finder.Wait()
		if e.bus != nil {
			e.bus.Close()
		}
		if e.store != nil {
			e.store.close()
		}
		if e.entry != nil {
			e.entry.remove()
		}
		if e.conn != nil {
			e.conn.Close()
		}
		if e.server != nil {
			e.server.Shutdown()
			e.server.WaitForShutdown()
		}
	})
	return nil
}

// Local connects to an embedded server of another process on this machine, for programs
// that publish without being a node. Of o it uses Cluster, Secret, Dir. It returns an
// error if no node of the cluster lives here. The bus owns its connection.
func Local(ctx context.Context, o *EmbedOptions) (*Bus, error) {
	if o == nil {
		o = &EmbedOptions{}
	}
	path := dirOf(o)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("natsbus: no node of the cluster has run on this machine: %w", err)
	}
	dir, err := openDirectory(path)
	if err != nil {
		return nil, fmt.Errorf("natsbus: %w", err)
	}
	secret := o.Secret
	if secret == "" {
		if secret, err = dir.secret(); err != nil {
			return nil, fmt.Errorf("natsbus: %w", err)
		}
	}
	records, err := dir.living()
	if err != nil {
		return nil, fmt.Errorf("natsbus: %w", err)
	}
	name := (&Options{Cluster: o.Cluster}).cluster()
	err = errors.New("none lives")
	for _, r := range records {
		var conn *nats.Conn
		opts := append(clientOptions(name, secret), timeout(ctx))
		if conn, err = nats.Connect("nats://"+r.Client, opts...); err == nil {
			b := New(conn, &Options{Cluster: name})
			b.owned = true
			return b, nil
		}
	}
	return nil, fmt.Errorf("natsbus: no node of cluster %q on this machine answers (see %s): %w", name, path, err)
}
