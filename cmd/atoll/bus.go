package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/atollhq/atoll/adapter/natsbus"
	"github.com/atollhq/atoll/cluster"
)

// Other users can read the arguments of a program, but not its environment.
const (
	secretEnv = "ATOLL_SECRET" // of a cluster without --bus
	busEnv    = "ATOLL_BUS"    // what --bus says, where that is missing
	keyEnv    = "ATOLL_KEY"    // cluster.Options.Key

	clusterEnv = "ATOLL_CLUSTER" // what --cluster says, where that is missing
)

// busFlags say how the nodes of the cluster reach each other.
type busFlags struct {
	bus, redis, nats, prefix, cluster string

	listen string   // of nodes only
	routes []string // of nodes only
}

func (b *busFlags) register(f *pflag.FlagSet) {
	f.StringVar(&b.bus, "bus", "", "`URL` of what carries the cluster: redis://…, postgres://…, nats://… (see: atoll help bus). Default: $"+busEnv+", else this machine")
	f.StringVar(&b.redis, "redis", "", "the same as --bus, for a Redis (`URL`)")
	f.StringVar(&b.nats, "nats", "", "the same as --bus, for a NATS (`URL`)")
	f.StringVar(&b.prefix, "redis-prefix", "", `prefix of the channels on Redis, which the official adapter calls key (default "socket.io")`)
	f.StringVar(&b.cluster, "cluster", os.Getenv(clusterEnv), `name of the cluster, on this machine and in formats of Atoll's own. Default: $`+clusterEnv+`, else "atoll"`)
}

func (b *busFlags) registerNode(f *pflag.FlagSet) {
	b.register(f)
	f.StringVar(&b.listen, "cluster-listen", "", "host:port where nodes on other machines reach this one; needs a secret in "+secretEnv)
	f.StringSliceVar(&b.routes, "cluster-routes", nil, "host:port of nodes on other machines, one that is alive is enough")
}

// A bus is one that is open.
type bus struct {
	cluster.Bus
	name  string // for people
	close func() error
	blind string // what who watches has to know; empty if nothing
}

// address returns where the bus is, nil for this machine.
func (b *busFlags) address() (*address, error) {
	url, given := "", 0
	for _, s := range []string{b.bus, b.redis, b.nats} {
		if s != "" {
			url = s
			given++
		}
	}
	if given > 1 {
		return nil, usagef("choose one of --bus, --redis and --nats: a node is in one cluster")
	}
	if given == 0 {
		url = os.Getenv(busEnv)
	}
	if url == "" {
		return nil, nil
	}
	if b.listen != "" || len(b.routes) > 0 {
		return nil, usagef("--cluster-listen and --cluster-routes are for clusters without --bus, --redis and --nats")
	}
	return parseAddress(url)
}

// open opens the bus of a node.
func (b *busFlags) open(ctx context.Context) (*bus, error) {
	a, err := b.address()
	if err != nil {
		return nil, err
	}
	if a != nil {
		return b.dial(ctx, a, true)
	}
	if err := validCluster(b.cluster); err != nil {
		return nil, err
	}
	e, err := natsbus.Embed(ctx, &natsbus.EmbedOptions{
		Cluster: b.cluster, Secret: os.Getenv(secretEnv), Listen: b.listen, Routes: b.routes, Logger: slog.Default(),
	})
	if err != nil {
		return nil, fmt.Errorf("cannot start the cluster's bus: %w", err)
	}
	return &bus{Bus: e.Bus(), name: "NATS, embedded", close: e.Close}, nil
}

// reach opens the bus of somebody who is no node.
func (b *busFlags) reach(ctx context.Context) (*bus, error) {
	a, err := b.address()
	if err != nil {
		return nil, err
	}
	if a != nil {
		return b.dial(ctx, a, false)
	}
	if err := validCluster(b.cluster); err != nil { // it names a directory
		return nil, err
	}
	local, err := natsbus.Local(ctx, &natsbus.EmbedOptions{Cluster: b.cluster, Secret: os.Getenv(secretEnv)})
	if err != nil {
		return nil, b.notFound(err)
	}
	return &bus{Bus: local, name: "NATS, embedded", close: local.Close}, nil
}

// notFound says why there is no cluster on this machine, and what to do.
func (b *busFlags) notFound(err error) error {
	name := b.cluster
	if name == "" {
		name = "atoll"
	}
	none, ok := errors.AsType[*natsbus.LocalError](err)
	switch {
	case !ok:
		return fmt.Errorf("cannot look for the cluster %q on this machine: %w", name, err)
	case none.OtherSecret && os.Getenv(secretEnv) == "":
		return fmt.Errorf("the nodes of cluster %q on this machine have a secret: set %s as they have it", name, secretEnv)
	case none.OtherSecret:
		return fmt.Errorf("the nodes of cluster %q on this machine have another secret than %s says, or none: set it as they have it", name, secretEnv)
	case len(none.Others) > 0:
		some, more := none.Others, ""
		if len(some) > 8 {
			some, more = some[:8], fmt.Sprintf(" and %d more", len(some)-8)
		}
		return fmt.Errorf("found no cluster %q on this machine, but %s%s: name one with --cluster, start a node with `atoll serve`, or say where the cluster is with --bus, for instance --bus redis://localhost:6379", name, strings.Join(some, ", "), more)
	}
	return fmt.Errorf("found no cluster %q on this machine, of this user. Start a node with `atoll serve`, or say where the cluster is with --bus, for instance --bus redis://localhost:6379 (%w)", name, none.Err)
}

// key authenticates the messages of the cluster, if it is set.
func key() []byte {
	if k := os.Getenv(keyEnv); k != "" {
		return []byte(k)
	}
	return nil
}
