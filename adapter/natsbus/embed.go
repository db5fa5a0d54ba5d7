package natsbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

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
// that publish without being a node. Of o it uses Cluster, Secret, Dir. It returns a
// *LocalError if no node of the cluster lives here. The bus owns its connection.
func Local(ctx context.Context, o *EmbedOptions) (*Bus, error) {
	if o == nil {
		o = &EmbedOptions{}
	}
	path := dirOf(o)
	if _, err := os.Stat(path); err != nil {
		return nil, localError(o, fmt.Errorf("no node of the cluster has run on this machine: %w", err))
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
	err = fmt.Errorf("no node of cluster %q on this machine answers (see %s): %w", name, path, err)
	if len(records) == 0 {
		return nil, localError(o, err)
	}
	return nil, fmt.Errorf("natsbus: %w", err)
}
