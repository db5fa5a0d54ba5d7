package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/redis/rueidis"
	"github.com/spf13/pflag"

	"github.com/atollhq/atoll/adapter/natsbus"
	"github.com/atollhq/atoll/adapter/redisbus"
	"github.com/atollhq/atoll/cluster"
)

// secretEnv holds the secret of a cluster: other users can read the arguments of a program, but not this.
const secretEnv = "ATOLL_SECRET"

// busFlags say how the nodes of the cluster reach each other.
type busFlags struct {
	redis, prefix, nats, cluster string

	listen string   // of nodes only
	routes []string // of nodes only
}

func (b *busFlags) register(f *pflag.FlagSet) {
	f.StringVar(&b.redis, "redis", "", "Redis of the cluster, for instance redis://localhost:6379")
	f.StringVar(&b.prefix, "redis-prefix", "socket.io", "prefix of its channels, which the official adapter calls key")
	f.StringVar(&b.nats, "nats", "", "NATS of the cluster, for instance nats://localhost:4222")
	f.StringVar(&b.cluster, "cluster", "atoll", "name of the cluster, on NATS and on this machine")
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

func (b *busFlags) check() error {
	if b.redis != "" && b.nats != "" {
		return usagef("choose one of --redis and --nats: a node is in one cluster")
	}
	if (b.redis != "" || b.nats != "") && (b.listen != "" || len(b.routes) > 0) {
		return usagef("--cluster-listen and --cluster-routes are for clusters without --redis and --nats")
	}
	return nil
}

// open opens the bus of a node.
func (b *busFlags) open(ctx context.Context) (*bus, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	if b.redis != "" {
		return b.openRedis()
	}
	if b.nats != "" {
		return b.openNATS(ctx)
	}
	e, err := natsbus.Embed(ctx, &natsbus.EmbedOptions{
		Cluster: b.cluster, Secret: os.Getenv(secretEnv), Listen: b.listen, Routes: b.routes, Logger: slog.Default(),
	})
	if err != nil {
		return nil, fmt.Errorf("cannot start the cluster's bus: %w", err)
	}
	return &bus{e.Bus(), "NATS, embedded", e.Close}, nil
}

// reach opens the bus of somebody who only emits.
func (b *busFlags) reach(ctx context.Context) (*bus, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	if b.redis != "" {
		return b.openRedis()
	}
	if b.nats != "" {
		return b.openNATS(ctx)
	}
	local, err := natsbus.Local(ctx, &natsbus.EmbedOptions{Cluster: b.cluster, Secret: os.Getenv(secretEnv)})
	if err != nil {
		return nil, fmt.Errorf("found no cluster %q on this machine. Start a node with `atoll serve`, or say where the cluster is with --redis or --nats (%w)", b.cluster, err)
	}
	return &bus{local, fmt.Sprintf("the cluster %q on this machine", b.cluster), local.Close}, nil
}

func (b *busFlags) openNATS(ctx context.Context) (*bus, error) {
	nb, err := natsbus.Connect(ctx, b.nats, &natsbus.Options{Cluster: b.cluster})
	if err != nil {
		return nil, fmt.Errorf("cannot reach NATS: %w. Is it running, and is the address right?", err)
	}
	return &bus{nb, "NATS at " + nb.Conn().ConnectedAddr(), nb.Close}, nil
}

func (b *busFlags) openRedis() (*bus, error) {
	o, err := rueidis.ParseURL(b.redis)
	if err != nil {
		// The address may hold a password, and so may the parser's error.
		return nil, usagef("--redis is no address of a Redis: the form is redis://user:password@host:port")
	}
	o.DisableCache = true
	client, err := rueidis.NewClient(o)
	if err != nil {
		return nil, fmt.Errorf("cannot reach Redis at %s: %w. Is it running, and is the address right?", o.InitAddress[0], err)
	}
	rb := redisbus.New(client, &redisbus.Options{Prefix: b.prefix})
	return &bus{rb, "Redis at " + o.InitAddress[0], func() error {
		defer client.Close()
		return rb.Close()
	}}, nil
}
