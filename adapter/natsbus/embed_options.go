package natsbus

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
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
