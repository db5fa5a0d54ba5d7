package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/redis/rueidis"
	"github.com/spf13/pflag"

	"github.com/atollhq/atoll/adapter/natsbus"
	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/cluster"
)

// Other users can read the arguments of a program, but not its environment.
const (
	secretEnv = "ATOLL_SECRET" // of a cluster without --bus
	busEnv    = "ATOLL_BUS"    // what --bus says, where that is missing
	keyEnv    = "ATOLL_KEY"    // cluster.Options.Key
)

// busFlags say how the nodes of the cluster reach each other.
type busFlags struct {
	bus, redis, nats, prefix, cluster string

	listen string   // of nodes only
	routes []string // of nodes only
}

func (b *busFlags) register(f *pflag.FlagSet) {
	f.StringVar(&b.bus, "bus", "", "where the cluster is: redis://host, postgres://host/db, nats://host and more, see `atoll help bus` (default: $"+busEnv+", else this machine)")
	f.StringVar(&b.redis, "redis", "", "the same as --bus, for a Redis")
	f.StringVar(&b.nats, "nats", "", "the same as --bus, for a NATS")
	f.StringVar(&b.prefix, "redis-prefix", "", `prefix of the channels on Redis, which the official adapter calls key (default "socket.io")`)
	f.StringVar(&b.cluster, "cluster", "", `name of the cluster, on this machine and in formats of Atoll's own (default "atoll")`)
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
		return b.dial(ctx, a)
	}
	e, err := natsbus.Embed(ctx, &natsbus.EmbedOptions{
		Cluster: b.cluster, Secret: os.Getenv(secretEnv), Listen: b.listen, Routes: b.routes, Logger: slog.Default(),
	})
	if err != nil {
		return nil, fmt.Errorf("cannot start the cluster's bus: %w", err)
	}
	return &bus{e.Bus(), "NATS, embedded", e.Close}, nil
}

// reach opens the bus of somebody who is no node.
func (b *busFlags) reach(ctx context.Context) (*bus, error) {
	a, err := b.address()
	if err != nil {
		return nil, err
	}
	if a != nil {
		return b.dial(ctx, a)
	}
	local, err := natsbus.Local(ctx, &natsbus.EmbedOptions{Cluster: b.cluster, Secret: os.Getenv(secretEnv)})
	if err != nil {
		name := b.cluster
		if name == "" {
			name = "atoll"
		}
		return nil, fmt.Errorf("found no cluster %q on this machine. Start a node with `atoll serve`, or say where the cluster is with --bus, for instance --bus redis://localhost:6379 (%w)", name, err)
	}
	return &bus{local, "the cluster on this machine", local.Close}, nil
}

// key authenticates the messages of the cluster, if it is set.
func key() []byte {
	if k := os.Getenv(keyEnv); k != "" {
		return []byte(k)
	}
	return nil
}

// dial opens a bus that is a server of its own.
func (b *busFlags) dial(ctx context.Context, a *address) (*bus, error) {
	switch a.scheme {
	case "redis", "rediss":
		return b.dialRedis(ctx, a)
	case "postgres", "postgresql":
		return b.dialPostgres(ctx, a)
	}
	o := &natsbus.Options{Cluster: b.cluster}
	if err := errors.Join(a.settings(setting{"cluster", &o.Cluster}), a.done()); err != nil {
		return nil, err
	}
	url := ""
	for _, h := range a.hosts {
		u := *a.url
		u.Host = h
		if url != "" {
			url += ","
		}
		url += u.String()
	}
	nb, err := natsbus.Connect(ctx, url, o)
	if err != nil {
		return nil, fmt.Errorf("cannot reach NATS: %w. Is it running, and is the address right?", err)
	}
	return &bus{nb, "NATS at " + nb.Conn().ConnectedAddr(), nb.Close}, nil
}

func (b *busFlags) dialRedis(ctx context.Context, a *address) (*bus, error) {
	co, err := a.redisOptions()
	if err != nil {
		return nil, err
	}
	open, err := b.redisFormat(a)
	if err == nil {
		err = a.done()
	}
	if err != nil {
		return nil, err
	}
	client, err := rueidis.NewClient(co)
	if err != nil {
		return nil, fmt.Errorf("cannot reach Redis at %s: %w. Is it running, and is the address right?", a.place(), err)
	}
	rb := open(client)
	return &bus{rb, "Redis at " + a.place(), func() error {
		defer client.Close()
		return rb.Close()
	}}, nil
}

// redisFormat takes the parameters of the format, and returns what makes its bus.
func (b *busFlags) redisFormat(a *address) (func(rueidis.Client) cluster.Bus, error) {
	switch a.format {
	case "":
		o := &redisbus.Options{Prefix: b.prefix, Logger: slog.Default()}
		err := a.settings(setting{"prefix", &o.Prefix}, setting{"shared_responses", &o.SharedResponses})
		return func(c rueidis.Client) cluster.Bus { return redisbus.New(c, o) }, err
	}
	return nil, usagef("%s is not there yet", a.kind())
}

func (b *busFlags) dialPostgres(ctx context.Context, a *address) (*bus, error) {
	return nil, usagef("%s is not there yet", a.kind())
}
